"""Scores of predictions, as pure functions of arrays.

- A call is up above ½ and down below; exactly ½ is no call and counts one half, as a coin would.
- Losses are in nats. Probabilities are kept EPSILON away from 0 and 1, so one sure error does not
  swallow a mean.
- lift and gain are free of label noise: they need the true probability, known on simulated
  markets alone (SIMULATION, "Scores").
- Scores of nothing are NaN.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EPSILON",
    "base_rate",
    "calls",
    "directional_accuracy",
    "expected_calibration_error",
    "expected_log_losses",
    "gain",
    "hits",
    "lift",
    "log_loss",
    "log_losses",
    "qlike",
    "qlike_losses",
    "r2",
]

Floats = NDArray[np.float64]
EPSILON = 1e-6


def calls(probability: Floats) -> Floats:
    """Return the side called, (B,): 1 up, −1 down, 0 for exactly one half."""
    return np.asarray(np.sign(np.asarray(probability, np.float64) - 0.5))


def hits(y: Floats, probability: Floats) -> Floats:
    """Return 1 for a right call, 0 for a wrong one, ½ for none, (B,); y is 0 or 1."""
    y = np.asarray(y, np.float64)
    return np.asarray((1 + calls(probability) * (2 * y - 1)) / 2)


def directional_accuracy(y: Floats, probability: Floats) -> float:
    """Return the share of right calls.

    >>> directional_accuracy(np.array([1, 0, 1, 1]), np.array([0.7, 0.4, 0.2, 0.5]))
    0.625
    """
    return _mean(hits(y, probability))


def log_losses(y: Floats, probability: Floats) -> Floats:
    """Return −log of the probability given to what happened, (B,), in nats; y is 0 or 1."""
    return expected_log_losses(np.asarray(y, np.float64), probability)


def expected_log_losses(p: Floats, q: Floats) -> Floats:
    """Return −p·log q − (1−p)·log(1−q), (B,): the loss of q where p is the true probability."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    kept = np.clip(q, EPSILON, 1 - EPSILON)
    return np.asarray(-p * np.log(kept) - (1 - p) * np.log1p(-kept))


def log_loss(y: Floats, probability: Floats) -> float:
    """Return the mean of −log of the probability given to what happened, in nats.

    >>> round(log_loss(np.array([1, 0]), np.array([0.8, 0.5])), 4)
    0.4581
    """
    return _mean(log_losses(y, probability))


def base_rate(train: Floats, y: Floats) -> float:
    """Return the accuracy on `y` of always calling the side that `train` saw more often.

    NaN labels are left out. A train half up and half down makes no call: one half.
    """
    train, y = np.asarray(train, np.float64), np.asarray(y, np.float64)
    seen, known = train[np.isfinite(train)], y[np.isfinite(y)]
    return directional_accuracy(known, np.full(known.size, _mean(seen)))


def lift(p: Floats, q: Floats) -> float:
    """Return Σ s(2p−1) / Σ|2p−1|, s the side that q calls: 1 is the best there is, 0 is none.

    >>> round(lift(np.array([0.8, 0.6, 0.3]), np.array([0.9, 0.4, 0.4])), 4)
    0.6667
    """
    edge = 2 * np.asarray(p, np.float64) - 1
    whole = float(np.abs(edge).sum())
    return float((calls(q) * edge).sum() / whole) if whole > 0 else float("nan")


def gain(p: Floats, q: Floats, ceiling: Floats) -> float:
    """Return (log 2 − E[loss of q]) / (log 2 − E[loss of `ceiling`]) under the true p.

    1 is as good as the ceiling, 0 as good as always saying one half; below 0 is worse than that.

    >>> p = np.array([0.8, 0.3])
    >>> gain(p, p, p), round(gain(p, np.array([0.5, 0.5]), p), 9)
    (1.0, 0.0)
    """
    best = np.log(2) - _mean(expected_log_losses(p, ceiling))
    own = np.log(2) - _mean(expected_log_losses(p, q))
    return float(own / best) if best > 1e-12 else float("nan")  # below is rounding


def expected_calibration_error(y: Floats, probability: Floats, bins: int = 10) -> float:
    """Return the mean over rows of |share up − mean probability| of the row's bin.

    Bins hold equally many rows (Nixon et al., 2019): honest probabilities of a market's next move
    lie so near one half that bins of equal width would be one or two.
    """
    y, probability = np.asarray(y, np.float64), np.asarray(probability, np.float64)
    if y.size == 0:
        return float("nan")
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return float(sum(abs((y[part] - probability[part]).sum()) for part in parts) / y.size)


def qlike(log_rv: Floats, forecast: Floats) -> float:
    """Return the mean of e^d − d − 1, d = log RV − forecast (Patton, 2011); 0 is perfect.

    Both are logs of realised variance; rows where either is NaN are left out.
    """
    losses = qlike_losses(log_rv, forecast)
    return _mean(losses[np.isfinite(losses)])


def qlike_losses(log_rv: Floats, forecast: Floats) -> Floats:
    """Return e^d − d − 1, d = log RV − forecast, (B,); NaN where either is."""
    d = np.asarray(log_rv, np.float64) - np.asarray(forecast, np.float64)
    return np.asarray(np.exp(d) - d - 1)


def r2(actual: Floats, forecast: Floats) -> float:
    """Return 1 − Σ(actual − forecast)² / Σ(actual − mean)²; rows with a NaN are left out."""
    actual, forecast = np.asarray(actual, np.float64), np.asarray(forecast, np.float64)
    known = np.isfinite(actual) & np.isfinite(forecast)
    actual, forecast = actual[known], forecast[known]
    spread = float(((actual - _mean(actual)) ** 2).sum())
    return 1 - float(((actual - forecast) ** 2).sum()) / spread if spread > 0 else float("nan")


def _mean(x: Floats) -> float:
    return float(x.mean()) if x.size else float("nan")
