"""The fingerprint of a market: eleven causal statistics a bar, the gate's only view of the data.

Row t reads bars up to t. Each formula reads no further back than its window, so that the start of
the data does not show in the result: the last row of a tail of `LOOKBACK` bars equals the same row
of the whole history bit for bit, given `session_sums` for vol30, which alone reaches back 30
sessions. `atlas.fingerprint_table` does the work on arrays; here frames come in and are checked.
"""

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlas.bars import Timeframe, adjusted, check_bars
from atlas.errors import DataError, SurfacesError
from atlas.fingerprint_table import (
    FINGERPRINT_COLUMNS,
    FINGERPRINT_FLAGS,
    Flags,
    Table,
    bar_table,
    iv_table,
)
from atlas.rolling import Floats, compiled
from atlas.session_vol import (
    VOL_SESSIONS,
    KnownSums,
    add_squares,
    begin_sessions,
    session_starts,
    sessions_among,
)
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
    "fingerprint_symbols",
    "fingerprint_tails",
    "latest",
    "session_sums",
]

log = logging.getLogger(__name__)

LOOKBACK = HURST_WINDOW + 1  # bars that a live tail must hold
BRIDGE = 5  # snapshots without an at-the-money quote that the last one known stands for

_SEED_KEYS = ("vol30", "trend_r2", "hurst", "spread", "volume_z")
_COLUMN_NAMES, _FLAG_NAMES = pd.Index(FINGERPRINT_COLUMNS), pd.Index(FINGERPRINT_FLAGS)

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
    raw = check_bars(bars)
    known = {} if session_sums is None else {0: session_sums}
    return _symbols(raw, np.array([0, len(raw)]), timeframe, calendar, known)


def fingerprint_symbols(
    bars: pd.DataFrame,
    offsets: Longs,
    timeframe: str = "1d",
    *,
    calendar: str = "24/7",
    session_sums: Mapping[int, pd.Series] | None = None,
) -> pd.DataFrame:
    """Compute the fingerprint of every bar of many symbols, in the time of one long symbol.

    A call has a fixed cost, which here thousands of symbols share: whoever has many short ones
    lays their bars end to end and asks here, or `fingerprint_tails` with arrays.

    Args:
        bars: as `fingerprint`, the symbols' bars end to end, in order of time within each symbol.
            A symbol that has nothing in the column turnover, or adj_close, has not got that column:
            another may have brought it.
        offsets: symbol i has rows offsets[i] to offsets[i + 1], from 0 to N, (n + 1,).
        timeframe, calendar: as `fingerprint`.
        session_sums: by a symbol's place i; as `fingerprint`.

    Returns:
        As `fingerprint`; each symbol's rows have the bits that they have alone.

    Raises:
        As `fingerprint`; DataError: if the offsets do not run from 0 to N.

    Example:
        Of a long frame with each symbol's rows together, `first = frame["symbol"] !=
        frame["symbol"].shift()` gives `offsets = np.append(np.flatnonzero(first), len(frame))`.
    """
    raw = check_bars(bars)
    return _symbols(raw, _offsets(offsets, len(raw)), timeframe, calendar, session_sums or {})


def fingerprint_tails(
    columns: Mapping[str, Floats],
    offsets: Longs,
    days: Longs,
    sums: Sequence[KnownSums | None],
    *,
    step: Timeframe,
    calendar: str,
) -> tuple[Table, Flags]:
    """Compute the fingerprints of n symbols laid end to end: bit for bit `fingerprint` of each.

    Args:
        columns: high, low, close adjusted, volume, and any of paid (the close as traded), turnover,
            bid, ask; (N,) each. A symbol's turnover, bid or ask may be NaN throughout.
        offsets: symbol i at offsets[i]:offsets[i+1], in ascending time without doubles, (n+1,).
        days: session of each bar, (N,).
        sums: of each symbol, n of them; see `fingerprint`.
        step: length of a bar.
        calendar: names the sessions.

    Returns:
        The columns (F, N) and flags (2, N) of `fingerprint`.
    """
    opens = offsets[:-1][np.diff(offsets) > 0]
    starts = sessions_among(days, opens, np.arange(len(days)))
    known = {place: own for place, own in enumerate(sums) if own is not None}
    sessions = begin_sessions(*starts, offsets, step, calendar, known)
    return bar_table({name: _fixed(values) for name, values in columns.items()}, offsets, sessions)


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
    stamps = _ascending(timestamps, np.array([0, len(timestamps)]))
    table, flags = iv_table(_bridged(atm_iv(grid)), skew_iv(grid))
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
    offsets = np.array([0, len(raw)])
    stamps = _ascending(pd.DatetimeIndex(raw.index), offsets)
    starts = session_starts(stamps, offsets, step, calendar)
    sessions = begin_sessions(*starts, offsets, step, calendar)
    if len(raw):
        x = log_price(_values(adjusted(raw)["close"]))
        add_squares(x, 0, 0, sessions.rows, sessions.sums)
    done = len(sessions.days) - step.is_intraday if len(raw) else 0
    index = pd.Index(sessions.days[:done], name="session")
    return pd.Series(sessions.sums[:done], index=index, name="session_sum")


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


def _symbols(
    raw: pd.DataFrame,
    offsets: Longs,
    timeframe: str,
    calendar: str,
    session_sums: Mapping[int, pd.Series],
) -> pd.DataFrame:
    """Fingerprint checked bars of symbols end to end."""
    step = Timeframe.parse(timeframe)
    stamps = _ascending(pd.DatetimeIndex(raw.index), offsets)
    _warn_of_short_bars(stamps.asi8[: offsets[1]], step)
    starts = session_starts(stamps, offsets, step, calendar)
    if any(not 0 <= place < len(offsets) - 1 for place in session_sums):
        raise DataError(
            f"fingerprint: expected session_sums by a symbol's place, 0 to {len(offsets) - 2}; "
            f"got {sorted(session_sums)[:5]}"
        )
    known = {place: _known(sums) for place, sums in session_sums.items()}
    sessions = begin_sessions(*starts, offsets, step, calendar, known)
    return _frame(*bar_table(_bar_columns(raw, offsets), offsets, sessions), stamps)


def _bar_columns(raw: pd.DataFrame, offsets: Longs) -> dict[str, Floats]:
    prices = adjusted(raw, offsets)
    columns = {name: _values(prices[name]) for name in ("high", "low", "close")}
    if "adj_close" in raw:
        columns["paid"] = _values(raw["close"])
    given = [name for name in ("volume", "turnover", "bid", "ask") if name in raw]
    return columns | {name: _values(raw[name]) for name in given}


def _values(column: pd.Series) -> Floats:
    return _fixed(column.to_numpy(dtype=np.float64))


def _fixed(values: Floats) -> Floats:
    values = np.ascontiguousarray(values).view()
    values.flags.writeable = False  # always, or a pass would be compiled for both
    return values


def _known(sums: pd.Series) -> KnownSums:
    """Bring session sums that were handed in into order, and check what they are."""
    if not isinstance(sums, pd.Series) or not (sums.empty or sums.index.dtype.kind == "i"):
        came = f" by {sums.index.dtype}" if isinstance(sums, pd.Series) else ""
        raise DataError(
            "fingerprint: expected session_sums as `session_sums` returns them, a Series by whole "
            f"days since 1970-01-01; got {type(sums).__name__}{came}"
        )
    ordered = sums.sort_index()
    if not ordered.index.is_unique or (ordered < 0).any():
        raise DataError(
            "fingerprint: expected session_sums of squares, one for a session; got a negative one "
            "or a session twice"
        )
    return KnownSums(ordered.index.to_numpy(np.int64), ordered.to_numpy(np.float64))


def _frame(table: Table, flags: Flags, index: pd.DatetimeIndex) -> pd.DataFrame:
    frames = [
        pd.DataFrame(values.T, index=index, columns=names, copy=False)
        for values, names in ((table, _COLUMN_NAMES), (flags, _FLAG_NAMES))
    ]
    return pd.concat(frames, axis=1)  # shares their memory


def _offsets(offsets: Longs, n: int) -> Longs:
    found = np.asarray(offsets)
    cuts = found.dtype.kind == "i" and found.ndim == 1 and found.size > 1
    if not cuts or found[0] or found[-1] != n or np.any(np.diff(found) < 0):
        raise DataError(
            f"fingerprint: expected offsets that ascend from 0 to {n}, the number of bars; "
            f"got {np.array2string(found, threshold=6)}"
        )
    return found.astype(np.int64)


def _ascending(stamps: pd.DatetimeIndex, offsets: Longs) -> pd.DatetimeIndex:
    row = _first_disorder(stamps.asi8, offsets)
    if row >= 0:
        raise DataError(
            f"fingerprint: expected timestamps in ascending order, each once; row {row} (from 0) "
            f"has {stamps[row]} after {stamps[row - 1]}: sort the bars by timestamp, keep one of a "
            "kind, and give symbols one at a time (or `fingerprint_symbols` their offsets)"
        )
    return stamps


def _warn_of_short_bars(times: Longs, step: Timeframe) -> None:
    """Warn of bars that lie closer than half their length, as the default length is a day.

    Args:
        times: of one symbol's bars, microseconds, (N,).
        step: the length that was given.
    """
    last = min(len(times) - 1, LOOKBACK)
    seconds = 1e-6 * float(times[last] - times[0]) / last if last > 0 else math.inf
    if seconds < 0.5 * step.seconds:
        log.warning(
            "fingerprint: bars of %s were expected, but they come every %.0f s; vol30 is wrong "
            "unless timeframe says how long they are",
            step.name,
            seconds,
        )


@compiled
def _first_disorder(times: Longs, offsets: Longs) -> int:
    for symbol in range(offsets.size - 1):
        own = times[offsets[symbol] : offsets[symbol + 1]]
        new, old, wrong = own[1:], own[:-1], 0
        for i in range(new.size):  # counted to the end, so that many rows are seen at once
            wrong += new[i] <= old[i]
        if wrong:
            return int(offsets[symbol] + 1 + np.flatnonzero(new <= old)[0])
    return -1
