"""The calendar report: what is missing, what is odd, how far a symbol is behind."""

import numpy as np
import pandas as pd

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, sessions
from atlas.coverage import missing_quotes, off_session, sessions_behind, troubled_sessions

FIVE = Timeframe.parse("5min")
DAY = Timeframe.parse("1d")


def opens(calendar: str, start: str, end: str, timeframe: Timeframe = FIVE) -> pd.DatetimeIndex:
    days = sessions(calendar, pd.Timestamp(start), pd.Timestamp(end))
    return bar_opens(calendar, timeframe, days)


def test_missing_bars_are_told_by_session() -> None:
    """Thanksgiving 2026 is no gap, the early close after it has 42 bars, and one of them lacks."""
    times = opens("XNYS", "2026-11-23", "2026-11-30")
    found = troubled_sessions(times.delete([5, 6, 240]), "XNYS", FIVE, daily=False)
    assert found["session"].dt.strftime("%d").tolist() == ["23", "27"]
    assert found["missing"].tolist() == [2, 1]
    assert found["expected"].tolist() == [78, 42]
    assert found["unexpected"].tolist() == [0, 0]
    assert found["first"].tolist() == [times[5], times[240]]
    assert troubled_sessions(times, "XNYS", FIVE, daily=False).empty


def test_bars_an_hour_off_after_the_clocks_change_are_odd() -> None:
    """An archive that kept summer time shows up in the sessions after 2026-11-01, not before."""
    times = opens("XNYS", "2026-10-28", "2026-11-04")
    wrong = times.where(times < pd.Timestamp("2026-11-01", tz="UTC"), times - pd.Timedelta("1h"))
    found = troubled_sessions(pd.DatetimeIndex(wrong), "XNYS", FIVE, daily=False)
    assert found["unexpected"].sum() == 12 * 3
    odd = wrong[off_session(pd.DatetimeIndex(wrong), "XNYS", FIVE, daily=False)]
    assert set(odd.strftime("%m-%d")) == {"11-02", "11-03", "11-04"}
    assert (odd.strftime("%H:%M") < "14:30").all()


def test_around_the_clock_a_lost_hour_is_sixty_bars() -> None:
    """Crypto has no daylight saving: an hour that is not there is missing."""
    minute = Timeframe.parse("1min")
    times = opens("24/7", "2026-03-28", "2026-03-30", minute)
    gone = (times >= "2026-03-29T01:00Z") & (times < "2026-03-29T02:00Z")
    found = troubled_sessions(times[~gone], "24/7", minute, daily=False)
    assert found[["missing", "unexpected"]].to_numpy().tolist() == [[60, 0]]
    assert found["first"].tolist() == [pd.Timestamp("2026-03-29T01:00Z")]


def test_a_surface_counts_for_its_day() -> None:
    """Snapshots at any hour; a session without one, and a snapshot on a Sunday, are told."""
    days = opens("XNYS", "2026-11-16", "2026-11-24", DAY)
    times = days.delete(2).append(pd.DatetimeIndex(["2026-11-22"], tz="UTC")) + pd.Timedelta("20h")
    found = troubled_sessions(times, "XNYS", DAY, daily=True)
    assert found["session"].dt.strftime("%d").tolist() == ["18", "22"]
    assert off_session(times, "XNYS", DAY, daily=True).tolist() == [False] * 6 + [True]


def test_quotes_are_missing_where_they_usually_are_there() -> None:
    """A delta that nearly every snapshot has is missed; one that comes now and then is not."""
    times = pd.date_range("2026-01-01", periods=100, tz="UTC", unit="us")
    usual = [(time, 1, delta) for time in times for delta in (-0.5, 0.5, 0.25)]
    rare = [(time, 2, 0.1) for time in times[::2]]
    frame = pd.DataFrame(usual + rare, columns=["timestamp", "tenor", "delta"])
    found = missing_quotes(frame.drop(index=[3, 4, 30]))
    assert found["timestamp"].tolist() == [times[1], times[10]]
    assert found["missing_quotes"].tolist() == [2, 1]


def test_a_symbol_is_as_many_sessions_behind_as_its_calendar_says() -> None:
    """Weekends and holidays make nobody stale."""

    def behind(last: str, night: str, calendar: str = "XNYS") -> int:
        stamps = [pd.Timestamp(text, tz="UTC") for text in (last, night)]
        return sessions_behind(*stamps, calendar, DAY)

    assert behind("2026-11-13", "2026-11-20") == 4
    assert behind("2026-11-20", "2026-11-23") == 0
    assert behind("2026-11-25", "2026-11-27") == 0  # Thanksgiving between
    assert behind("2026-11-20", "2026-11-23", "24/7") == 2
    assert np.isscalar(behind("2026-11-20", "2026-11-20"))
    monday, week = pd.Timestamp("2026-11-09", tz="UTC"), Timeframe.parse("1w")
    nights = [pd.Timestamp(f"2026-11-{day}", tz="UTC") for day in (16, 23, 25)]
    assert [sessions_behind(monday, night, "XNYS", week) for night in nights] == [0, 0, 2]
