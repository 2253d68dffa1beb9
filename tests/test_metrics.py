"""Scores, against values worked out by hand."""

import numpy as np
import pytest

from atlas import metrics

Y = np.array([1.0, 0, 1, 1])
Q = np.array([0.7, 0.4, 0.2, 0.5])


def test_a_half_is_no_call_and_counts_a_half():
    """Two right, one wrong, one without a call."""
    np.testing.assert_array_equal(metrics.calls(Q), [1, -1, -1, 0])
    np.testing.assert_array_equal(metrics.hits(Y, Q), [1, 1, 0, 0.5])
    assert metrics.directional_accuracy(Y, Q) == 2.5 / 4


def test_log_loss_is_the_mean_surprise():
    """−(log .7 + log .6 + log .2 + log .5) / 4."""
    assert metrics.log_loss(Y, Q) == pytest.approx(-np.log(0.7 * 0.6 * 0.2 * 0.5) / 4)
    assert metrics.log_loss(Y, np.full(4, 0.5)) == pytest.approx(np.log(2))


def test_a_sure_error_is_dear_but_finite():
    """A probability of 0 for what happened costs −log EPSILON."""
    assert metrics.log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(
        -np.log(metrics.EPSILON)
    )


def test_the_base_rate_calls_the_side_that_train_saw_more():
    """Train went up three times of four; the test row went up once of three."""
    train = np.array([1.0, 1, 0, 1, np.nan])
    assert metrics.base_rate(train, np.array([1.0, 0, 0])) == pytest.approx(1 / 3)
    assert metrics.base_rate(np.array([1.0, 0]), np.array([1.0, 0, 0])) == 0.5


def test_lift_weighs_calls_by_what_there_was_to_win():
    """Calls up, down, down where the edges are .6, .2, −.4: (.6 − .2 + .4) / 1.2."""
    p = np.array([0.8, 0.6, 0.3])
    assert metrics.lift(p, np.array([0.9, 0.4, 0.4])) == pytest.approx(0.8 / 1.2)
    assert metrics.lift(p, p) == pytest.approx(1)
    assert metrics.lift(p, 1 - p) == pytest.approx(-1)
    assert np.isnan(metrics.lift(np.full(3, 0.5), p))


def test_gain_is_one_for_the_ceiling_and_zero_for_a_half():
    """In between, it is the share of the ceiling's advantage in expected log-loss."""
    p, q = np.array([0.8, 0.3]), np.array([0.7, 0.4])
    assert metrics.gain(p, p, p) == pytest.approx(1)
    assert metrics.gain(p, np.full(2, 0.5), p) == pytest.approx(0, abs=1e-12)
    own = -(0.8 * np.log(0.7) + 0.2 * np.log(0.3) + 0.3 * np.log(0.4) + 0.7 * np.log(0.6)) / 2
    best = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.7 * np.log(0.7)) / 2
    expected = (np.log(2) - own) / (np.log(2) - best)
    assert metrics.gain(p, q, p) == pytest.approx(expected)
    assert np.isnan(metrics.gain(p, q, np.full(2, 0.5)))


def test_calibration_error_is_the_gap_within_bins_of_equal_size():
    """Two bins: .2 said where a half went up, .9 said where all did: (.3 + .1) / 2."""
    y, q = np.array([1.0, 0, 1, 1]), np.array([0.2, 0.2, 0.9, 0.9])
    assert metrics.expected_calibration_error(y, q, bins=2) == pytest.approx(0.2)


def test_a_calibrated_probability_has_nearly_no_calibration_error():
    """Ups drawn with the probabilities said; the same said the wrong way round is far off."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.3, 0.7, 50_000)
    y = (rng.random(50_000) < p).astype(float)
    assert metrics.expected_calibration_error(y, p) < 0.01
    assert metrics.expected_calibration_error(y, 1 - p) > 0.15


def test_qlike_is_zero_only_for_the_truth_and_worse_for_too_low():
    """e^d − d − 1; forecasting half the variance costs more than forecasting twice."""
    truth = np.array([0.0, 1.0, np.nan])
    assert metrics.qlike(truth, truth) == 0
    low, high = metrics.qlike(truth, truth - np.log(2)), metrics.qlike(truth, truth + np.log(2))
    assert low == pytest.approx(2 - np.log(2) - 1)
    assert high == pytest.approx(0.5 + np.log(2) - 1)


def test_r2_is_the_share_of_variance_explained():
    """1 for the truth, 0 for its mean, hand-computed in between; NaN rows are left out."""
    actual = np.array([1.0, 2, 3, np.nan])
    assert metrics.r2(actual, actual) == 1
    assert metrics.r2(actual, np.full(4, 2.0)) == 0
    assert metrics.r2(actual, np.array([1.0, 2, 2, 9])) == pytest.approx(0.5)
    assert np.isnan(metrics.r2(np.ones(3), np.ones(3)))


@pytest.mark.parametrize("score", ["directional_accuracy", "log_loss", "qlike", "r2", "lift"])
def test_scores_of_nothing_are_not_a_number(score):
    """An empty set of rows has no score, and no warning."""
    assert np.isnan(getattr(metrics, score)(np.zeros(0), np.zeros(0)))
    assert np.isnan(metrics.expected_calibration_error(np.zeros(0), np.zeros(0)))
