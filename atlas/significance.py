"""Is one model better than another, or did it get lucky: paired tests whose unit is the session.

- Rows of a session share their news, so losses are first averaged within it. What is tested is
  the mean over sessions of the difference of two models' losses.
- Diebold and Mariano (1995) with a long-run variance over neighbouring sessions. Harvey, Leybourne
  and Newbold (1997) divide that variance by its bias under no correlation; this is done for any
  kernel here, and Student's t has the degrees of freedom that the variance has (Satterthwaite,
  1946) instead of n − 1: with 20 sessions and five lags, n − 1 rejects a true null twice as often.
- McNemar's question, whose calls are right where the other's are wrong, by resampled sessions.
- One session, or sessions without any spread, say nothing: p is 1, never 0.
"""

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from atlas.errors import DataError
from atlas.evaluation import BLOCK, resampled_error

__all__ = [
    "LEAST_LAG",
    "Difference",
    "McNemar",
    "diebold_mariano",
    "diebold_mariano_pooled",
    "hac_lag",
    "hac_variance",
    "holm",
    "mcnemar_sessions",
    "session_means",
]

Floats = NDArray[np.float64]
Kernel = Literal["bartlett", "rectangular"]
LEAST_LAG: Final = 5  # sessions, a week of trading
_NO_SPREAD = 1e-24  # of a variance, relative to the mean square: below it is rounding


class Difference(NamedTuple):
    """A mean difference of losses and how sure it is.

    Attributes:
        value: mean over sessions; below 0 the first model is better.
        error: its standard error.
        statistic: value / error.
        p_value: two-sided, that of Student's t with `dof` degrees of freedom.
        dof: degrees of freedom of the error.
        sessions: how many there were.
        lag: sessions over which correlation was counted.
    """

    value: float
    error: float
    statistic: float
    p_value: float
    dof: float
    sessions: int
    lag: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the values that a test at 1 − `confidence` would not reject."""
        if not np.isfinite(self.error):
            return -np.inf, np.inf
        half = self.error * float(t.ppf((1 + confidence) / 2, self.dof))
        return self.value - half, self.value + half


class McNemar(NamedTuple):
    """How often one model alone was right, and how sure the difference is.

    Attributes:
        only_a: rows that the first model alone called rightly (halves where there was no call).
        only_b: rows that the second alone did.
        value: (only_a − only_b) / rows, the difference of accuracies.
        p_value: two-sided.
    """

    only_a: float
    only_b: float
    value: float
    p_value: float


def hac_lag(horizon: int, bars_per_session: float) -> int:
    """Return the lag in sessions, max(5, the horizon in sessions, rounded up).

    >>> hac_lag(15, 1440), hac_lag(20, 1)
    (5, 20)
    """
    return max(LEAST_LAG, int(np.ceil(horizon / max(bars_per_session, 1.0))))


def session_means(values: Floats, sessions: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Return the sessions in order (S,) and the mean over each one's rows (S,)."""
    days, row = np.unique(sessions, return_inverse=True)
    return days, np.bincount(row, weights=values) / np.bincount(row)


def hac_variance(x: Floats, lag: int, kernel: Kernel = "bartlett") -> float:
    """Return the variance of the mean of `x` (S,) in time order, correlations up to `lag` counted.

    Bartlett's weights 1 − j/(lag+1) are those of Newey and West (1987); rectangular ones are 1, and
    their sum may be negative. No small-sample correction.
    """
    x = np.asarray(x, np.float64)
    n = x.size
    d = x - x.mean()
    weights = _weights(n, lag, kernel)
    sums = [float(d[j:] @ d[: n - j]) for j in range(weights.size)]
    return float(sums[0] + 2 * (weights[1:] @ np.asarray(sums[1:]))) / n**2


def diebold_mariano(differences: Floats, *, lag: int, kernel: Kernel = "bartlett") -> Difference:
    """Test whether the mean of a series of loss differences is 0.

    Args:
        differences: (S,), one a session, in time order, finite.
        lag: sessions over which neighbours may be correlated; at most S − 1 are used.
        kernel: where rectangular weights give no positive variance, Bartlett's stand in.

    Raises:
        DataError: there is none, or one is not finite.
    """
    x = np.asarray(differences, np.float64)
    _check_finite(x)
    n, value = x.size, float(x.mean())
    lag = min(lag, n - 1)
    if n == 1:
        return Difference(value, np.inf, 0.0, 1.0, 1.0, 1, 0)
    variance = hac_variance(x, lag, kernel)
    if variance <= _NO_SPREAD * float(x @ x) / n and kernel == "rectangular":
        kernel, variance = "bartlett", hac_variance(x, lag)
    if variance <= _NO_SPREAD * float(x @ x) / n:
        error = 0.0 if value == 0 else np.inf
        return Difference(value, error, 0.0, 1.0, float(n - 1), n, lag)
    bias, dof = _small_sample(n, lag, kernel)
    error = float(np.sqrt(variance / bias))
    statistic = value / error
    return Difference(value, error, statistic, _two_sided(statistic, dof), dof, n, lag)


def diebold_mariano_pooled(
    markets: list[tuple[NDArray[np.int64], Floats]], lags: list[int]
) -> Difference:
    """Test whether the mean over markets of their mean differences is 0.

    Markets weigh equally. Their errors add up as of independent markets; where days that they
    share move them together, that covariance is added, where apart, it is not taken off.

    Args:
        markets: for each its sessions, days in order (S,), and differences (S,).
        lags: for each.
    """
    found = [
        diebold_mariano(values, lag=lag) for (_, values), lag in zip(markets, lags, strict=True)
    ]
    many, sessions = len(found), sum(one.sessions for one in found)
    value = float(np.mean([one.value for one in found]))
    variances = np.asarray([one.error**2 for one in found])
    total, lag = float(variances.sum()), max(one.lag for one in found)
    if not np.isfinite(total):
        return Difference(value, np.inf, 0.0, 1.0, 1.0, sessions, lag)
    if total == 0:
        return Difference(value, 0.0, 0.0, 1.0, 1.0, sessions, lag)
    dof = total**2 / float((variances**2 / [one.dof for one in found]).sum())  # Welch, 1947
    error = float(np.sqrt(total + _shared(markets, lag))) / many
    statistic = value / error
    return Difference(value, error, statistic, _two_sided(statistic, dof), dof, sessions, lag)


def mcnemar_sessions(
    hits_a: Floats,
    hits_b: Floats,
    sessions: NDArray[np.int64],
    *,
    block: float = BLOCK,
    resamples: int = 2_000,
    seed: int = 0,
) -> McNemar:
    """Compare the right calls of two models on the same rows (McNemar, 1947), sessions resampled.

    Args:
        hits_a: 1 right, 0 wrong, ½ no call, or means over seeds, (B,).
        hits_b: of the other model on the same rows, (B,).
        sessions: of the rows, (B,).
        block: mean length of the resampled blocks, in sessions.
        resamples: how many.
        seed: of the draws.

    Raises:
        DataError: there is no row, or a hit is not finite.
    """
    difference = np.asarray(hits_a, np.float64) - np.asarray(hits_b, np.float64)
    _check_finite(difference)
    only_a, only_b = float(difference.clip(0).sum()), float(-difference.clip(None, 0).sum())
    value = float(difference.mean())
    error, dof = resampled_error(difference, sessions, block=block, resamples=resamples, seed=seed)
    p = _two_sided(value / error, dof) if 0 < error < np.inf else 1.0
    return McNemar(only_a, only_b, value, p)


def holm(p_values: Floats) -> Floats:
    """Return p-values adjusted for being several (Holm, 1979), (M,); NaN counts as no test.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.size, np.nan)
    tests = np.flatnonzero(np.isfinite(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1) if order.size else steps
    return adjusted


def _weights(n: int, lag: int, kernel: Kernel) -> Floats:
    steps = np.arange(min(lag, n - 1) + 1)
    return np.ones(steps.size) if kernel == "rectangular" else 1 - steps / (lag + 1)


def _small_sample(n: int, lag: int, kernel: Kernel) -> tuple[float, float]:
    """Return E[variance found] / variance, and degrees of freedom, for independent sessions.

    The variance is d'Ad / n² with A = MWM, M taking the mean off: its mean is tr A / n² and its
    degrees of freedom (tr A)² / tr A². For rectangular weights tr A / n is Harvey's factor,
    (n + 1 − 2h + h(h−1)/n) / n with h = lag + 1.
    """
    weights = _weights(n, lag, kernel)
    padded = np.zeros(n)
    padded[: weights.size] = weights
    steps = np.arange(n)
    whole = padded[np.abs(steps[:, None] - steps)]  # (S, S)
    rows = whole.mean(axis=1)
    centered = whole - rows[:, None] - rows + rows.mean()
    trace = float(np.trace(centered))
    if trace <= 0:  # rectangular weights with as many lags as sessions
        return _small_sample(n, lag, "bartlett")
    return trace / n, trace**2 / float((centered**2).sum())


def _shared(markets: list[tuple[NDArray[np.int64], Floats]], lag: int) -> float:
    """Return the markets' covariances of means summed over pairs, at least 0."""
    days = np.unique(np.concatenate([own for own, _ in markets]))
    influence = np.zeros((len(markets), days.size))  # (M, U)
    for row, (own, values) in zip(influence, markets, strict=True):
        row[np.searchsorted(days, own)] = (values - values.mean()) / values.size
    weights = _weights(days.size, lag, "bartlett")
    whole, alone = 0.0, 0.0
    total = influence.sum(axis=0)
    for j, weight in enumerate(weights):
        times = weight * (1 if j == 0 else 2)
        whole += times * float(total[j:] @ total[: days.size - j])
        alone += times * float((influence[:, j:] * influence[:, : days.size - j]).sum())
    return max(whole - alone, 0.0)


def _two_sided(statistic: float, dof: float) -> float:
    return float(2 * t.sf(abs(statistic), dof))


def _check_finite(x: Floats) -> None:
    if x.size == 0 or not np.isfinite(x).all():
        raise DataError(
            f"expected finite differences, at least one; got {x.size}, "
            f"{int((~np.isfinite(x)).sum())} of them not finite: score both models on the same rows"
        )
