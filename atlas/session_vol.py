"""vol30: sums of squared returns by session, and the root mean of the last 30 of them.

Symbols lie end to end, and every session is one symbol's. Squares are added one after the other in
order of time, whatever the blocks that they come in, so that a session has one sum, to the last
bit. The first session of a symbol lacks its first return and is unknown, unless its sum is handed
in; an unknown session does not count among the 30.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlas.bars import Timeframe
from atlas.calendars import has_close, session_days
from atlas.rolling import Floats, compiled

__all__ = [
    "VOL_SESSIONS",
    "KnownSums",
    "Sessions",
    "add_squares",
    "begin_sessions",
    "session_starts",
    "sessions_among",
    "sessions_of_snapshots",
    "write_vol",
]

VOL_SESSIONS = 30

_STRIDE = 64  # rows between two look-ups of a long history's sessions

Flags = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]
Row = npt.NDArray[np.float32]


class KnownSums(NamedTuple):
    """Sums of sessions that were handed in.

    Attributes:
        days: since 1970-01-01, ascending, (S,).
        sums: of squared log returns, NaN where unknown, (S,).
    """

    days: Longs
    sums: Floats


class Sessions(NamedTuple):
    """The sessions of n symbols, end to end, and what is known of them.

    Attributes:
        rows: (S + 1,) row at which each begins, and the number of rows.
        days: (S,) since 1970-01-01.
        symbols: (n + 1,) place of each symbol's first session, and S.
        sums: (S,) of squared log returns, filled by `add_squares`; NaN where one is unknown.
        before: (n, 30) sums of the sessions before each symbol's first, oldest first, or NaN.
        handed: (S,) sums that were handed in, NaN elsewhere.
        is_handed: (S,).
        completes: whether a bar is a whole session.
        days_per_bar: 1, or a week's sessions.
    """

    rows: Longs
    days: Longs
    symbols: Longs
    sums: Floats
    before: Floats
    handed: Floats
    is_handed: Flags
    completes: bool
    days_per_bar: float


def begin_sessions(
    rows: Longs,
    days: Longs,
    offsets: Longs,
    step: Timeframe,
    calendar: str,
    known: Mapping[int, KnownSums] | None = None,
) -> Sessions:
    """Begin the sums of symbols end to end.

    Args:
        rows, days: what `session_starts` returned, (S,) each.
        offsets: symbol i is at offsets[i]:offsets[i + 1], (n + 1,).
        step, calendar: of the bars.
        known: sums of sessions before a symbol's bars or held by them only in part, by the
            symbol's place.
    """
    symbols = np.searchsorted(rows, offsets)
    week = step.seconds / (7 * 86_400)
    per_bar = week * (5 if has_close(calendar) else 7) if week * 7 > 1 else 1.0
    found = _unknown(np.append(rows, offsets[-1]), days, symbols, not step.is_intraday, per_bar)
    for place, (names, sums) in (known or {}).items():
        own = slice(symbols[place], symbols[place + 1])
        if not names.size or own.start == own.stop:
            continue
        earlier = sums[: np.searchsorted(names, days[own.start])][-VOL_SESSIONS:]
        found.before[place, VOL_SESSIONS - earlier.size :] = earlier
        match = np.minimum(np.searchsorted(names, days[own]), names.size - 1)
        found.is_handed[own] = names[match] == days[own]
        found.handed[own] = sums[match]
    return found


def sessions_of_snapshots(n: int) -> Sessions:
    """Return the sessions of one symbol's N snapshots, each of which completes its own."""
    rows = np.arange(n + 1, dtype=np.int64)
    return _unknown(rows, rows[:-1], rows[[0, -1]], True, 1.0)


def _unknown(
    rows: Longs, days: Longs, symbols: Longs, completes: bool, days_per_bar: float
) -> Sessions:
    sums, count = np.zeros(len(days)), len(symbols) - 1
    sums[symbols[:-1][np.diff(symbols) > 0]] = np.nan
    before, handed = np.full((count, VOL_SESSIONS), np.nan), np.full(len(days), np.nan)
    is_handed = np.zeros(len(days), np.bool_)
    return Sessions(rows, days, symbols, sums, before, handed, is_handed, completes, days_per_bar)


def session_starts(
    stamps: pd.DatetimeIndex, offsets: Longs, step: Timeframe, calendar: str
) -> tuple[Longs, Longs]:
    """Return the row at which each session of each symbol begins, and its day, (S,) each.

    Args:
        stamps: of the bars, ascending within each symbol, (N,).
        offsets, step, calendar: as `begin_sessions`.

    Time ascends within a symbol, so rows between two of one session are of that session. In a long
    intraday history every 64th row is looked up, and all rows only where the session changes or
    another symbol begins.
    """
    n, opens = len(stamps), offsets[:-1][np.diff(offsets) > 0]
    if not step.is_intraday or n <= _STRIDE * _STRIDE:
        return sessions_among(session_days(stamps, calendar, step), opens, np.arange(n))
    marks = np.append(np.arange(0, n, _STRIDE), n - 1)
    seen = session_days(stamps[marks], calendar, step)
    changes = np.union1d(np.flatnonzero(np.diff(seen)), np.maximum(opens - 1, 0) // _STRIDE)
    rows = np.append(0, (changes[:, None] * _STRIDE + np.arange(1, _STRIDE + 1)).ravel())
    rows = rows[rows < n]
    return sessions_among(session_days(stamps[rows], calendar, step), opens, rows)


def sessions_among(days: Longs, opens: Longs, rows: Longs) -> tuple[Longs, Longs]:
    """Return where the day of some rows changes or a symbol begins, and the day there: (S,) each.

    Args:
        days: of the rows, (R,).
        opens: rows at which a symbol begins; they are among `rows`.
        rows: ascending, (R,).
    """
    is_new = np.diff(days, prepend=days[:1] - 1) != 0
    is_new[np.searchsorted(rows, opens)] = True
    return rows[is_new], days[is_new]


@compiled
def add_squares(x: Floats, back: int, row: int, rows: Longs, sums: Floats) -> None:
    """Add the squared moves of x[back:], which are rows from `row` on, to their sessions' sums.

    Args:
        x: log prices. The first has no move, and its session an unknown sum from the start.
        back: values before the first of those rows.
        rows, sums: of `Sessions`.
    """
    session = np.searchsorted(rows, row, side="right") - 1
    t = back
    while t < x.size:
        stop = min(x.size, back + rows[session + 1] - row)
        total = sums[session]
        for i in range(max(t, 1), stop):
            move = x[i] - x[i - 1]
            total += move * move
        sums[session] = total
        session, t = session + 1, stop


def write_vol(sessions: Sessions, out: Row, short: Flags) -> None:
    """Write vol30 of every row, and whether it stands on fewer than 30 sessions: twice (N,)."""
    sums = np.where(sessions.is_handed, sessions.handed, sessions.sums)
    _write(
        sessions.rows,
        sessions.symbols,
        sums,
        sessions.before,
        sessions.completes,
        sessions.days_per_bar,
        out,
        short,
    )


@compiled
def _write(
    rows: Longs,
    symbols: Longs,
    sums: Floats,
    before: Floats,
    completes: bool,
    days_per_bar: float,
    out: Row,
    short: Flags,
) -> None:
    for symbol in range(before.shape[0]):
        first, last = symbols[symbol], symbols[symbol + 1]
        line = np.empty(VOL_SESSIONS + last - first)
        line[:VOL_SESSIONS] = before[symbol]
        line[VOL_SESSIONS:] = sums[first:last]
        total = np.zeros(last - first + 1)
        count = np.zeros(last - first + 1)
        for j in range(VOL_SESSIONS):  # oldest first, many sessions at once
            for i in range(total.size):
                value = line[i + j]
                seen = value - value == 0.0
                total[i] += value if seen else 0.0
                count[i] += 1.0 if seen else 0.0
        own = 1 if completes else 0  # whether a session's rows know its own sum
        for k in range(first, last):
            n = count[k - first + own]
            value = np.sqrt(total[k - first + own] / (n * days_per_bar)) if n > 0.0 else np.nan
            out[rows[k] : rows[k + 1]] = value
            short[rows[k] : rows[k + 1]] = n < VOL_SESSIONS
