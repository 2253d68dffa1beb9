"""What staying silent is worth, with a threshold that test rows never chose."""

import numpy as np
import pytest

from atlas.errors import DataError
from atlas.selection import confidence_threshold, risk_coverage, selected_accuracy

Y = np.array([1.0, 0, 1, 1, 0])
Q = np.array([0.9, 0.4, 0.3, 0.6, 0.5])


def test_the_curve_calls_the_surest_first():
    """.9 right; .3 wrong; .4 and .6 are equally sure, both right; .5 is no call, a half."""
    found = risk_coverage(Y, Q)
    np.testing.assert_allclose(found["coverage"], [0.2, 0.4, 0.8, 1.0])
    np.testing.assert_allclose(found["accuracy"], [1, 0.5, 0.75, 0.7])
    np.testing.assert_allclose(found["threshold"], [0.4, 0.2, 0.1, 0.0])
    assert risk_coverage(np.zeros(0), np.zeros(0)).empty


def test_a_long_curve_is_thinned_and_ends_at_everything():
    """A thousand rows give fifty points, the last at the whole accuracy."""
    rng = np.random.default_rng(1)
    q = rng.random(1_000)
    y = (rng.random(1_000) < q).astype(float)
    found = risk_coverage(y, q)
    assert len(found) == 50
    np.testing.assert_allclose(found["coverage"], np.arange(1, 51) / 50)
    assert found["accuracy"].iloc[0] > found["accuracy"].iloc[-1] > 0.7


def test_the_threshold_comes_from_validation_and_coverage_follows():
    """A tenth of validation is surer than .3; of a calmer test span, a twentieth is."""
    validation = 0.5 + np.linspace(-0.33, 0.33, 101)
    threshold = confidence_threshold(validation, 0.1)
    assert np.mean(np.abs(validation - 0.5) >= threshold - 1e-12) == pytest.approx(0.1, abs=0.011)
    found = selected_accuracy(np.ones(40), np.linspace(0.45, 0.82, 40), threshold)
    assert found.n == 2
    assert found.coverage == 0.05
    assert found.accuracy == 1


def test_equal_confidences_stay_together():
    """A model that always says .6 covers everything, one surer than all nothing."""
    threshold = confidence_threshold(np.full(50, 0.6), 0.1)
    assert selected_accuracy(np.ones(9), np.full(9, 0.6), threshold) == (1, 1, 9)
    silent = selected_accuracy(np.ones(9), np.full(9, 0.55), threshold)
    assert np.isnan(silent.accuracy)
    assert (silent.coverage, silent.n) == (0, 0)


@pytest.mark.parametrize(("q", "coverage"), [(np.zeros(0), 0.1), (Q, 0.0), (Q, 1.1)])
def test_no_row_and_no_share_are_refused(q, coverage):
    """Both are named."""
    with pytest.raises(DataError, match="expected at least one validation row and a coverage"):
        confidence_threshold(q, coverage)
