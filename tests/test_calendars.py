"""Sessions follow the exchange: daylight saving, early closes, holidays, halts."""

import logging
from functools import cache

import exchange_calendars
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas import calendars
from atlas.bars import Timeframe
from atlas.calendars import bar_opens, has_close, session_days, sessions
from atlas.errors import ConfigError

HALF_HOUR = Timeframe.parse("30min")
DAY = Timeframe.parse("1d")
LAST = pd.Timestamp("2040-12-31")  # how far atlas.calendars asks


def opens_on(calendar: str, day: str, timeframe: Timeframe = HALF_HOUR) -> list[str]:
    times = bar_opens(calendar, timeframe, pd.DatetimeIndex([day]))
    return [time.strftime("%d %H:%M") for time in times]


def test_holidays_and_weekends_have_no_session() -> None:
    """Thanksgiving 2026 (26 November) and the weekend are missing."""
    days = sessions("XNYS", pd.Timestamp("2026-11-25"), pd.Timestamp("2026-11-30"))
    assert days.strftime("%d").tolist() == ["25", "27", "30"]
    assert opens_on("XNYS", "2026-11-26") == []


def test_opens_follow_daylight_saving() -> None:
    """New York opens at 13:30 UTC in summer and at 14:30 in winter, always with 13 half hours."""
    for day, first in (("2026-10-30", "30 13:30"), ("2026-11-02", "02 14:30")):
        found = opens_on("XNYS", day)
        assert found[0] == first
        assert len(found) == 13


def test_early_close_ends_the_bars() -> None:
    """The day after Thanksgiving closes at 13:00 in New York: 7 half hours, the last at 17:30."""
    found = opens_on("XNYS", "2026-11-27")
    assert len(found) == 7
    assert found[-1] == "27 17:30"


def test_futures_have_46_half_hours() -> None:
    """A full CMES session opens the evening before, rests an hour at its end, has 46 bars."""
    found = opens_on("CMES", "2026-11-16")
    assert len(found) == 46
    assert (found[0], found[-1]) == ("15 23:00", "16 21:30")
    assert len(opens_on("CMES", "2026-11-27")) == 38  # it closes at noon in Chicago, no halt


def test_midday_break_has_no_bars() -> None:
    """Shanghai trades from 09:30 to 11:30 and from 13:00 to 15:00, in hours too."""
    hours = opens_on("XSHG", "2026-11-16", Timeframe.parse("1h"))
    assert hours == ["16 01:30", "16 02:30", "16 05:00", "16 06:00"]


def test_around_the_clock_has_every_bar() -> None:
    """24/7 has a session each UTC day, weekends too, and no close."""
    days = sessions("24/7", pd.Timestamp("2026-11-21"), pd.Timestamp("2026-11-22"))
    found = bar_opens("24/7", Timeframe.parse("1min"), days)
    assert len(found) == 2 * 1440
    assert (np.diff(found.as_unit("us").asi8) == 60_000_000).all()
    assert np.unique(session_days(found, "24/7", Timeframe.parse("1min"))).tolist() == [
        20778,
        20779,
    ]
    assert not has_close("24/7")
    assert has_close("XNYS")


@settings(max_examples=40, deadline=None)
@given(
    calendar=st.sampled_from(["XNYS", "CMES", "XSHG", "24/7"]),
    minutes=st.sampled_from([1, 5, 30, 60, 240]),
    start=st.dates(pd.Timestamp("1995-01-02").date(), pd.Timestamp("2026-11-01").date()),
)
def test_every_expected_bar_belongs_to_its_session(
    calendar: str, minutes: int, start: object
) -> None:
    """Bars expected of a session are in order, distinct, and are counted to that session."""
    first = pd.Timestamp(start)
    days = sessions(calendar, first, first + pd.Timedelta(days=20))
    timeframe = Timeframe.parse(f"{minutes}min")
    times = bar_opens(calendar, timeframe, days)
    assert (np.diff(times.asi8) > 0).all()
    found = session_days(times, calendar, timeframe)
    assert np.unique(found).tolist() == (days.as_unit("us").asi8 // 86_400_000_000).tolist()
    together = [bar_opens(calendar, timeframe, days[i : i + 1]) for i in range(len(days))]
    assert times.tolist() == [time for part in together for time in part]


@settings(max_examples=25, deadline=None)
@given(
    calendar=st.sampled_from(["XNYS", "CMES", "XSHG", "XLON", "XTKS", "XHKG"]),
    share=st.floats(0, 1),
)
def test_sessions_are_those_of_the_exchange_from_2000_to_its_bound(
    calendar: str, share: float
) -> None:
    """Dates, early closes and clocks, at any month up to the calendar's own end."""
    kind = type(exchange_calendars.get_calendar(calendar))
    first, last = pd.Timestamp("2000-01-03"), min(kind.bound_max() or LAST, LAST)
    start = (first + share * (last - first - pd.Timedelta(days=31))).normalize()
    end = start + pd.Timedelta(days=31)
    schedule = whole_schedule(calendar).loc[start:end]
    days = sessions(calendar, start, end)
    assert days.tolist() == schedule.index.tolist()
    minute = Timeframe.parse("1min")
    for day, hours in schedule.iterrows():
        bars = bar_opens(calendar, minute, pd.DatetimeIndex([day]))
        assert bars[0] == hours["open"]
        rest = pd.Timedelta(hours=1) if hours["close"] - hours["open"] == DAY.delta else None
        close = hours["close"] - rest if calendar == "CMES" and rest else hours["close"]
        assert bars[-1] == close - minute.delta
        pause = hours["break_start"]
        if pd.notna(pause):
            assert not ((bars >= pause) & (bars < hours["break_end"])).any()


@cache
def whole_schedule(calendar: str) -> pd.DataFrame:
    kind = type(exchange_calendars.get_calendar(calendar))
    return kind(start="2000-01-03", end=min(kind.bound_max() or LAST, LAST)).schedule


@settings(max_examples=15, deadline=None)
@given(days=st.integers(1, 20_000))
def test_beyond_its_bound_a_calendar_has_every_weekday(days: int) -> None:
    """Shanghai is known to the end of 2026; after that Monday to Friday at the last known hours."""
    start = min(pd.Timestamp("2026-12-31") + pd.Timedelta(days=days), pd.Timestamp("2100-11-30"))
    end = start + pd.Timedelta(days=20)
    found = sessions("XSHG", start, end)
    assert found.tolist() == pd.bdate_range(start, end).tolist()
    assert len(bar_opens("XSHG", HALF_HOUR, found)) == 8 * len(found)


def test_odd_bars_belong_to_the_last_session_that_opened() -> None:
    """A bar at night or at the weekend belongs to the session before; none raises."""
    odd = pd.DatetimeIndex(
        ["2026-11-20 23:00", "2026-11-21 12:00", "2026-11-23 14:29", "2026-11-23 14:30"], tz="UTC"
    )
    days = session_days(odd, "XNYS", HALF_HOUR).astype("datetime64[D]").astype(str).tolist()
    assert days == ["2026-11-20", "2026-11-20", "2026-11-20", "2026-11-23"]
    assert len(session_days(pd.DatetimeIndex(["1950-01-01"], tz="UTC"), "XNYS", HALF_HOUR)) == 1


def test_daily_bars_belong_to_their_date() -> None:
    """A daily bar's session is its date, whatever the exchange's hours."""
    times = pd.DatetimeIndex(["2026-11-19", "2026-11-20 15:00"], tz="UTC")
    assert session_days(times, "CMES", DAY).tolist() == [20776, 20777]
    days = sessions("XNYS", pd.Timestamp("2026-11-23"), pd.Timestamp("2026-11-27"))
    assert bar_opens("XNYS", DAY, days).tz_localize(None).tolist() == days.tolist()
    weekly = bar_opens("XNYS", Timeframe.parse("1w"), days)
    assert weekly.strftime("%Y-%m-%d").tolist() == ["2026-11-23"]


def test_beyond_the_bound_weekdays_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Past a calendar's own end (Shanghai: 2026) every weekday counts, and a warning says so."""
    calendars._warn_once.cache_clear()  # another test may have been told already
    with caplog.at_level(logging.WARNING):
        days = sessions("XSHG", pd.Timestamp("2026-12-31"), pd.Timestamp("2027-01-05"))
    assert days.strftime("%m-%d").tolist() == ["12-31", "01-01", "01-04", "01-05"]
    assert "XSHG is known from" in caplog.text
    assert opens_on("XSHG", "2027-01-04") == opens_on_day("04", "XSHG", "2026-12-30")


def opens_on_day(day: str, calendar: str, other: str) -> list[str]:
    return [f"{day} {time[3:]}" for time in opens_on(calendar, other)]


def test_unknown_calendar_is_named() -> None:
    """A calendar that does not exist is refused by name."""
    with pytest.raises(ConfigError, match="calendar 'NOWHERE': expected 24/7 or a name"):
        sessions("NOWHERE", pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02"))
