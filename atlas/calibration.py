"""Fit the few numbers that make a trained network honest, per market on its validation windows.

- α scales what the network adds to its base. It is chosen by log-loss in [0, 1.5]: a network that
  learned nothing gets α = 0 and the market keeps its best simple rival.
- Platt scaling (Platt, 1999) then maps the logit to a probability. Its slope is never negative: a
  model that is wrong more often than right is silenced, not turned around.
- Slope and intercept are drawn towards (1, 0) by a weak normal prior, because the rows of one
  session share its luck and a few sessions say little about an intercept.

Everything is float64 NumPy on arrays; NaN targets are left out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar

from atlas.moe import Network
from atlas.prediction import raw_predictions
from atlas.sampling import spread_evenly
from atlas.windows import MarketData

__all__ = [
    "ALPHA_MAX",
    "Platt",
    "calibrate",
    "fit_alpha",
    "fit_alpha_squares",
    "fit_platt",
    "log_loss",
]

ALPHA_MAX = 1.5
PRIOR_SD = np.array([0.5, 0.1])  # of the slope around 1, of the intercept around 0
MIN_ROWS = 30
ROWS = 8_192  # per market: more would tell a few numbers no better

Array = npt.NDArray[np.floating]


class Platt(NamedTuple):
    """probability = sigmoid(slope · logit + intercept)."""

    slope: float
    intercept: float


def calibrate(model: Network, data: Mapping[str, MarketData]) -> dict[str, dict[str, Any]]:
    """Fit α and Platt scaling on each market's validation windows and put them into the model.

    Args:
        model: trained, not yet calibrated (α = 1).
        data: the markets; only validation windows are looked at.

    Returns:
        For each market with validation windows: rows, alpha_direction, alpha_volatility, slope,
        intercept, and log_loss, accuracy (calibrated), base_log_loss (of the base alone).
    """
    report = {}
    for market, own in data.items():
        ends = spread_evenly(own.split.validation, ROWS)
        if len(ends):
            report[market] = _calibrate(model, own, ends, model.markets.index(market))
    return report


def log_loss(logit: Array, direction: Array) -> float:
    """Return the mean log-loss in nats of logits (N,) for directions (N,) in {0, 1} without NaN."""
    return float(np.mean(np.logaddexp(0.0, logit) - direction * logit))


def fit_alpha(base: Array, deep: Array, direction: Array) -> float:
    """Return the α in [0, 1.5] for which base + α·deep has the least log-loss.

    Args:
        base: logits of the base (N,).
        deep: what the network adds (N,).
        direction: 0, 1 or NaN (N,). Fewer than 30 known values give α = 1.
    """
    known = np.isfinite(direction)
    if known.sum() < MIN_ROWS:
        return 1.0
    z, d, y = (np.asarray(v, np.float64)[known] for v in (base, deep, direction))

    def loss(alpha: float) -> float:
        return log_loss(z + alpha * d, y)

    found = minimize_scalar(
        loss, bounds=(0.0, ALPHA_MAX), method="bounded", options={"xatol": 1e-4}
    )
    # The bounded search never reaches an end itself; 0 comes first, so that a tie adds nothing.
    return float(min((0.0, float(found.x), ALPHA_MAX), key=loss))


def fit_alpha_squares(base: Array, deep: Array, target: Array) -> float:
    """Return the α in [0, 1.5] for which base + α·deep has the least squared error.

    Args:
        base, deep: as for `fit_alpha`, here of a regression (N,).
        target: values or NaN (N,). Fewer than 30 known values give α = 1.
    """
    known = np.isfinite(target)
    if known.sum() < MIN_ROWS:
        return 1.0
    z, d, y = (np.asarray(v, np.float64)[known] for v in (base, deep, target))
    square = float(d @ d)
    return float(np.clip(d @ (y - z) / square, 0.0, ALPHA_MAX)) if square > 0 else 0.0


def fit_platt(logit: Array, direction: Array) -> Platt:
    """Return the slope ≥ 0 and intercept with the least log-loss under the prior.

    Args:
        logit: of the model (N,).
        direction: 0, 1 or NaN (N,). Fewer than 30 known values give Platt(1, 0).
    """
    known = np.isfinite(direction)
    if known.sum() < MIN_ROWS:
        return Platt(1.0, 0.0)
    z, y = (np.asarray(v, np.float64)[known] for v in (logit, direction))
    slope, intercept = _newton(np.column_stack([z, np.ones_like(z)]), y, np.array([1.0, 0.0]))
    if slope < 0:
        slope, intercept = _newton(np.column_stack([0 * z, np.ones_like(z)]), y, np.zeros(2))
    return Platt(float(slope), float(intercept))


def _calibrate(
    model: Network, own: MarketData, ends: npt.NDArray[np.int64], index: int
) -> dict[str, Any]:
    direction, log_rv = own.labels.direction[ends], own.labels.log_rv[ends]
    found = raw_predictions(model, own, ends, market_index=index)
    deep = found.logit - found.base_logit
    alpha = fit_alpha(found.base_logit, deep, direction)
    alpha_rv = fit_alpha_squares(found.base_log_rv, found.log_rv - found.base_log_rv, log_rv)
    logit = found.base_logit + alpha * deep
    platt = fit_platt(logit, direction)
    model.calibration.alpha[index] = torch.tensor([alpha, alpha_rv])
    model.calibration.platt[index] = torch.tensor(platt)
    known = np.isfinite(direction)
    y, calibrated = (
        direction[known].astype(np.float64),
        (platt.slope * logit + platt.intercept)[known],
    )
    return {
        "rows": int(known.sum()),
        "alpha_direction": alpha,
        "alpha_volatility": alpha_rv,
        "slope": platt.slope,
        "intercept": platt.intercept,
        "log_loss": log_loss(calibrated, y),
        "base_log_loss": log_loss(found.base_logit[known], y),
        "accuracy": float(np.mean((calibrated > 0) == (y > 0.5))),
    }


def _newton(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], center: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    # Newton's method on the penalized log-loss, which is strictly convex; halving keeps it falling.
    precision = PRIOR_SD**-2

    def loss(w: npt.NDArray[np.float64]) -> float:
        return len(y) * log_loss(x @ w, y) + 0.5 * float(precision @ (w - center) ** 2)

    w = center.copy()
    for _ in range(50):
        p = 0.5 * (1 + np.tanh(0.5 * (x @ w)))
        gradient = x.T @ (p - y) + precision * (w - center)
        hessian = (x.T * (p * (1 - p))) @ x + np.diag(precision)
        step = np.linalg.solve(hessian, gradient)
        while loss(w - step) > loss(w) and np.abs(step).max() > 1e-12:
            step = step / 2
        w = w - step
        if np.abs(step).max() < 1e-10:
            break
    return w
