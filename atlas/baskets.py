"""Baskets: what other series showed by the close of each bar of a market.

What it decides, for an expert that sees several series at once (the seed's first open question):

- A bar of a basket's series counts only if it had *closed* by the close of the bar that asks. Two
  daily bars of one date may close hours apart, so dates are never compared, only closes.
- Where a series has no newer bar its last one stands, but not for more than `stale_days`; after
  that the basket is unknown, as it is where any of the 64 bars of a window lacks it.
- A symbol that is itself of the basket does not see itself there: its own place reads 0.

Everything at bar t reads closes up to t, and is NaN or 0 where the basket is not known.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.charts import WINDOW

__all__ = [
    "MARK",
    "Basket",
    "Closes",
    "absent_basket",
    "basket_columns",
    "basket_lines",
    "build_basket",
    "last_known",
]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Longs = NDArray[np.int64]

MARK: Final = "hedge_corr"  # the column that names a hedge
_DAY: Final = 86_400_000_000  # microseconds
_UNIT: Final = 8.0**0.5  # as a row of the series: a usual move of eight bars is about 1
_LIMIT: Final = 8.0
_FLAT: Final = 1e-12  # the root mean square of log returns under which a line has no scale
_CHUNK: Final = 4_096  # windows whose returns are held at once


class Closes(NamedTuple):
    """One series of a basket: `name` as market/symbol; closed (n,) ascending; log_close (n,)."""

    name: str
    closed: Longs
    log_close: Floats


@dataclass(frozen=True, eq=False)
class Basket:
    """What a basket of K series showed at each of a panel's N bars.

    Shapes: log_close (K, N), the last known one, NaN where there is none or the symbol is the
    series itself; own (N,) the place of the series that the symbol is, else −1; fingerprint (N, G)
    of `basket_columns`, NaN where the basket is unknown; age_days (N,) of the oldest bar that
    stands for its series, NaN where one has none.
    """

    names: tuple[str, ...]
    log_close: Floats
    own: NDArray[np.int8]
    fingerprint: Singles
    age_days: Singles


def basket_columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a basket's fingerprint: `MARK`, and a correlation by series."""
    return (MARK, *(f"corr_{name}" for name in names))


def last_known(asked: Longs, closed: Longs, *, stale_days: float) -> Longs:
    """Return for each moment the place of the last bar closed by then, −1 if none or stale.

    Args:
        asked: moments, microseconds (N,).
        closed: when the bars of a series closed, ascending, (n,).
        stale_days: a bar stands for its series at most so long after its close.

    Example:
        A bar that closed at the very moment that is asked about is known.
    """
    place = np.searchsorted(closed, asked, side="right") - 1
    if not closed.size:
        return place
    age = asked - closed[np.maximum(place, 0)]
    return np.where((place >= 0) & (age <= stale_days * _DAY), place, -1)


def build_basket(
    series: Mapping[str, Closes],
    *,
    market: str,
    symbols: Sequence[str],
    offsets: Longs,
    asked: Longs,
    log_close: Floats,
    stale_days: float,
) -> Basket:
    """Lay a basket's series beside the bars of a panel.

    Args:
        series: by name within the basket, in order.
        market, symbols, offsets: of the panel.
        asked: when each of its bars closed, microseconds (N,).
        log_close: of the panel's own bars (N,), NaN where unknown.
        stale_days: see `last_known`.

    Returns:
        The basket. `MARK` is the correlation of the symbol's last 63 log returns with the mean of
        the series' returns, each in its own standard deviations; the other columns are the
        correlations with each. Of independent returns `MARK` is .3 or more in .9 % of windows.
    """
    size = asked.size
    quotes = np.full((len(series), size), np.nan)
    closed = np.full((len(series), size), np.nan)
    own = np.full(size, -1, np.int8)
    spans = list(itertools.pairwise(offsets))
    for row, each in enumerate(series.values()):
        place = last_known(asked, each.closed, stale_days=stale_days)
        found = place >= 0
        quotes[row, found] = each.log_close[place[found]]
        closed[row, found] = each.closed[place[found]]
    for (first, last), symbol in zip(spans, symbols, strict=True):
        for row, each in enumerate(series.values()):
            if each.name == f"{market}/{symbol}":
                quotes[row, first:last], closed[row, first:last] = np.nan, np.inf
                own[first:last] = row
    age = (asked - closed.min(axis=0)) / _DAY
    fingerprint = np.full((size, len(series) + 1), np.nan, np.float32)
    for first, last in spans:
        own_quotes = np.vstack([log_close[first:last], quotes[:, first:last]])
        mine = int(own[first]) if last > first else -1
        fingerprint[first:last] = _correlations(own_quotes, mine)
    return Basket(tuple(series), quotes, own, fingerprint, age.astype(np.float32))


def absent_basket(names: Sequence[str], size: int) -> Basket:
    """Return a basket that is unknown at each of `size` bars, for a market that has none."""
    nan = np.float32(np.nan)
    return Basket(
        tuple(names),
        np.broadcast_to(np.nan, (len(names), size)),
        np.broadcast_to(np.int8(-1), size),
        np.broadcast_to(nan, (size, len(names) + 1)),
        np.broadcast_to(nan, size),
    )


def basket_lines(basket: Basket, log_close: Floats, ends: Longs) -> Singles:
    """Return the lines that kernels see of windows ending at `ends`, (B, 2·K, T), finite.

    Args:
        basket: of the panel.
        log_close: of the panel's own windows (B, T).
        ends: (B,) positions.

    Returns:
        For each series its own line, then for each the line of the symbol relative to it: log
        price less its last value, in √8 root mean squares of the line's own returns, within ±8. All
        0 where the basket is unknown, a line where the symbol is its series or the line is flat.
    """
    positions = ends[:, None] + np.arange(1 - WINDOW, 1)
    quotes = np.moveaxis(basket.log_close[:, positions], 0, 1)  # (B, K, T)
    relative = log_close[:, None] - quotes
    lines = np.concatenate([quotes, relative], axis=1)
    scale = _UNIT * np.sqrt(np.mean(np.diff(lines, axis=2) ** 2, axis=2, keepdims=True))
    lines = (lines - lines[:, :, -1:]) / np.where(scale > _FLAT, scale, np.nan)
    lines[np.isnan(basket.fingerprint[ends, 0])] = 0.0
    lines = np.nan_to_num(np.clip(lines, -_LIMIT, _LIMIT), nan=0.0)
    return np.asarray(lines, np.float32)


def _correlations(quotes: Floats, own: int) -> Singles:
    """Return the fingerprint (n, 1 + K) of one symbol: row 0 of `quotes` (1 + K, n), and series."""
    count, size = quotes.shape
    out = np.full((size, count), np.nan, np.float32)
    if size < WINDOW:
        return out
    returns = np.diff(quotes, axis=1)  # (1 + K, n - 1)
    others = [row for row in range(1, count) if row != own + 1]
    windows = np.lib.stride_tricks.sliding_window_view(returns, WINDOW - 1, axis=1)
    for first in range(0, windows.shape[1], _CHUNK):
        scaled = _scaled(windows[:, first : first + _CHUNK])  # (1 + K, b, 63)
        mean = _scaled(scaled[others].mean(axis=0))
        rows = slice(first + WINDOW - 1, first + WINDOW - 1 + scaled.shape[1])
        out[rows, 0] = (scaled[0] * mean).mean(axis=1)
        out[rows, 1:] = (scaled[:1] * scaled[1:]).mean(axis=2).T
    out[np.isnan(out[:, 0])] = np.nan
    return out


def _scaled(returns: Floats) -> Floats:
    """Return rows around their mean in their standard deviations, NaN for what does not move."""
    centered = returns - returns.mean(axis=-1, keepdims=True)
    sd = np.sqrt((centered**2).mean(axis=-1, keepdims=True))
    return np.asarray(centered / np.where(sd > _FLAT, sd, np.nan))
