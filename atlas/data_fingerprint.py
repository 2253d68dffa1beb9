"""The fingerprint of a market: eleven causal statistics a bar, the gate's only view of the data.

Row t reads bars up to t. A long history is worked through in blocks that stay in the processor's
cache; each formula reads no further back than its window, so that neither the blocks nor the start
of the data show in the result: the last row of a tail of `LOOKBACK` bars equals the same row of the
whole history bit for bit, given `session_sums` for vol30, which alone reaches back 30 sessions.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlas import formulas, nulls, passes
from atlas.bars import Timeframe, adjusted, check_bars
from atlas.calendars import has_close, session_days
from atlas.errors import DataError, SurfacesError
from atlas.rolling import Floats, compile_time_told, compiled
from atlas.stats import HURST_WINDOW, log_price
from atlas.surfaces import atm_iv, skew_iv

__all__ = [
    "BRIDGE",
    "FINGERPRINT_COLUMNS",
    "FINGERPRINT_FLAGS",
    "LOOKBACK",
    "VOL_SESSIONS",
    "fingerprint",
    "fingerprint_surfaces",
    "latest",
    "session_sums",
]

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
LOOKBACK = HURST_WINDOW + 1  # bars that a live tail must hold
VOL_SESSIONS = 30
BRIDGE = 5  # snapshots without an at-the-money quote that the last one known stands for

_BLOCK = 12_288  # bars worked on at a time
_SEED_KEYS = ("vol30", "trend_r2", "hurst", "spread", "volume_z")
_OF_TRADE = ("spread", "volume_z", "turnover_z", "atr")  # no surface has these
_LOG_FOUR = math.log(4.0)
_HURST_SCALE = 0.25 / math.log(2.0)
_ROW = {name: row for row, name in enumerate(FINGERPRINT_COLUMNS)}

Table = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


def fingerprint(
    bars: pd.DataFrame,
    timeframe: str = "1d",
    *,
    calendar: str = "24/7",
    session_sums: pd.Series | None = None,
) -> pd.DataFrame:
    """Compute the fingerprint of every bar.

    Args:
        bars: open, high, low, close, optional volume, bid, ask, turnover, adj_close, in order of
            `timestamp` (column or index, UTC open of the bar). Adjusted by adj_close here.
        timeframe: length of a bar, such as `1min`.
        calendar: names the sessions of vol30, such as `XNYS`.
        session_sums: what `session_sums` returned for sessions before these bars (or that they
            hold only in part), so that a tail of `LOOKBACK` bars has the vol30 of a long history.

    Returns:
        One row per bar, index as `bars`, float32, NaN where undefined:

        - vol30: root mean of the squared log returns' sums of the last 30 completed sessions,
          overnight included, fraction per day. A daily bar completes its session; an intraday bar
          reads the sessions before its own. Sessions with an unknown return do not count; with
          fewer than 30 it is the mean of those there are, and `vol30_short` is set;
        - trend_r2: R² of log close on time, 30 bars; trend_r2_null: P(a random walk's ≤ this);
        - hurst: see `atlas.stats.hurst_exp`, 256 returns; hurst_null: P(a random walk's ≤ this);
        - spread: mean of 30 bars, fraction; `spread_estimated` where it is not from bid and ask;
        - volume_z, turnover_z: z-score of the log in the last 30 bars (turnover is close × volume
          where it is not given; a volume of 0 has no log);
        - atr: mean true range of 14 bars over close; kurtosis: Pearson, 30 log returns;
        - skew_iv: NaN for bars.

    Raises:
        BarsError: if a column is missing; DataError: if timestamps do not ascend.
    """
    step = Timeframe.parse(timeframe)
    raw = check_bars(bars)
    stamps = _ascending(pd.DatetimeIndex(raw.index))
    columns = _bar_columns(raw)
    tally = _Tally.begin(session_sums, _session_starts(stamps, calendar, step), step, calendar)
    table, flags = _empty(len(raw))
    with compile_time_told("fingerprint", passes.ratio_256):
        for start, stop in _blocks(len(raw)):
            first = max(0, start - HURST_WINDOW)
            block = {name: values[first:stop] for name, values in columns.items()}
            x = log_price(block["close"])
            rows, said = table[:, start:stop], flags[:, start:stop]
            _session_vol(x, start - first, tally, rows[_ROW["vol30"]], said[0])
            _price_columns(x, rows)
            _bar_only_columns(block, x, rows, said)
    table[_ROW["skew_iv"]] = np.nan
    return _frame(table, flags, stamps)


def fingerprint_surfaces(timestamps: pd.DatetimeIndex, grid: Floats) -> pd.DataFrame:
    """Compute the fingerprint of every surface, with the columns of `fingerprint`.

    Args:
        timestamps: of the snapshots, ascending, (N,); each completes a session.
        grid: implied volatility by tenor and strike, fraction, (N, 3, 9).

    Returns:
        vol30, trend_r2, hurst, kurtosis and the nulls of the nearest tenor's at-the-money iv taken
        as a price. The last one known stands for up to `BRIDGE` missing ones, as one hole would
        leave 256 rows without a Hurst exponent; a carried quote is no move, and the next return
        holds all of it. skew_iv, which is not carried, is the nearest tenor's 25-delta put iv −
        call iv as a fraction (.01 is one vol point).
        The rest is NaN: a volatility index would pass for crypto.

    Raises:
        SurfacesError: if the lengths differ; DataError: if timestamps do not ascend.
    """
    if grid.ndim != 3 or len(timestamps) != grid.shape[0]:
        raise SurfacesError(
            f"fingerprint_surfaces: expected a grid ({len(timestamps)}, tenors, strikes), "
            f"one surface a timestamp; got {grid.shape}"
        )
    stamps = _ascending(timestamps)
    x = log_price(_bridged(atm_iv(grid)))
    table, flags = _empty(len(stamps))
    places = np.arange(len(stamps), dtype=np.int64)
    tally = _Tally.empty((places, places), completes=True)
    _session_vol(x, 0, tally, table[_ROW["vol30"]], flags[0])
    _price_columns(x, table)
    table[_ROW["skew_iv"]] = skew_iv(grid)
    for name in _OF_TRADE:
        table[_ROW[name]] = np.nan
    return _frame(table, flags, stamps)


def latest(df: pd.DataFrame, timeframe: str = "1d") -> dict[str, float]:
    """Return the newest bar's vol30, trend_r2, hurst, spread and volume_z, as the seed's `fp`."""
    last = fingerprint(df, timeframe).iloc[-1] if len(df) else pd.Series(dtype=float)
    return {key: float(last.get(key, np.nan)) for key in _SEED_KEYS}


def session_sums(bars: pd.DataFrame, timeframe: str = "1d", *, calendar: str = "24/7") -> pd.Series:
    """Sum the squared log returns of each completed session, overnight included.

    Args:
        bars, timeframe, calendar: as `fingerprint`.

    Returns:
        Sums by session (int64 days since 1970-01-01, ascending), NaN where a return of the session
        is unknown, as in the first. The last session of intraday bars may go on and is left out.
        The last `VOL_SESSIONS` are what a live tail needs.
    """
    step = Timeframe.parse(timeframe)
    raw = check_bars(bars)
    stamps = _ascending(pd.DatetimeIndex(raw.index))
    days = session_days(stamps, calendar, step)
    moves = formulas.differences(log_price(_values(adjusted(raw)["close"])))
    names, first = np.unique(days, return_index=True)
    sums = np.add.reduceat(moves * moves, first) if len(days) else np.empty(0)
    done = len(names) - step.is_intraday if len(names) else 0
    index = pd.Index(names[:done], name="session")
    return pd.Series(_in_order(moves, first, sums)[:done], index=index, name="session_sum")


class _Tally(NamedTuple):
    """What vol30 remembers between blocks."""

    total: Floats  # sum of the session under way, (1,)
    place: Longs  # rows done, and sessions begun, (2,)
    starts: Longs  # row at which each session begins, and a last one that never comes
    names: Longs  # day of each session
    ring: Floats  # sums of the last 30 sessions, oldest first, NaN where unknown
    known_days: Longs  # sessions whose sums were handed in
    known_sums: Floats
    completes: bool  # whether a bar is a whole session
    days_per_bar: float  # 1, or a week's sessions

    @classmethod
    def begin(
        cls, sums: pd.Series | None, sessions: tuple[Longs, Longs], step: Timeframe, calendar: str
    ) -> "_Tally":
        week = step.seconds / (7 * 86_400)
        tally = cls.empty(sessions, completes=not step.is_intraday)
        if week * 7 > 1:
            tally = tally._replace(days_per_bar=week * (5 if has_close(calendar) else 7))
        if sums is None or sums.empty or tally.names.size == 0:
            return tally
        sums = sums.sort_index()
        names, values = sums.index.to_numpy(np.int64), sums.to_numpy(np.float64)
        before = values[names < tally.names[0]][-VOL_SESSIONS:]
        tally.ring[VOL_SESSIONS - before.size :] = before
        return tally._replace(known_days=names, known_sums=values)

    @classmethod
    def empty(cls, sessions: tuple[Longs, Longs], *, completes: bool) -> "_Tally":
        starts = np.append(sessions[0], np.iinfo(np.int64).max)
        ring, none = np.full(VOL_SESSIONS, np.nan), np.empty(0)
        place, days = np.zeros(2, np.int64), none.astype(np.int64)
        return cls(np.zeros(1), place, starts, sessions[1], ring, days, none, completes, 1.0)


def _session_starts(
    stamps: pd.DatetimeIndex, calendar: str, step: Timeframe
) -> tuple[Longs, Longs]:
    """Return the row at which each session begins, and the session's day.

    Time ascends, so rows between two of one session are of that session. In a long intraday history
    every 64th row is looked up, and all rows only where the session changes.
    """
    n, stride = len(stamps), 64
    rows = np.arange(0, n, stride if step.is_intraday and n > _BLOCK else 1)
    if rows.size < n:
        marks = session_days(stamps[np.append(rows, n - 1)], calendar, step)
        changes = rows[np.flatnonzero(np.diff(marks))]
        rows = np.append(0, (changes[:, None] + np.arange(1, stride + 1)).ravel())
        rows = rows[rows < n]
        stamps = stamps[rows]
    days = session_days(stamps, calendar, step)
    new = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
    return rows[new], days[new]


@compiled
def _session_vol(x: Floats, start: int, tally: _Tally, out: Table, short: Flags) -> None:
    ring, total, row, session = tally.ring, tally.total[0], tally.place[0], tally.place[1]
    value, count = _root_mean(ring, tally.days_per_bar)
    t = start
    while t < x.size:
        if row == tally.starts[session]:
            if session > 0 and not tally.completes:
                _push(ring, tally.names[session - 1], total, tally.known_days, tally.known_sums)
                value, count = _root_mean(ring, tally.days_per_bar)
            total, session = 0.0, session + 1
        stop = min(x.size, t + tally.starts[session] - row)
        for i in range(t, stop):
            move = x[i] - x[i - 1] if i > 0 else np.nan
            total += move * move
        if tally.completes:
            _push(ring, tally.names[session - 1], total, tally.known_days, tally.known_sums)
            value, count = _root_mean(ring, tally.days_per_bar)
        out[t - start : stop - start] = value
        short[t - start : stop - start] = count < ring.size
        row, t = row + stop - t, stop
    tally.total[0], tally.place[0], tally.place[1] = total, row, session


@compiled
def _bridged(iv: Floats) -> Floats:
    """Carry the last finite positive iv over up to `BRIDGE` rows without one: (N,) to (N,)."""
    out, last, age = iv.copy(), np.nan, 0
    for t in range(iv.size):
        if np.isfinite(iv[t]) and iv[t] > 0.0:
            last, age = iv[t], 0
        else:
            age += 1
            out[t] = last if age <= BRIDGE else np.nan
    return out


@compiled
def _push(ring: Floats, day: np.int64, total: float, known_days: Longs, known_sums: Floats) -> None:
    place = np.searchsorted(known_days, day)
    if place < known_days.size and known_days[place] == day:
        total = known_sums[place]
    for i in range(ring.size - 1):
        ring[i] = ring[i + 1]
    ring[-1] = total


@compiled
def _root_mean(ring: Floats, days_per_bar: float) -> tuple[float, int]:
    total, count = 0.0, 0
    for value in ring:
        if np.isfinite(value):
            total, count = total + value, count + 1
    return (np.sqrt(total / (count * days_per_bar)) if count else np.nan), count


@compiled
def _in_order(moves: Floats, first: Longs, out: Floats) -> Floats:
    """Sum squared moves from each `first` to the next, one after the other as `_session_vol`."""
    for k in range(first.size):
        stop = first[k + 1] if k + 1 < first.size else moves.size
        total = 0.0
        for t in range(first[k], stop):
            total += moves[t] * moves[t]
        out[k] = total
    return out


def _price_columns(x: Floats, table: Table) -> None:
    """Fill what the log price alone tells; rows of `table` belong to the last values of `x`."""
    passes.trend_30(x, nulls.TREND_TABLE, table[_ROW["trend_r2"]], table[_ROW["trend_r2_null"]])
    passes.kurtosis_30(formulas.differences(x), table[_ROW["kurtosis"]])
    ratio, error = passes.ratio_256(x, table.shape[1])
    with np.errstate(divide="ignore"):
        log_ratio = np.log(ratio)
    _hurst_columns(log_ratio, error, table[_ROW["hurst"]], table[_ROW["hurst_null"]])


@compiled
def _hurst_columns(log_ratio: Floats, error: Floats, hurst: Table, null: Table) -> None:
    for i in range(hurst.size):
        value = log_ratio[i] * _HURST_SCALE
        value = 0.0 if value < 0.0 else value
        hurst[i] = 1.0 if value > 1.0 else value
    null[:] = nulls.ratio_null(log_ratio - _LOG_FOUR, error)


def _bar_only_columns(block: dict[str, Floats], x: Floats, table: Table, flags: Flags) -> None:
    high, low, close = block["high"], block["low"], block["close"]
    passes.atr_14(formulas.true_range(high, low, close), close, table[_ROW["atr"]])
    volume = log_price(block["volume"])
    if "turnover" in block:
        turnover = log_price(block["turnover"])
    else:
        turnover = volume + (log_price(block["paid"]) if "paid" in block else x)
    passes.zscore_30(volume, table[_ROW["volume_z"]])
    passes.zscore_30(turnover, table[_ROW["turnover_z"]])
    spread = table[_ROW["spread"]]
    spread[:] = np.nan
    if "bid" in block and "ask" in block:
        passes.mean_30(formulas.relative_spread(block["bid"], block["ask"]), spread)
    absent = np.isnan(spread)
    if absent.any():
        estimate = np.empty_like(spread)
        passes.mean_30(formulas.corwin_schultz(log_price(high), log_price(low), x), estimate)
        np.copyto(spread, estimate, where=absent)
        np.logical_and(absent, np.isfinite(estimate), out=flags[1])


def _bar_columns(raw: pd.DataFrame) -> dict[str, Floats]:
    prices = adjusted(raw)
    columns = {name: _values(prices[name]) for name in ("high", "low", "close")}
    if "adj_close" in raw:
        columns["paid"] = _values(raw["close"])
    given = [name for name in ("volume", "turnover", "bid", "ask") if name in raw]
    return columns | {name: _values(raw[name]) for name in given}


def _values(column: pd.Series) -> Floats:
    return np.ascontiguousarray(column.to_numpy(dtype=np.float64))


def _blocks(n: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, _BLOCK):
        yield start, min(start + _BLOCK, n)


def _empty(n: int) -> tuple[Table, Flags]:
    table = np.empty((len(FINGERPRINT_COLUMNS), n), dtype=np.float32)
    return table, np.zeros((len(FINGERPRINT_FLAGS), n), dtype=np.bool_)


def _frame(table: Table, flags: Flags, index: pd.DatetimeIndex) -> pd.DataFrame:
    frames = [
        pd.DataFrame(values.T, index=index, columns=list(names), copy=False)
        for values, names in ((table, FINGERPRINT_COLUMNS), (flags, FINGERPRINT_FLAGS))
    ]
    return pd.concat(frames, axis=1)  # shares their memory


def _ascending(stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
    if not stamps.is_monotonic_increasing or not stamps.is_unique:
        raise DataError("fingerprint: expected timestamps in ascending order, each once: sort them")
    return stamps
