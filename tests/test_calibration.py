"""Calibration: what a network adds is scaled by evidence, and a wrong model is silenced."""

import numpy as np
import pytest

from atlas.calibration import Platt, fit_alpha, fit_alpha_squares, fit_platt, log_loss

N = 20_000


def _directions(logit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(len(logit)) < 1 / (1 + np.exp(-logit))).astype(np.float64)


def test_log_loss_is_that_of_the_hand_computed_case() -> None:
    """A logit of 0 costs log 2; a sure and right one costs nothing."""
    assert log_loss(np.zeros(2), np.array([0.0, 1.0])) == pytest.approx(np.log(2))
    assert log_loss(np.array([40.0, -40.0]), np.array([1.0, 0.0])) == pytest.approx(0, abs=1e-12)


def test_alpha_finds_the_scale_of_the_law() -> None:
    """Where the law is base + .6·deep, α is .6."""
    rng = np.random.default_rng(0)
    base, deep = 0.5 * rng.standard_normal(N), 1.5 * rng.standard_normal(N)
    direction = _directions(base + 0.6 * deep, rng)
    assert fit_alpha(base, deep, direction) == pytest.approx(0.6, abs=0.05)


def test_alpha_is_zero_when_the_network_hurts() -> None:
    """A network that contradicts the law adds nothing at all."""
    rng = np.random.default_rng(1)
    base, deep = rng.standard_normal(N), rng.standard_normal(N)
    assert fit_alpha(base, deep, _directions(base - deep, rng)) == 0.0


def test_alpha_never_exceeds_its_bound() -> None:
    """A timid network is raised by half at most."""
    rng = np.random.default_rng(2)
    deep = 0.1 * rng.standard_normal(N)
    assert fit_alpha(np.zeros(N), deep, _directions(10 * deep, rng)) == pytest.approx(1.5, abs=1e-3)


def test_alpha_of_a_regression_is_its_least_squares_slope() -> None:
    """Least squares: log RV = base + .5·deep gives .5, whatever the NaN rows say."""
    rng = np.random.default_rng(3)
    base, deep = rng.standard_normal((2, N))
    target = base + 0.5 * deep + 0.1 * rng.standard_normal(N)
    target[::7] = np.nan
    assert fit_alpha_squares(base, deep, target) == pytest.approx(0.5, abs=0.01)


def test_platt_recovers_slope_and_intercept() -> None:
    """An overconfident, shifted model is pulled back to the law."""
    rng = np.random.default_rng(4)
    logit = rng.standard_normal(N)
    direction = _directions(0.5 * logit + 0.2, rng)
    direction[::5] = np.nan
    found = fit_platt(logit, direction)
    assert found.slope == pytest.approx(0.5, abs=0.06)
    assert found.intercept == pytest.approx(0.2, abs=0.06)


def test_platt_silences_a_model_that_is_wrong() -> None:
    """A slope is never negative; the intercept then says the base rate."""
    rng = np.random.default_rng(5)
    logit = rng.standard_normal(N)
    found = fit_platt(logit, _directions(-logit + 0.3, rng))
    assert found.slope == 0.0
    assert found.intercept > 0.1


@pytest.mark.parametrize("known", [0, 10])
def test_too_few_labels_leave_the_model_as_it_is(known: int) -> None:
    """Without 30 known directions nothing is scaled."""
    logit, direction = np.linspace(-1, 1, 50), np.full(50, np.nan)
    direction[:known] = 1.0
    assert fit_platt(logit, direction) == Platt(1.0, 0.0)
    assert fit_alpha(logit, logit, direction) == 1.0
    assert fit_alpha_squares(logit, logit, direction) == 1.0
