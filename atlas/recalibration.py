"""Whether probabilities mean what they say: the slope of outcomes on their log-odds.

A slope of 1 is honest, below 1 overconfident, above 1 timid (Cox, 1958). Markets weigh equally and
rows of one session share their luck, so the interval is by the sessions' scores (a sandwich).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from atlas.evaluation import Interval
from atlas.metrics import EPSILON

__all__ = ["recalibration_slope"]

Floats = NDArray[np.float64]
NOTHING = Interval(float("nan"), float("-inf"), float("inf"))
STEPS = 50


def recalibration_slope(
    y: Floats,
    probability: Floats,
    markets: NDArray[np.str_],
    sessions: NDArray[np.int64],
    *,
    confidence: float = 0.95,
) -> Interval:
    """Fit P(y = 1) = σ(a + b·logit(probability)) and return b with its interval.

    Args:
        y: 0 or 1, (B,); rows where it or the probability is not finite are left out.
        probability: of 1, (B,).
        markets: (B,); each has the same weight, whatever its rows.
        sessions: (B,) days; rows of one day count as one observation in the interval.

    Returns:
        The slope; NaN with an infinite interval where nothing can be said: fewer than two
        sessions, one outcome alone, or a probability that never changes.
    """
    known = np.isfinite(y) & np.isfinite(probability)
    y, names, days = y[known].astype(np.float64), markets[known], sessions[known]
    odds = logit(np.clip(probability[known], EPSILON, 1 - EPSILON))
    unique = np.unique(days).size
    if unique < 2 or np.ptp(y) == 0 or np.ptp(odds) == 0:
        return NOTHING
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    weight = 1.0 / counts[place]
    x = np.column_stack([np.ones_like(odds), odds])
    try:
        beta, bread = _fit(x, y, weight)
    except np.linalg.LinAlgError:  # separable: every slope fits
        return NOTHING
    scores = (weight * (y - expit(x @ beta)))[:, None] * x
    _, day = np.unique(days, return_inverse=True)
    sums = np.column_stack([np.bincount(day, scores[:, column]) for column in range(2)])
    spread = bread @ (sums.T @ sums) @ bread * unique / (unique - 1)
    half = float(norm.ppf((1 + confidence) / 2) * np.sqrt(spread[1, 1]))
    return Interval(float(beta[1]), float(beta[1]) - half, float(beta[1]) + half)


def _fit(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weighted logistic fit by Newton's method, and the inverse of its information."""
    beta = np.array([0.0, 1.0])
    for _ in range(STEPS):
        p = expit(x @ beta)
        bread = np.linalg.inv((x * (weight * p * (1 - p))[:, None]).T @ x)
        step = bread @ (x.T @ (weight * (y - p)))
        beta = beta + np.clip(step, -1, 1)  # a far start must not overshoot
        if np.abs(step).max() < 1e-9:
            break
    return beta, bread
