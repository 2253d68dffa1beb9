"""Reliability curves say what was said and what happened, and how sure that is."""

import numpy as np
import pytest

from atlas.metrics import expected_calibration_error
from atlas.reliability import RELIABILITY_COLUMNS, reliability_curve


def test_the_gaps_of_the_curve_are_the_calibration_error():
    """ECE is the mean gap over bins of equal size, each with its own rows."""
    rng = np.random.default_rng(1)
    q = rng.uniform(0.2, 0.8, 1_000)
    y = (rng.random(1_000) < 0.5 + 0.5 * (q - 0.5)).astype(float)
    curve = reliability_curve(y, q, np.arange(1_000) // 10, resamples=200)
    assert list(curve.columns) == list(RELIABILITY_COLUMNS)
    assert (curve["n"] == 100).all()
    assert curve["probability"].is_monotonic_increasing
    gap = (curve["share_up"] - curve["probability"]).abs().mean()
    assert gap == pytest.approx(expected_calibration_error(y, q))
    assert ((curve["low"] <= curve["share_up"]) & (curve["share_up"] <= curve["high"])).all()


def test_a_calibrated_model_lies_within_its_intervals():
    """Of ten 99.9 % intervals on rows that share their day, all hold the probability said."""
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(150), 20)
    q = rng.uniform(0.3, 0.7, days.size)
    y = (rng.random(days.size) < q).astype(float)
    curve = reliability_curve(y, q, days, confidence=0.999, resamples=4_000)
    assert ((curve["low"] < curve["probability"]) & (curve["probability"] < curve["high"])).all()
    assert (curve["high"] - curve["low"] < 0.35).all()


def test_rows_that_share_their_day_are_not_that_many():
    """Days that go up or down as one widen the curve's intervals."""
    rng = np.random.default_rng(3)
    days = np.repeat(np.arange(100), 20)
    q = rng.uniform(0.4, 0.6, days.size)
    together = np.repeat((rng.random(100) < 0.5).astype(float), 20)
    apart = (rng.random(days.size) < 0.5).astype(float)
    wide, narrow = (
        (curve["high"] - curve["low"]).mean()
        for curve in (reliability_curve(y, q, days, resamples=200) for y in (together, apart))
    )
    assert wide > 1.15 * narrow


def test_no_rows_have_no_curve():
    """An empty market draws nothing."""
    assert reliability_curve(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)).empty
