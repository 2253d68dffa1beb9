"""What luck alone gives the best of many, and what it leaves."""

import numpy as np
import pytest
from scipy.stats import norm

from atlas.deflation import deflated_p, deflated_probability, expected_maximum, normal_score
from atlas.errors import DataError


@pytest.mark.parametrize("trials", [2, 10, 100, 1_000])
def test_the_expected_maximum_is_that_of_simulated_draws(trials):
    """The mean of the largest of N normal draws, within .06."""
    draws = np.random.default_rng(1).standard_normal((2_000, trials)).max(axis=1)
    assert expected_maximum(trials) == pytest.approx(draws.mean(), abs=0.06)


def test_one_trial_needs_no_deflation():
    """The model alone: its own p-value."""
    assert expected_maximum(1) == 0
    assert deflated_probability(1.645, 1) == pytest.approx(0.95, abs=1e-4)
    assert deflated_p(0.03, 1) == pytest.approx(0.03)


def test_the_best_of_many_lucky_models_has_no_skill():
    """Of 200 skill-less models the best passes 95 % seldom, where undeflated it always would."""
    rng = np.random.default_rng(2)
    best = rng.standard_normal((500, 200)).max(axis=1)
    assert np.mean(norm.cdf(best) > 0.95) > 0.99
    assert np.mean([deflated_probability(score, 200) > 0.95 for score in best]) < 0.05


def test_the_least_of_many_p_values_is_as_small_as_said():
    """Šidák: the share of 1,000 spans whose least of 20 uniform p-values is below .01."""
    least = np.random.default_rng(3).random((4_000, 20)).min(axis=1)
    assert np.mean(least <= 0.01) == pytest.approx(deflated_p(0.01, 20), abs=0.02)


def test_scores_have_the_side_of_the_gain_and_stay_finite():
    """A lower loss scores above 0; p = 0 is a large score, p = 1 none."""
    assert normal_score(-1.0, 0.05) == pytest.approx(1.96, abs=0.001)
    assert normal_score(1.0, 0.05) == pytest.approx(-1.96, abs=0.001)
    assert np.isfinite(normal_score(-1.0, 0.0))
    assert normal_score(-1.0, 1.0) == pytest.approx(0)


def test_no_trial_at_all_is_refused():
    """The model itself is one."""
    for call in (expected_maximum, lambda n: deflated_p(0.1, n)):
        with pytest.raises(DataError, match="at least one trial"):
            call(0)
