"""Trading sessions: which days, from when to when, and which session a bar belongs to.

Sessions, early closes and daylight saving come from exchange_calendars, built over fixed years
rather than around today, so that a result does not depend on the day it is computed. Outside a
calendar's own bound every weekday is a session with the hours of the nearest known one, and a
warning says so. "24/7" has a session every UTC day.

exchange_calendars gives CMES sessions of 24 hours; the daily maintenance halt, the last hour of a
full session, is taken off here, which leaves 46 half-hour bars.
"""

import logging
from functools import cache
from typing import NamedTuple

import exchange_calendars
import numpy as np
import numpy.typing as npt
import pandas as pd
from exchange_calendars.errors import InvalidCalendarName

from atlas.bars import Timeframe
from atlas.errors import ConfigError

__all__ = [
    "bar_closes",
    "bar_opens",
    "has_close",
    "session_days",
    "session_days_at",
    "session_ranks",
    "sessions",
]

log = logging.getLogger(__name__)

ALWAYS = "24/7"
_FIRST, _LAST = pd.Timestamp("1990-01-01"), pd.Timestamp("2040-12-31")  # asked of a calendar
_EARLIEST, _LATEST = pd.Timestamp("1970-01-01"), pd.Timestamp("2100-12-31")  # weekdays up to here
_HALTS = {"CMES": pd.Timedelta(hours=1)}  # at the end of a session of 24 hours
_DAY_US = 86_400_000_000

Longs = npt.NDArray[np.int64]


class _Table(NamedTuple):
    """Sessions of one calendar in order; times are microseconds UTC, days count from 1970."""

    day: Longs
    open: Longs
    pause: Longs  # start of the midday break; the close where there is none
    resume: Longs  # end of the midday break; the close where there is none
    close: Longs
    first: int  # the first and last days that the calendar itself knows
    last: int


def session_days(timestamps: pd.DatetimeIndex, calendar: str, timeframe: Timeframe) -> Longs:
    """Return the session each bar belongs to, as days since 1970-01-01, (N,).

    A daily or weekly bar belongs to its own date. An intraday bar belongs to the last session that
    opened at or before it, so that a bar at an odd hour has a session too.

    Example:
        A CMES bar opening on Sunday 2026-11-15 at 23:00 UTC belongs to Monday 2026-11-16.
    """
    return session_days_at(_microseconds(timestamps), calendar, timeframe)


def session_days_at(times: Longs, calendar: str, timeframe: Timeframe) -> Longs:
    """Return what `session_days` does, of bars that open at `times`, microseconds UTC, (N,)."""
    if calendar == ALWAYS or not timeframe.is_intraday:
        return times // _DAY_US
    table = _table(calendar)
    place = np.searchsorted(table.open, times, side="right") - 1
    days = table.day[np.maximum(place, 0)]
    _warn_outside(calendar, table, days)
    return days


def sessions(calendar: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
    """Return the dates of the sessions from `start` to `end`, both included, without a zone."""
    first, last = pd.Timestamp(start).tz_localize(None), pd.Timestamp(end).tz_localize(None)
    if calendar == ALWAYS:
        return pd.date_range(first.ceil("D"), last.floor("D"), freq="D", unit="us")
    table = _table(calendar)
    days = table.day[
        np.searchsorted(table.day, first.ceil("D").value // (1000 * _DAY_US)) : np.searchsorted(
            table.day, last.floor("D").value // (1000 * _DAY_US), side="right"
        )
    ]
    _warn_outside(calendar, table, days)
    return pd.DatetimeIndex(days.astype("datetime64[D]").astype("datetime64[us]"))


def session_ranks(calendar: str, days: Longs) -> Longs:
    """Return the number of each session in its calendar's order, (N,): neighbours differ by one.

    Args:
        calendar: 24/7 or a name known to exchange_calendars.
        days: since 1970-01-01; one without a session has the number of the next one.
    """
    return days if calendar == ALWAYS else np.searchsorted(_table(calendar).day, days)


def bar_opens(calendar: str, timeframe: Timeframe, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return the opens of the bars expected in the sessions `days`, in order, UTC.

    Args:
        days: dates without a zone, as `sessions` gives them; dates without a session have no bars.

    Returns:
        Daily bars open at midnight of their date, weekly ones at that of their Monday; intraday
        bars step from the open, and again from the end of a midday break, to the close.
    """
    day = _microseconds(days) // _DAY_US
    if calendar != ALWAYS:
        table = _table(calendar)
        rows = np.flatnonzero(np.isin(table.day, day))
        day = table.day[rows]
        _warn_outside(calendar, table, day)
    if not timeframe.is_intraday:
        weekly = timeframe.seconds * 1_000_000 > _DAY_US
        monday = np.unique(day - (day + 3) % 7)  # 1970-01-01 was a Thursday
        return _utc((monday if weekly else day) * _DAY_US)
    if calendar == ALWAYS:
        return _utc(_steps(day * _DAY_US, (day + 1) * _DAY_US, timeframe))
    start = np.stack([table.open[rows], table.resume[rows]], axis=1).ravel()
    end = np.stack([table.pause[rows], table.close[rows]], axis=1).ravel()
    return _utc(_steps(start, end, timeframe))


def bar_closes(timestamps: pd.DatetimeIndex, calendar: str, timeframe: Timeframe) -> Longs:
    """Return when each bar closed, microseconds UTC since 1970, (N,).

    An intraday bar closes its length after its open. A daily bar closes with its session, hours
    before the midnight at which a night counts it; a weekly bar with the last session of its seven
    days. On a date without a session, and under 24/7, that is the end of its last day.

    Example:
        The XNYS bar of 2023-11-24, a day that closed early, closed at 18:00 UTC.
    """
    times = _microseconds(timestamps)
    end: Longs = times + timeframe.seconds * 1_000_000
    if calendar == ALWAYS or timeframe.is_intraday:
        return end
    table, day = _table(calendar), times // _DAY_US
    place = np.searchsorted(table.day, end // _DAY_US) - 1
    is_session = table.day[np.maximum(place, 0)] >= day
    _warn_outside(calendar, table, day)
    return np.where(is_session, table.close[np.maximum(place, 0)], end)


def has_close(calendar: str) -> bool:
    """Return whether sessions end before the next begins (False for 24/7)."""
    return calendar != ALWAYS


@cache
def _table(calendar: str) -> _Table:
    try:
        default = exchange_calendars.get_calendar(calendar)
    except InvalidCalendarName:
        raise ConfigError(
            f"calendar {calendar!r}: expected 24/7 or a name known to exchange_calendars, "
            "such as XNYS or CMES"
        ) from None
    kind = type(default)
    start = max(_FIRST, kind.bound_min() or _FIRST)
    end = min(_LAST, kind.bound_max() or _LAST)
    schedule = kind(start=start, end=end).schedule
    close = schedule["close"]
    halt = _HALTS.get(calendar)
    if halt is not None:
        close = close.where(close - schedule["open"] < pd.Timedelta(days=1), close - halt)
    known = pd.DataFrame(
        {
            "open": schedule["open"],
            "pause": schedule["break_start"].fillna(close),
            "resume": schedule["break_end"].fillna(close),
            "close": close,
        }
    )
    full = _with_weekdays(known, str(default.tz))
    open_, pause, resume, close_ = (
        _microseconds(pd.DatetimeIndex(full[name])) for name in ("open", "pause", "resume", "close")
    )
    day = _microseconds(pd.DatetimeIndex(full.index)) // _DAY_US
    first, last = _microseconds(pd.DatetimeIndex(known.index[[0, -1]])) // _DAY_US
    return _Table(day, open_, pause, resume, close_, int(first), int(last))


def _with_weekdays(known: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Add weekdays before and after the known sessions, at the nearest one's local hours."""
    dates = pd.DatetimeIndex(known.index)
    parts = [known]
    for place, first, last in (
        (0, _EARLIEST, dates[0] - pd.Timedelta(days=1)),
        (-1, dates[-1] + pd.Timedelta(days=1), _LATEST),
    ):
        days = pd.bdate_range(first, last, name=dates.name)
        parts.append(
            pd.DataFrame(
                {
                    name: _at_local(days, pd.DatetimeIndex(known[name])[place], dates[place], zone)
                    for name in known
                },
                index=days,
            )
        )
    return pd.concat(parts).sort_index()


def _at_local(
    days: pd.DatetimeIndex, moment: pd.Timestamp, date: pd.Timestamp, zone: str
) -> pd.DatetimeIndex:
    """Return on each day the wall-clock time that `moment` has relative to its own date."""
    offset = moment.tz_convert(zone).tz_localize(None) - date
    # nights on which clocks change are weekends; the flags only keep the odd zone from raising
    here = (days + offset).tz_localize(
        zone, ambiguous=np.zeros(len(days), bool), nonexistent="shift_forward"
    )
    return here.tz_convert("UTC")


def _steps(start: Longs, end: Longs, timeframe: Timeframe) -> Longs:
    """Lay bars from each start while they open before its end."""
    step = timeframe.seconds * 1_000_000
    count = -(-np.maximum(end - start, 0) // step)  # rounded up: a last bar may be cut short
    before = np.repeat(np.cumsum(count) - count, count)
    place: Longs = np.arange(count.sum()) - before
    opens: Longs = np.repeat(start, count) + place * step
    return opens


def _microseconds(times: pd.DatetimeIndex) -> Longs:
    utc = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    return np.asarray(utc.as_unit("us").to_numpy()).astype(np.int64)


def _utc(microseconds: Longs) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds.astype("datetime64[us]"), name="timestamp").tz_localize(
        "UTC"
    )


def _warn_outside(calendar: str, table: _Table, days: Longs) -> None:
    if len(days) and (days.min() < table.first or days.max() > table.last):
        _warn_once(calendar, table.first, table.last)


@cache
def _warn_once(calendar: str, first: int, last: int) -> None:
    known = [str(np.datetime64(day, "D")) for day in (first, last)]
    log.warning(
        "calendar %s is known from %s to %s; outside, every weekday is taken as a session",
        calendar,
        *known,
    )
