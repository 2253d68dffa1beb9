"""Intervals and paired differences that respect time: whole sessions are resampled.

- Rows of one session share their news, so the session is the unit, and neighbouring sessions are
  drawn in blocks of random length (the stationary bootstrap of Politis and Romano, 1994).
- A statistic is a ratio of sums over sessions, so 2,000 resamples are one matrix product with how
  often each session was drawn.
- Blocks are at most a sixth of the sessions, and deviations are widened for what the bootstrap of
  few blocks loses: five sessions of crypto would otherwise claim certainty.
- Pooled figures are means over markets, never over rows; each market is resampled by itself.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from atlas.errors import DataError

__all__ = [
    "BLOCK",
    "POOLED",
    "Draws",
    "Interval",
    "block_length",
    "paired_difference",
    "pooled",
    "resampled_error",
    "session_draws",
    "session_interval",
    "stationary_counts",
]

Floats = NDArray[np.float64]
BLOCK = 5.0  # sessions, a week of trading; the least mean length of a block
POOLED: Final = "mean over markets"  # how tables name the row that pools them


class Interval(NamedTuple):
    """A figure and its interval."""

    value: float
    low: float
    high: float


class Draws(NamedTuple):
    """A figure and its resampled values (R,)."""

    value: float
    resampled: Floats

    def interval(self, confidence: float) -> Interval:
        """Return the interval between the quantiles that leave (1 − confidence)/2 on each side."""
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        # inverted_cdf picks a drawn value: between two infinite ones nothing can be interpolated
        low, high = np.quantile(self.resampled, tails, method="inverted_cdf")
        return Interval(self.value, float(low), float(high))


def block_length(horizon: int, bars_per_session: float) -> float:
    """Return the mean block in sessions, max(5, twice the horizon in sessions)."""
    return max(BLOCK, 2 * horizon / max(bars_per_session, 1.0))


def stationary_counts(
    sessions: int, *, block: float, resamples: int, rng: np.random.Generator
) -> Floats:
    """Count how often each session is drawn in each resample, (R, S), rows summing to S.

    A resample starts anywhere; each next draw is the following session, wrapping around, or with
    probability 1/block a new start.
    """
    anew = rng.random((resamples, sessions)) < 1 / block
    anew[:, 0] = True
    starts = rng.integers(sessions, size=(resamples, sessions))
    steps = np.arange(sessions)
    begun = np.maximum.accumulate(np.where(anew, steps, 0), axis=1)  # (R, S) where its block began
    drawn = (np.take_along_axis(starts, begun, axis=1) + steps - begun) % sessions
    flat = drawn + sessions * np.arange(resamples)[:, None]
    counts = np.bincount(flat.ravel(), minlength=resamples * sessions)
    return counts.reshape(resamples, sessions).astype(np.float64)


def session_draws(
    values: Floats,
    sessions: NDArray[np.int64],
    *,
    block: float = BLOCK,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Draws:
    """Resample the mean of `values` (B,) by their sessions (B,).

    The same sessions, block and seed draw the same resamples, whatever the values: figures of
    several models on the same rows stay paired. One session alone gives infinite deviations: it
    says nothing about the next.

    Args:
        confidence: the widening is exact for this quantile of Student's t.

    Raises:
        DataError: there is no row.
    """
    mean, resampled, days, length = _resampled(values, sessions, block, resamples, seed)
    widened = (resampled - mean) * _widening(days, length, confidence)
    if days == 1:
        widened = np.where(np.arange(resamples) % 2, np.inf, -np.inf)
    return Draws(mean, mean + widened)


def session_interval(
    values: Floats,
    sessions: NDArray[np.int64],
    *,
    block: float = BLOCK,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` (B,) and its interval from resampled sessions (B,)."""
    draws = session_draws(
        values, sessions, block=block, resamples=resamples, confidence=confidence, seed=seed
    )
    return draws.interval(confidence)


def pooled(draws: list[Draws]) -> Draws:
    """Return the mean over markets; their resamples are independent if their seeds differ."""
    values = np.mean([one.value for one in draws])
    return Draws(float(values), np.mean([one.resampled for one in draws], axis=0))


def paired_difference(
    losses_a: Floats,
    losses_b: Floats,
    markets: NDArray[np.str_],
    sessions: NDArray[np.int64],
    *,
    block: float = BLOCK,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean over markets of loss a − loss b on the same rows, and its interval.

    Below 0, a is better. Sessions are resampled by market, all four arrays are (B,).

    Raises:
        DataError: there is no row, or a loss is not a number.
    """
    difference = np.asarray(losses_a, np.float64) - np.asarray(losses_b, np.float64)
    if difference.size == 0 or not np.isfinite(difference).all():
        raise DataError(
            f"expected finite losses of at least one row; got {difference.size} rows, "
            f"{int((~np.isfinite(difference)).sum())} not finite: score both models first"
        )
    draws = [
        session_draws(
            difference[markets == market],
            sessions[markets == market],
            block=block,
            resamples=resamples,
            confidence=confidence,
            seed=seed + place,
        )
        for place, market in enumerate(np.unique(markets))
    ]
    return pooled(draws).interval(confidence)


def resampled_error(
    values: Floats,
    sessions: NDArray[np.int64],
    *,
    block: float = BLOCK,
    resamples: int = 2_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the standard error of the mean of `values` (B,), and its degrees of freedom.

    It is the spread of means over resampled sessions (B,), corrected for the bootstrap of few
    blocks; degrees of freedom are blocks − 1. One session alone gives an infinite error.

    Raises:
        DataError: there is no row.
    """
    _, resampled, days, length = _resampled(values, sessions, block, resamples, seed)
    if days == 1:
        return float("inf"), 1.0
    return float(resampled.std()) * _lost(days, length), max(days / length, 2.0) - 1


def _resampled(
    values: Floats, sessions: NDArray[np.int64], block: float, resamples: int, seed: int
) -> tuple[float, Floats, int, float]:
    """Return the mean, its resampled values (R,), the sessions and the block that was used."""
    if values.size == 0:
        raise DataError("expected at least one row to resample; got none: check the market's cut")
    days, row = np.unique(sessions, return_inverse=True)
    sums = np.bincount(row, weights=values)
    rows = np.bincount(row).astype(np.float64)
    length = min(block, max(days.size / 6, 1.0))
    rng = np.random.default_rng(seed)
    counts = stationary_counts(days.size, block=length, resamples=resamples, rng=rng)
    mean = float(sums.sum() / rows.sum())
    return mean, (counts @ sums) / (counts @ rows), days.size, length


def _lost(sessions: int, block: float) -> float:
    """Return the factor by which the spread of means of resampled blocks is too small."""
    return float(1 / np.sqrt(max(1 - 2 * block / sessions, 0.25)))


def _widening(sessions: int, block: float, confidence: float) -> float:
    """Return the factor by which deviations of a bootstrap of few blocks are too small."""
    if sessions < 2:
        return 1.0
    blocks = max(sessions / block, 2.0)
    quantile = (1 + confidence) / 2
    return float(_lost(sessions, block) * t.ppf(quantile, blocks - 1) / norm.ppf(quantile))
