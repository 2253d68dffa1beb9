"""The fingerprint as an array, worked through in blocks that stay in the processor's cache.

Symbols lie end to end. Each formula reads no further back than its window, so that a row's bits
depend on its window alone: a block begins one window early, and rows whose window would reach into
the symbol before are made NaN afterwards.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from atlas import nulls, passes
from atlas.rolling import Floats, compile_time_told, compiled
from atlas.session_vol import Sessions, add_squares, sessions_of_snapshots, write_vol
from atlas.stats import HURST_WINDOW

__all__ = ["FINGERPRINT_COLUMNS", "FINGERPRINT_FLAGS", "Flags", "Table", "bar_table", "iv_table"]

FINGERPRINT_COLUMNS = (
    "vol30",
    "trend_r2",
    "trend_r2_null",
    "hurst",
    "hurst_null",
    "spread",
    "volume_z",
    "turnover_z",
    "atr",
    "kurtosis",
    "skew_iv",
)
FINGERPRINT_FLAGS = ("vol30_short", "spread_estimated")

_BLOCK = 12_288  # rows worked on at a time
_NO_BREAKS = np.zeros(0, np.int64)
_OF_TRADE = ("spread", "volume_z", "turnover_z", "atr")  # no surface has these
_LOG_FOUR = math.log(4.0)
_HURST_SCALE = 0.25 / math.log(2.0)
_LAST = 2.0 * nulls.REACH * nulls.STEPS  # the place of Φ's upper end
_ROW = {name: row for row, name in enumerate(FINGERPRINT_COLUMNS)}

Table = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


def bar_table(
    columns: Mapping[str, Floats], offsets: Longs, sessions: Sessions
) -> tuple[Table, Flags]:
    """Return the columns (F, N) and flags (2, N) of bars of symbols end to end.

    Args:
        columns: high, low, close adjusted, volume, and any of paid (the close as traded), turnover,
            bid, ask; (N,) each, and read-only. A symbol whose turnover is NaN throughout has none.
        offsets: symbol i is at offsets[i]:offsets[i + 1], (n + 1,).
        sessions: of the same rows; their sums are filled here.
    """
    n = int(offsets[-1])
    table, flags = _empty(n)
    has_turnover = _has_turnover(columns, offsets)
    with (
        compile_time_told("fingerprint", passes.price_columns),
        np.errstate(divide="ignore", invalid="ignore"),  # the log of what is not above 0
    ):
        for start, stop in _blocks(n):
            first = max(0, start - HURST_WINDOW)
            block = {name: values[first:stop] for name, values in columns.items()}
            x = np.log(block["close"])
            rows, said = table[:, start:stop], flags[:, start:stop]
            add_squares(x, start - first, start, sessions.rows, sessions.sums)
            breaks = _breaks(offsets, first, start, stop)
            _price_columns(x, breaks, rows)
            _bar_only_columns(block, x, has_turnover[first:stop], breaks, rows, said)
    write_vol(sessions, table[_ROW["vol30"]], flags[0])
    table[_ROW["skew_iv"]] = np.nan
    return table, flags


def iv_table(iv: Floats, skew: Floats) -> tuple[Table, Flags]:
    """Return the columns (F, N) and flags (2, N) of one symbol's surfaces.

    Args:
        iv: at the money, taken as a price, (N,).
        skew: what `skew_iv` holds, (N,).
    """
    table, flags = _empty(iv.size)
    sessions = sessions_of_snapshots(iv.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.log(iv)
        _price_columns(x, _NO_BREAKS, table)
    add_squares(x, 0, 0, sessions.rows, sessions.sums)
    write_vol(sessions, table[_ROW["vol30"]], flags[0])
    table[_ROW["skew_iv"]] = skew
    for name in _OF_TRADE:
        table[_ROW[name]] = np.nan
    return table, flags


def _has_turnover(columns: Mapping[str, Floats], offsets: Longs) -> Flags:
    """Say of each row whether its symbol has got a turnover, (N,); (0,) if none has."""
    if "turnover" not in columns:
        return np.zeros(0, np.bool_)
    if len(offsets) == 2:
        return np.ones(offsets[-1], np.bool_)
    total = np.append(0, np.cumsum(~np.isnan(columns["turnover"])))
    return np.repeat(np.diff(total[offsets]) > 0, np.diff(offsets))


def _price_columns(x: Floats, breaks: Longs, table: Table) -> None:
    """Fill what the log price alone tells; rows of `table` belong to the last values of `x`."""
    log_ratio, error = np.empty(table.shape[1]), np.empty(table.shape[1])
    passes.price_columns(
        x,
        breaks,
        nulls.TREND_TABLE,
        table[_ROW["trend_r2"]],
        table[_ROW["trend_r2_null"]],
        table[_ROW["kurtosis"]],
        log_ratio,
        error,
    )
    np.log(log_ratio, out=log_ratio)
    _hurst_columns(log_ratio, error, table[_ROW["hurst"]], table[_ROW["hurst_null"]])


@compiled
def _hurst_columns(log_ratio: Floats, error: Floats, hurst: Table, null: Table) -> None:
    """Write Hurst exponents, and their null as `atlas.nulls.ratio_null`; `error` is used up."""
    for i in range(hurst.size):
        value = log_ratio[i] * _HURST_SCALE
        value = 0.0 if value < 0.0 else value
        hurst[i] = 1.0 if value > 1.0 else value
        place = ((log_ratio[i] - _LOG_FOUR) / error[i] + nulls.REACH) * nulls.STEPS
        error[i] = _LAST if place > _LAST else place
    passes.look_up(nulls.PHI_TABLE, error, null)


def _bar_only_columns(
    block: dict[str, Floats],
    x: Floats,
    has_turnover: Flags,
    breaks: Longs,
    table: Table,
    flags: Flags,
) -> None:
    """Fill what takes more than the close, as `_price_columns`; say which spreads are estimated."""
    high, low, close = block["high"], block["low"], block["close"]
    volume = np.log(block["volume"])
    turnover = volume + (np.log(block["paid"]) if "paid" in block else x)
    if "turnover" in block:
        turnover = np.where(has_turnover, np.log(block["turnover"]), turnover)
    passes.volume_columns(
        volume, turnover, breaks, table[_ROW["volume_z"]], table[_ROW["turnover_z"]]
    )
    passes.range_column(high, low, close, breaks, table[_ROW["atr"]])
    spread = table[_ROW["spread"]]
    if "bid" in block and "ask" in block:
        passes.spread_column(block["bid"], block["ask"], breaks, spread)
    else:
        spread[:] = np.nan
    absent = np.isnan(spread)
    if _worth_estimating(absent, breaks):
        estimate = np.empty_like(spread)
        passes.estimated_spread_column(np.log(high), np.log(low), x, breaks, estimate)
        np.copyto(spread, estimate, where=absent)
        np.logical_and(absent, np.isfinite(estimate), out=flags[1])


def _worth_estimating(absent: Flags, breaks: Longs) -> bool:
    """Say whether a row without a quoted spread may have an estimate: not as a symbol begins."""
    if not absent.any():
        return False
    wanted = absent.copy()
    for row in breaks:  # an estimate takes one bar more than a mean of quotes does
        wanted[max(row, 0) : max(row + 30, 0)] = False
    return bool(wanted.any())


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, _BLOCK):
        yield start, min(start + _BLOCK, n)


def _breaks(offsets: Longs, first: int, start: int, stop: int) -> Longs:
    """Return where other symbols begin among the values from `first` on, as rows from `start`."""
    if offsets.size == 2:
        return _NO_BREAKS
    low, high = np.searchsorted(offsets, (first + 1, stop))
    return offsets[low:high] - start


def _empty(n: int) -> tuple[Table, Flags]:
    table = np.empty((len(FINGERPRINT_COLUMNS), n), dtype=np.float32)
    return table, np.zeros((len(FINGERPRINT_FLAGS), n), dtype=np.bool_)
