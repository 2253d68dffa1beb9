"""The columns that rules over several rows or columns read (`atlas.row_rules`), of one symbol.

- What decides whether a row is bad looks back only, so that a night judges a row as every later
  night does, and serving as training: `copies` alone counts both rows of a key.
- What only warns may look around. A robust z divides by the median of absolute values over blocks
  of 256 rows, returns that cross a closed market apart from the others, as the night is longer.
- Everything is NumPy over whole columns; a loop runs over suspicious rows alone.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import PRICES
from atlas.row_rules import BAR_RULES, SCALE, SURFACE_RULES, any_broken
from atlas.surfaces import DELTAS

__all__ = [
    "bad_bars",
    "bad_in_tails",
    "bad_quotes",
    "bar_measures",
    "bar_warnings",
    "copies",
    "quote_measures",
    "quote_warnings",
    "robust_z",
]

_BLOCK = 256  # rows over which a median is taken
_FEWEST = 16  # values; with fewer no value is called an outlier
_PATIENCE = 5  # bars on another scale in a row, the last of which is taken for the new scale
_SIGMA = 1.4826  # standard deviations of a normal law per median of absolute values
_DAY_US = 86_400_000_000
_QUIET = 1e-6  # the least scale of a log return; less is the price's last digit

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]
Columns = dict[str, Floats]


def bad_bars(bars: pd.DataFrame, step: int) -> NDArray[np.bool_]:
    """Return which of one symbol's bars are bad, (N,); a checked frame, `step` in microseconds.

    It is what validation quarantines, without what only a store knows: order and the night.
    """
    times = pd.DatetimeIndex(bars.index).as_unit("us").asi8
    columns = {str(name): bars[name].to_numpy(np.float64) for name in bars}
    return any_broken({**columns, **bar_measures(times, columns, step)}, BAR_RULES)


def bad_in_tails(
    times: Longs, bars: Mapping[str, Floats], offsets: Longs, step: int
) -> NDArray[np.bool_]:
    """Return which bars of n symbols laid end to end are bad, (N,): as each symbol by itself.

    One sieve over all rows lets through the symbols in which every row is sound, on scale and no
    copy; a symbol with any other row is judged by itself, as what is off scale depends on which
    close was good last.

    Args:
        times: opens, microseconds, ascending within a symbol, (N,).
        bars: the columns of bar frames, (N,) each.
        offsets: symbol i at offsets[i]:offsets[i+1], (n+1,).
        step: the timeframe, microseconds.
    """
    begins = np.zeros(len(times), np.bool_)
    begins[offsets[:-1][np.diff(offsets) > 0]] = True
    again = np.zeros(len(times), np.bool_)
    again[1:] = np.diff(times) <= 0
    columns = {**bars, **_neighbors(bars, begins, step)}
    odd = any_broken(columns, BAR_RULES) | (again & ~begins)
    bad = np.zeros(len(times), np.bool_)
    if not odd.any():  # the usual case
        return bad
    total = np.concatenate([[0], np.cumsum(odd)])
    for place in np.flatnonzero(np.diff(total[offsets])):
        own = slice(int(offsets[place]), int(offsets[place + 1]))
        mine = {name: values[own] for name, values in bars.items()}
        bad[own] = any_broken({**mine, **bar_measures(times[own], mine, step)}, BAR_RULES)
    return bad


def bad_quotes(quotes: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which of one symbol's quotes are bad, (N,); a checked frame."""
    times = pd.DatetimeIndex(quotes["timestamp"]).as_unit("us").asi8
    tenor, delta, iv = (quotes[name].to_numpy(np.float64) for name in ("tenor", "delta", "iv"))
    columns = {"tenor": tenor, "iv": iv, **quote_measures(times, tenor, delta)}
    return any_broken(columns, SURFACE_RULES)


def bar_measures(times: Longs, bars: Mapping[str, Floats], step: int) -> Columns:
    """Measure what makes one symbol's N bars bad.

    Args:
        times: opens, microseconds, in the order of the store, (N,).
        bars: the columns of a bar frame, (N,) each.
        step: the timeframe, microseconds.

    Returns:
        copies of the key; body_high and body_low; times_last_close, by what factor a price is off
        the last good close, at least 1; repeats, 1 where prices and volume are those of the bar
        before and something was traded, as it is on every day.
    """
    opens, highs, lows, closes = (bars[name] for name in PRICES)
    volume = bars["volume"]
    same = _same_as_before([opens, highs, lows, closes, volume])
    return {
        "copies": copies(times),
        "body_high": np.fmax(opens, closes),
        "body_low": np.fmin(opens, closes),
        "times_last_close": _times_last_close(opens, highs, lows, closes),
        "repeats": (same & ((volume > 0) | (step >= _DAY_US))).astype(np.float64),
    }


def _neighbors(bars: Mapping[str, Floats], begins: NDArray[np.bool_], step: int) -> Columns:
    """Measure what `bar_measures` does where every bar is sound; a symbol begins at `begins`."""
    opens, highs, lows, closes = (bars[name] for name in PRICES)
    volume = bars["volume"]
    same = _same_as_before([opens, highs, lows, closes, volume]) & ~begins
    off = np.ones(len(closes))
    with np.errstate(divide="ignore", invalid="ignore"):
        off[1:] = np.fmax(highs[1:] / closes[:-1], closes[:-1] / lows[1:])
    off[begins] = 1
    return {
        "body_high": np.fmax(opens, closes),
        "body_low": np.fmin(opens, closes),
        "times_last_close": off,
        "repeats": (same & ((volume > 0) | (step >= _DAY_US))).astype(np.float64),
    }


def bar_warnings(times: Longs, bars: Mapping[str, Floats], step: int) -> Columns:
    """Measure what is worth a warning in one symbol's N bars.

    Args:
        step: the timeframe, microseconds.

    Returns:
        same_prices and same_quotes, bars in a row that are alike so far; level_change, the factor
        between a bar and the one before where they do not touch; return_z and range_z, robust.
    """
    factor = _adjustment(bars)
    highs, lows, closes = (_positive(bars[name] * factor) for name in PRICES[1:])
    gap = np.fmax(lows[1:] / highs[:-1], lows[:-1] / highs[1:])
    level = np.where(np.isnan(gap), 1.0, gap)
    across = np.diff(times, prepend=times[:1]) > step  # the market was closed, or bars are missing
    returns = np.diff(np.log(closes), prepend=np.nan)
    return_z = np.where(across, robust_z(returns, across), robust_z(returns, ~across))
    found: Columns = {
        "same_prices": _run_length(_same_as_before([bars[name] for name in PRICES])),
        "level_change": np.concatenate([[1.0], level])[: len(times)],
        "return_z": return_z,
        "range_z": robust_z(np.log(highs / lows), np.ones(len(times), np.bool_)),
    }
    if "bid" in bars and "ask" in bars:
        found["same_quotes"] = _run_length(_same_as_before([bars["bid"], bars["ask"]]))
    return found


def quote_measures(times: Longs, tenor: Floats, delta: Floats) -> Columns:
    """Measure what makes one symbol's N quotes bad: copies of the key, and delta_error.

    delta_error is the distance to the nearest known delta, infinite where there is none.
    """
    error = np.min([np.abs(delta - known) for known in DELTAS], axis=0)
    key = np.stack([times, *(_coded(column) for column in (tenor, delta))], axis=1)
    return {
        "copies": copies(np.unique(key, axis=0, return_inverse=True)[1].ravel()),
        "delta_error": np.where(np.isnan(error), np.inf, error),
    }


def quote_warnings(times: Longs, tenor: Floats, delta: Floats, iv: Floats) -> Columns:
    """Measure what is worth a warning in one symbol's N quotes.

    Returns:
        times_money, iv over that at the money of its snapshot and tenor; same_iv, snapshots in a
        row with the same iv of its tenor and delta so far; iv_change_z, robust, of log iv.
    """
    order = np.lexsort([times, delta, tenor])  # each tenor and delta by itself, in time
    fresh = np.ones(len(iv), np.bool_)
    fresh[1:] = (np.diff(tenor[order]) != 0) | (np.abs(np.diff(delta[order])) > 1e-6)
    value = _positive(iv)[order]
    change = np.diff(np.log(value), prepend=np.nan)
    change[fresh] = np.nan
    same = _same_as_before([value]) & ~fresh
    found = {"same_iv": _run_length(same), "iv_change_z": robust_z(change, ~fresh)}
    back = np.argsort(order)
    money = _at_money(times, tenor, delta, _positive(iv))
    return {name: column[back] for name, column in found.items()} | {"times_money": iv / money}


def copies(key: Longs) -> Floats:
    """Count for each of N keys how often it comes, (N,)."""
    if (np.diff(key) > 0).all():
        return np.ones(len(key))
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    return np.asarray(count[place.ravel()], np.float64)


def robust_z(values: Floats, among: NDArray[np.bool_]) -> Floats:
    """Return |value| over the scale of its block, of the values `among`, (N,); else NaN.

    The scale is 1.4826 medians of |value| over blocks of 256, the last one longer, and at least a
    quarter of that of all, so that a quiet hour makes no outliers; Iglewicz and Hoaglin (1993).
    """
    out = np.full(len(values), np.nan)
    place = np.flatnonzero(among & np.isfinite(values))
    if len(place) < _FEWEST:
        return out
    size = np.abs(values[place])
    scale = np.empty(len(size))
    blocks = max(len(size) // _BLOCK, 1)
    whole = blocks * _BLOCK
    if len(size) >= _BLOCK:
        medians = np.median(size[: whole - _BLOCK].reshape(-1, _BLOCK), axis=1)
        scale[: whole - _BLOCK] = np.repeat(medians, _BLOCK)
        scale[whole - _BLOCK :] = np.median(size[whole - _BLOCK :])
    else:
        scale[:] = np.median(size)
    least = max(float(np.median(size)) / 4, _QUIET)
    out[place] = size / (_SIGMA * np.maximum(scale, least))
    return out


def _times_last_close(opens: Floats, highs: Floats, lows: Floats, closes: Floats) -> Floats:
    """Return the factor between the bar's prices and the last close on scale, at least 1, (N,).

    Looks back only. A scale that has stood for five bars is the new one.
    """
    prices = np.stack([opens, highs, lows, closes])
    sound = (np.isfinite(prices) & (prices > 0)).all(axis=0)
    place = np.flatnonzero(sound)
    out = np.ones(len(closes))
    if len(place) < 2:
        return out
    top, bottom, last = prices.max(axis=0)[place], prices.min(axis=0)[place], closes[place]
    factor = np.ones(len(place))
    factor[1:] = np.maximum(top[1:] / last[:-1], last[:-1] / bottom[1:])
    for first in np.flatnonzero(factor > SCALE):
        base = last[first - 1]
        if factor[first - 1] > SCALE:
            continue  # judged with the one before
        for row in range(int(first), min(int(first) + _PATIENCE, len(place))):
            factor[row] = max(top[row] / base, base / bottom[row])
            if factor[row] <= SCALE or row == first + _PATIENCE - 1:
                factor[row] = min(factor[row], SCALE)
                break
    out[place] = factor
    return out


def _adjustment(bars: Mapping[str, Floats]) -> Floats:
    """Return adj_close/close, 1 where there is none, (N,)."""
    if "adj_close" not in bars:
        return np.ones(len(bars["close"]))
    factor = _positive(bars["adj_close"]) / _positive(bars["close"])
    return np.where(np.isnan(factor), 1.0, factor)


def _positive(values: Floats) -> Floats:
    return np.where((values > 0) & np.isfinite(values), values, np.nan)


def _same_as_before(columns: list[Floats]) -> NDArray[np.bool_]:
    same = np.zeros(len(columns[0]), np.bool_)
    same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return same


def _run_length(same: NDArray[np.bool_]) -> Floats:
    """Count how many rows in a row are alike up to each, 1 where a row is unlike the one before."""
    place = np.arange(len(same))
    start = np.maximum.accumulate(np.where(same, 0, place))
    return np.asarray(place - start + 1, np.float64)


def _coded(values: Floats) -> Longs:
    """Give equal values equal whole numbers, missing ones the same."""
    return np.asarray(np.unique(values, return_inverse=True)[1].ravel(), np.int64)


def _at_money(times: Longs, tenor: Floats, delta: Floats, iv: Floats) -> Floats:
    """Return the mean iv at deltas ±.5 of each row's snapshot and tenor, NaN without any, (N,)."""
    pair = np.unique(np.stack([times, _coded(tenor)], axis=1), axis=0, return_inverse=True)[1]
    pair = pair.ravel()
    here = (np.abs(np.abs(delta) - 0.5) < 1e-6) & np.isfinite(iv)
    size = int(pair.max(initial=-1)) + 1
    total = np.bincount(pair[here], iv[here], minlength=size)
    count = np.bincount(pair[here], minlength=size)
    with np.errstate(invalid="ignore"):
        return np.asarray((total / count)[pair], np.float64)
