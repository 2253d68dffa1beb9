"""What a calendar expects of one symbol and what came: missing bars, bars at odd hours, staleness.

Nothing is ever filled in. A session is reported if it lacks a bar or holds one that the calendar
does not know; between the first bar and the last, so that a symbol that was listed late or ended
early lacks nothing. Snapshots of surfaces are taken at any hour of their day.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, session_days, session_ranks, sessions

__all__ = [
    "missing_quotes",
    "off_session",
    "sessions_behind",
    "sessions_passed",
    "troubled_sessions",
]

_USUAL = 0.95  # of the snapshots have a quote that its absence is worth a line
_DAY = pd.Timedelta(days=1)


def off_session(
    times: pd.DatetimeIndex, calendar: str, timeframe: Timeframe, *, daily: bool
) -> NDArray[np.bool_]:
    """Return which of N bars the calendar does not expect, (N,).

    Args:
        daily: whether a bar stands for its day whatever its hour, as a surface does.
    """
    there = times.normalize() if daily else times
    return ~_among(there.as_unit("us").asi8, _expected(there, calendar, timeframe))


def troubled_sessions(
    times: pd.DatetimeIndex, calendar: str, timeframe: Timeframe, *, daily: bool
) -> pd.DataFrame:
    """Return the sessions whose bars are not those expected, in order.

    Returns:
        Columns session (date), expected, missing and unexpected (bars), and first, the time of the
        first bar that is missing or unexpected.
    """
    there = pd.DatetimeIndex(times.unique()).sort_values()
    there = pd.DatetimeIndex(there.normalize().unique()) if daily else there
    known = there.as_unit("us").asi8
    expected = _expected(there, calendar, timeframe)
    lacking, odd = expected[~_among(expected, known)], known[~_among(known, expected)]
    moments = np.concatenate([lacking, odd]).astype("datetime64[us]")
    both = pd.DatetimeIndex(moments).tz_localize("UTC")
    events = pd.DataFrame(
        {
            "session": session_days(both, calendar, timeframe),
            "missing": np.arange(len(both)) < len(lacking),
            "moment": moments.astype(np.int64),
        }
    ).groupby("session")
    missing, first = events["missing"].sum().to_numpy(np.int64), events["moment"].min()
    days = pd.DatetimeIndex(first.index.to_numpy(np.int64).astype("datetime64[D]")).as_unit("us")
    return pd.DataFrame(
        {
            "session": days,
            "expected": [_between(calendar, timeframe, day, known) for day in days],
            "missing": missing,
            "unexpected": events.size().to_numpy(np.int64) - missing,
            "first": pd.DatetimeIndex(first.to_numpy().astype("datetime64[us]"), tz="UTC"),
        }
    ).astype({"expected": np.int64})


def missing_quotes(quotes: pd.DataFrame) -> pd.DataFrame:
    """Return the snapshots that lack quotes which the symbol usually has.

    A tenor and delta is usual if 95 % of the snapshots have it.

    Returns:
        Columns timestamp and missing_quotes, in order of time.
    """
    place = quotes["tenor"].astype(np.int64) * 1000 + (quotes["delta"] * 100).round()
    snapshots = quotes["timestamp"].nunique()
    pairs = pd.DataFrame({"timestamp": quotes["timestamp"], "place": place}).drop_duplicates()
    count = pairs.groupby("place")["timestamp"].size()
    usual = count.index[count >= _USUAL * snapshots]
    have = pairs[pairs["place"].isin(usual)].groupby("timestamp").size()
    every = pd.DatetimeIndex(np.sort(quotes["timestamp"].unique()))
    missing = len(usual) - have.reindex(every, fill_value=0)
    missing = missing[missing > 0]
    return pd.DataFrame(
        {"timestamp": missing.index, "missing_quotes": missing.to_numpy(np.int64)}
    ).reset_index(drop=True)


def sessions_behind(
    last: pd.Timestamp, as_of: pd.Timestamp, calendar: str, timeframe: Timeframe
) -> int:
    """Return how many whole sessions a night knows of after the one of the last bar.

    Counted as `sessions_passed` does, from the session of that bar.

    Example:
        A daily bar of Friday 2026-11-13, in the night of Friday 2026-11-20, is 4 sessions behind:
        16, 17, 18 and 19 November.
    """
    day = session_days(pd.DatetimeIndex([last]), calendar, timeframe)
    return int(sessions_passed(day, as_of, calendar, timeframe)[0])


def sessions_passed(
    day: NDArray[np.int64], now: pd.Timestamp, calendar: str, timeframe: Timeframe
) -> NDArray[np.int64]:
    """Return how many whole sessions lie between those of some bars and the day of a moment, (B,).

    A bar longer than a day has no successor before as much time again, which is not counted.

    Args:
        day: of the bars' sessions, days since 1970-01-01, (B,).
        now: with a zone.
        calendar: 24/7 or a name known to exchange_calendars.
        timeframe: of the bars.
    """
    length = max(timeframe.delta // _DAY, 1)
    today = now.value // _DAY.value  # both in nanoseconds
    ranks = session_ranks(calendar, np.append(day + 2 * length - 1, today))
    return np.asarray(np.maximum(ranks[-1] - ranks[:-1], 0))


def _expected(there: pd.DatetimeIndex, calendar: str, timeframe: Timeframe) -> NDArray[np.int64]:
    """Return the opens that a calendar expects from the first to the last of some bars."""
    first, last = there.min(), there.max()
    days = sessions(calendar, first.normalize(), last.normalize() + _DAY)
    opens = bar_opens(calendar, timeframe, days).as_unit("us").asi8
    low, high = pd.DatetimeIndex([first, last]).as_unit("us").asi8
    return np.asarray(opens[(opens >= low) & (opens <= high)])


def _between(
    calendar: str, timeframe: Timeframe, day: pd.Timestamp, known: NDArray[np.int64]
) -> int:
    """Count the bars expected in one session, from the first known bar to the last."""
    bars = bar_opens(calendar, timeframe, pd.DatetimeIndex([day])).as_unit("us").asi8
    return int(((bars >= known[0]) & (bars <= known[-1])).sum())


def _among(values: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which values are among others, which are in order; (N,)."""
    if not len(others):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(others, values), len(others) - 1)
    return np.asarray(others[place] == values)
