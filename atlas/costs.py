"""What a call would have earned, and what a trade may cost before nothing is left.

A quote bounces between bid and ask, so the last trade's price tends to come back: a reversal rule
is often right, and nobody can trade that price. So an accuracy has a break-even cost beside it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.evaluation import BLOCK, Interval, session_interval
from atlas.metrics import calls
from atlas.windows import MarketData, coming_moves

__all__ = ["BreakEven", "break_even", "next_returns", "spreads"]

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
_SPREAD = FINGERPRINT_COLUMNS.index("spread")


class BreakEven(NamedTuple):
    """A trade's mean earning and what it may cost, fractions of the price.

    Attributes:
        gross: mean of the next log return, signed by the call.
        half_spread: mean of half the spread of the same rows.
        net: gross − half_spread with its interval: the break-even cost.
        trades: rows with a call and a known return and spread.
    """

    gross: float
    half_spread: float
    net: Interval
    trades: int


def break_even(
    probability: Floats,
    returns: Floats,
    spread: Floats,
    sessions: NDArray[np.int64],
    *,
    block: float = BLOCK,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> BreakEven:
    """Return the cost per trade at which following the calls earns nothing.

    Every row with a call is one trade of equal size: entered at the window's last close, left a
    horizon later, on the side that is called. The mean return signed by the call is what it earns
    at closing prices; half the spread is the price of crossing to the other side of the book once,
    entering at the ask (bid) and leaving at the middle. What is left, `net`, is the most that all
    else may cost a trade: fees, impact, and the other half of the spread if one crosses it again
    to leave. At or below 0 the calls, right as they may be, pay for nothing.

    Args:
        probability: of up, (B,); exactly ½ is no trade.
        returns: log returns over the horizon that the label asks about, (B,), NaN unknown.
        spread: (ask − bid) / mid at the row, (B,), NaN unknown.
        sessions: of the rows, (B,).
        block: mean block in sessions.
        resamples: of the interval.
        confidence: of the interval.
        seed: of the draws.

    Returns:
        All NaN and no trade where nothing is known, as on surfaces.
    """
    side = calls(probability)
    earned = side * np.asarray(returns, np.float64)
    half = np.asarray(spread, np.float64) / 2
    kept = (side != 0) & np.isfinite(earned) & np.isfinite(half)
    if not kept.any():
        nan = float("nan")
        return BreakEven(nan, nan, Interval(nan, nan, nan), 0)
    net = session_interval(
        (earned - half)[kept],
        sessions[kept],
        block=block,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    return BreakEven(float(earned[kept].mean()), float(half[kept].mean()), net, int(kept.sum()))


def next_returns(data: MarketData, ends: Positions) -> Floats:
    """Return the log return that each row's label asks about, (B,); NaN for surfaces and unknown.

    It runs from `skip` bars after the window's end to `skip` + horizon bars after it, within the
    symbol; no row is given one whose label crosses a session's close.
    """
    own, ask = data.panel, data.labels.question
    if own.modality == "surface":
        return np.full(ends.size, np.nan)
    known = np.isfinite(data.labels.direction[ends])
    return np.where(known, coming_moves(own, ask._replace(kind="direction"))[ends], np.nan)


def spreads(data: MarketData, ends: Positions) -> Floats:
    """Return the fingerprint's spread of each row, (B,), an estimate where there are no quotes."""
    return np.asarray(data.panel.fingerprint[ends, _SPREAD], np.float64)
