"""Distances between histograms, and limits that know how slowly a column moves."""

import numpy as np
import pytest
from numpy.typing import NDArray

from atlas.drift import (
    bin_edges,
    distance,
    farthest,
    jensen_shannon,
    limit,
    psi,
    session_counts,
    window_length,
)
from atlas.errors import DataError

ROWS = 20  # of a session


def _series(phi: float, sessions: int, seed: int) -> NDArray[np.float64]:
    """Values (S, ROWS) of variance 1, half of it common to a session's rows, moving slowly."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(sessions, ROWS + 1)) * np.sqrt(1 - phi**2)
    x = np.zeros_like(steps)
    x[0] = rng.normal(size=ROWS + 1)
    for i in range(1, sessions):
        x[i] = phi * x[i - 1] + steps[i]
    return np.asarray((x[:, :1] + x[:, 1:]) / np.sqrt(2))


def _counts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return session_counts(values.ravel(), np.repeat(np.arange(len(values)), ROWS), edges)


def test_psi_by_hand() -> None:
    """Σ (p − q)·ln(p / q) of .5, .5 against .6, .4; equal shares and unused bins add nothing."""
    many = 1e9
    value = psi(np.array([0.5, 0.5, 0.0]) * many, np.array([0.6, 0.4, 0.0]) * many)
    assert value == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8), rel=1e-6)
    assert psi(np.array([5.0, 0.0]), np.array([500.0, 0.0])) == 0


def test_psi_of_a_bin_that_one_lacks_is_finite() -> None:
    """Half a row stands for none."""
    value = psi(np.array([10.0, 0.0]), np.array([0.0, 10.0]))
    p = 10.5 / 11
    assert value == pytest.approx(2 * (p - (1 - p)) * np.log(p / (1 - p)))


def test_jensen_shannon_by_hand() -> None:
    """In bits: 0 for equal shares, 1 for nothing in common, .311 for all against half and half."""
    assert jensen_shannon(np.array([1.0, 3.0]), np.array([2.0, 6.0])) == pytest.approx(0)
    assert jensen_shannon(np.array([4.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(
        0.3113, abs=1e-4
    )
    assert np.isnan(jensen_shannon(np.zeros(2), np.ones(2)))


def test_bins_have_equal_weight_and_missing_values_one_of_their_own() -> None:
    """Deciles of the reference; NaN and infinity count last; sessions come in order."""
    values = np.arange(100.0)
    edges = bin_edges(values)
    counts = session_counts(values, np.zeros(100, np.int64), edges)
    assert counts.tolist() == [[10] * 10 + [0]]
    days = np.array([7, 3, 7], np.int64)
    counts = session_counts(np.array([np.nan, 5.0, np.inf]), days, edges)
    assert counts[0].argmax() == 0
    assert counts[:, -1].tolist() == [0, 2]


def test_a_column_without_numbers_or_with_one_value() -> None:
    """It has no edge, or one; its histogram against itself lies at 0."""
    assert bin_edges(np.full(5, np.nan)).size == 0
    edges = bin_edges(np.full(50, 2.0))
    counts = session_counts(np.full(50, 2.0), np.repeat(np.arange(10), 5), edges)
    found = limit(counts, 1, rate=0.01)
    assert found.alarm == 0.02
    assert psi(counts[0], counts.sum(0)) == 0


def test_a_slow_column_has_a_higher_limit() -> None:
    """The same histogram moved slowly lies farther from itself, so its alarm begins later."""
    found = []
    for phi in (0.0, 0.95):
        values = _series(phi, 600, seed=3)
        found.append(limit(_counts(values, bin_edges(values)), 20, rate=0.01))
    fast, slow = found
    assert slow.alarm > 3 * fast.alarm
    assert slow.usual > fast.usual


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_windows_without_drift_stay_below_and_shifted_ones_do_not(phi: float) -> None:
    """Of 40 references few alarm at 1 %, where .1, the folklore, does for most slow ones."""
    false, folklore, true = 0, 0, 0
    for seed in range(40):
        values = _series(phi, 460, seed)
        held, now = values[:400], values[-20:]
        edges = bin_edges(held)
        counts = _counts(held, edges)
        found = limit(counts, 20, rate=0.01)
        value = distance("psi", _counts(now, edges).sum(0), counts.sum(0))
        false += bool(value > found.alarm)
        folklore += bool(value > 0.1)
        moved = distance("psi", _counts(now + 4, edges).sum(0), counts.sum(0))
        true += bool(moved > found.alarm)
    assert false <= 3  # 99.9 % of a binomial of 40 at 1 %
    assert true >= 32
    assert (folklore > 20) == (phi > 0)


def test_a_short_reference_has_no_limit() -> None:
    """Fewer independent windows than eight say nothing of a tail; spells make them fewer."""
    values = _series(0.0, 60, seed=1)
    counts = _counts(values, bin_edges(values))
    assert np.isfinite(limit(counts, 1, rate=0.01).alarm)
    assert np.isnan(limit(counts, 10, rate=0.01).alarm)
    assert np.isnan(limit(counts[:1], 1, rate=0.01).alarm)
    fast, slow = (_series(phi, 200, seed=1) for phi in (0.0, 0.995))
    of_fast, of_slow = (limit(_counts(x, bin_edges(x)), 10, rate=0.01) for x in (fast, slow))
    assert of_slow.windows < 0.7 * of_fast.windows


def test_no_window_lies_farther_than_the_farthest() -> None:
    """It is the corner of the rarest used bin."""
    reference = np.array([100.0, 10.0, 0.0])
    bound = farthest("psi", 30.0, reference)
    assert bound == psi(np.array([0.0, 30.0, 0.0]), reference)
    assert bound > psi(np.array([10.0, 20.0, 0.0]), reference)


def test_window_length_is_a_twentieth_at_most_the_longest() -> None:
    """A reference holds twenty windows, and a window one session at least."""
    assert [window_length(n, 20) for n in (5, 100, 4000)] == [1, 5, 20]


@pytest.mark.parametrize(("rate", "window"), [(0.0, 5), (1.0, 5), (0.1, 0)])
def test_impossible_questions_are_refused(rate: float, window: int) -> None:
    """A rate is a chance, a window a number of sessions."""
    with pytest.raises(DataError, match="expected a rate in"):
        limit(np.ones((50, 3)), window, rate=rate)
