"""The e-process: false proofs are rare at any time, true ones come, bets know only the past."""

import numpy as np
import pytest

from atlas.eprocess import STAKES, WARM_UP, evidence, log_evidence, units


def test_by_hand() -> None:
    """Ten sessions at the bound: every stake wins ten times."""
    by_hand = np.mean([(1 + stake) ** 10 for stake in STAKES])
    assert evidence(np.full(10, 0.05), bound=0.05) == pytest.approx(by_hand)
    assert evidence(np.zeros(0), bound=0.05) == 1
    assert evidence(np.zeros(30), bound=0.05) == pytest.approx(1)


def test_clipped_at_the_bound() -> None:
    """A session counts up to the bound, however large its difference."""
    wild = np.array([9.0, -7.0, 0.01])
    tame = np.array([0.05, -0.05, 0.01])
    np.testing.assert_allclose(log_evidence(wild, bound=0.05), log_evidence(tame, bound=0.05))


@pytest.mark.parametrize("kind", ["normal", "skewed", "rare"])
def test_ever_reaching_20_is_rare_without_a_difference(kind: str) -> None:
    """Looked at after each of 300 sessions, 1,000 pairs of mean zero: at most 5 % + 3 SE."""
    rng = np.random.default_rng(5)
    draws = {
        "normal": rng.normal(0, 0.01, (1000, 300)),
        "skewed": 0.01 * (rng.exponential(1, (1000, 300)) - 1),
        "rare": np.where(rng.random((1000, 300)) < 0.1, -0.045, 0.005),
    }[kind]
    reached = np.mean([log_evidence(row, bound=0.05).max() >= np.log(20) for row in draws])
    assert reached <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_difference_is_proven_and_a_worse_one_never() -> None:
    """Half a standard deviation a session is proven within 150 sessions."""
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.006, (200, 150))
    better = [evidence(row + 0.003, bound=0.05) >= 20 for row in noise]
    worse = [log_evidence(row - 0.003, bound=0.05).max() >= np.log(20) for row in noise]
    assert np.mean(better) > 0.9
    assert np.mean(worse) == 0


def test_the_unit_of_a_bet_comes_from_the_past_alone() -> None:
    """Changing a session changes no unit up to it; the first ones are the bound."""
    gains = np.random.default_rng(7).normal(0, 0.001, 40)
    other = gains.copy()
    other[25] = 0.04
    before, after = units(gains, 0.05), units(other, 0.05)
    assert (before[:WARM_UP] == 0.05).all()
    np.testing.assert_array_equal(before[:26], after[:26])
    assert after[26] > before[26]
    assert (before[WARM_UP:] < 0.01).all()
