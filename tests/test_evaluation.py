"""Intervals hold what they claim, and pair what is paired."""

import numpy as np
import pytest

from atlas.errors import DataError
from atlas.evaluation import (
    block_length,
    paired_difference,
    pooled,
    session_draws,
    session_interval,
    stationary_counts,
)


def _rows(rng, sessions, *, persistence=0.0, per_session=8, mean=0.0):
    """Rows whose sessions share a shock that lasts, as rows of a market do."""
    shocks = rng.standard_normal(sessions + 50)
    for day in range(1, shocks.size):
        shocks[day] += persistence * shocks[day - 1]
    values = np.repeat(shocks[50:], per_session) + rng.standard_normal(sessions * per_session)
    return values + mean, np.repeat(np.arange(sessions), per_session)


@pytest.mark.parametrize(("sessions", "persistence"), [(6, 0.0), (20, 0.0), (120, 0.3)])
def test_intervals_cover_the_truth_as_often_as_they_say(sessions, persistence):
    """At 90 %, 300 markets: within .83 and .98, where rows alone would cover under .6."""
    rng, held = np.random.default_rng(4), 0
    for seed in range(300):
        values, days = _rows(rng, sessions, persistence=persistence)
        found = session_interval(values, days, resamples=300, confidence=0.9, seed=seed)
        held += found.low <= 0 <= found.high
    assert 0.83 <= held / 300 <= 0.98


def test_rows_of_one_session_count_as_one():
    """Repeating every row ten times adds nothing to what is known."""
    rng = np.random.default_rng(5)
    values, days = rng.standard_normal(60), np.arange(60)
    once = session_interval(values, days)
    often = session_interval(np.repeat(values, 10), np.repeat(days, 10))
    np.testing.assert_allclose(often, once, atol=1e-12)


def test_the_mean_is_over_rows_and_sessions_may_differ_in_size():
    """A session with three rows weighs three times one with a single row."""
    found = session_draws(np.array([1.0, 1, 1, 0]), np.array([5, 5, 5, 9]))
    assert found.value == 0.75


def test_resamples_draw_whole_blocks_and_as_many_sessions_as_there_are():
    """Counts of a resample sum to S; a block of mean length 10 keeps neighbours together."""
    rng = np.random.default_rng(6)
    counts = stationary_counts(50, block=10.0, resamples=400, rng=rng)
    assert counts.shape == (400, 50)
    assert (counts.sum(axis=1) == 50).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.25)
    near = np.mean((counts - 1) * (np.roll(counts, 1, axis=1) - 1))
    loose = stationary_counts(50, block=1.0, resamples=400, rng=rng)
    apart = np.mean((loose - 1) * (np.roll(loose, 1, axis=1) - 1))
    assert near > 0.5
    assert abs(apart) < 0.1


def test_one_session_gives_no_certainty():
    """A single session says nothing about the next: the interval has no end."""
    found = session_interval(np.ones(9), np.zeros(9, np.int64))
    assert found == (1.0, -np.inf, np.inf)


def test_intervals_are_the_same_for_the_same_seed():
    """Two runs agree to the bit; another seed differs a little."""
    values, days = _rows(np.random.default_rng(7), 30)
    assert session_interval(values, days, seed=1) == session_interval(values, days, seed=1)
    assert session_interval(values, days, seed=1) != session_interval(values, days, seed=2)


def test_figures_on_the_same_rows_are_resampled_by_the_same_sessions():
    """Draws of a sum are sums of draws, so models of a table stay paired."""
    rng = np.random.default_rng(8)
    a, days = _rows(rng, 40)
    b = rng.standard_normal(a.size)
    whole, parts = session_draws(a + b, days), [session_draws(x, days) for x in (a, b)]
    np.testing.assert_allclose(whole.resampled, parts[0].resampled + parts[1].resampled)


def test_pooling_is_over_markets_not_rows():
    """A market with a thousand rows weighs as much as one with fifty."""
    many = session_draws(np.ones(1000), np.arange(1000), seed=0)
    few = session_draws(np.zeros(50), np.arange(50), seed=1)
    assert pooled([many, few]).value == 0.5


def test_a_better_model_is_below_zero_and_an_equal_one_is_not_told_apart():
    """Model a saves .1 of loss in one market and nothing in the other: .05 in the mean."""
    rng = np.random.default_rng(9)
    b, days = _rows(rng, 80)
    losses, sessions = np.concatenate([b, b]), np.concatenate([days, days])
    markets = np.repeat(["one", "other"], b.size)
    noise = 0.05 * rng.standard_normal(losses.size)
    better = paired_difference(losses - 0.1 * (markets == "one") + noise, losses, markets, sessions)
    assert better.high < 0
    assert better.value == pytest.approx(-0.05, abs=0.01)
    equal = paired_difference(losses + noise, losses, markets, sessions)
    assert equal.low < 0 < equal.high


def test_pairing_removes_what_both_models_share():
    """The difference of two nearly equal losses is known far better than either."""
    rng = np.random.default_rng(10)
    a, days = _rows(rng, 80)
    b = a + 0.01 * rng.standard_normal(a.size)
    paired = paired_difference(a, b, np.full(a.size, "m"), days)
    alone = session_interval(a, days)
    assert paired.high - paired.low < (alone.high - alone.low) / 50


def test_a_true_null_is_rejected_as_often_as_claimed():
    """Two equally good models over three markets: at 95 %, at most 8 % of 300 pairs differ."""
    rng, rejected = np.random.default_rng(11), 0
    markets = np.repeat(["a", "b", "c"], 160)
    for seed in range(300):
        parts = [_rows(rng, 20) for _ in range(3)]
        difference, days = (np.concatenate(part) for part in zip(*parts, strict=True))
        found = paired_difference(
            difference, np.zeros(480), markets, days, resamples=300, seed=seed
        )
        rejected += not found.low <= 0 <= found.high
    assert 0.002 <= rejected / 300 <= 0.08


@pytest.mark.parametrize("losses", [np.zeros(0), np.array([1.0, np.nan])])
def test_losses_that_cannot_be_compared_are_refused(losses):
    """No row and a missing loss are errors, not an interval."""
    names, days = np.full(losses.size, "m"), np.arange(losses.size)
    with pytest.raises(DataError, match="expected finite losses"):
        paired_difference(losses, np.zeros(losses.size), names, days)


def test_no_row_at_all_is_refused():
    """An empty market has no interval."""
    with pytest.raises(DataError, match="at least one row"):
        session_interval(np.zeros(0), np.zeros(0, np.int64))


def test_blocks_are_a_week_or_twice_the_horizon():
    """Daily bars with a horizon of 20 need 40 sessions; 15 minutes need a week's block."""
    assert block_length(20, 1.0) == 40
    assert block_length(15, 1440.0) == 5
