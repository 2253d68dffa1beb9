"""How old bars are, in sessions of their calendar, and from when on they are stale."""

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.config import MarketConfig
from atlas.coverage import sessions_behind
from atlas.doubts import sessions_since, stale


def market(timeframe: str, calendar: str) -> MarketConfig:
    return MarketConfig(timeframe=timeframe, calendar=calendar)


def days(*dates: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(dates, "datetime64[D]").astype(np.int64)


def test_age_is_counted_in_sessions_of_the_calendar() -> None:
    """A weekend and Thanksgiving make no stock older; every day makes a coin older."""
    bars = days("2026-11-20", "2026-11-25", "2026-11-27")
    monday = pd.Timestamp("2026-11-30 12:00", tz="UTC")
    assert sessions_since(bars, market("1d", "XNYS"), monday).tolist() == [4, 1, 0]
    assert sessions_since(bars, market("1d", "24/7"), monday).tolist() == [9, 4, 2]


@pytest.mark.parametrize("moment", ["2026-11-20", "2026-11-23 22:00", "2026-11-02"])
@pytest.mark.parametrize("bars", ["1d XNYS", "5min XNYS", "1h 24/7", "1w XNYS", "1w 24/7"])
def test_serving_and_the_monitor_count_alike(bars: str, moment: str) -> None:
    """What `sessions_behind` says of a store's last bar is what an answer is judged by."""
    timeframe, calendar = bars.split()
    last, now = pd.Timestamp("2026-11-13 15:00", tz="UTC"), pd.Timestamp(moment, tz="UTC")
    expected = sessions_behind(last, now, calendar, Timeframe.parse(timeframe))
    found = sessions_since(days("2026-11-13"), market(timeframe, calendar), now)
    assert found.tolist() == [expected]


def test_a_weekly_bar_is_fresh_until_the_next_one_is_due() -> None:
    """The bar of the week from 9 November is the newest there can be until the 22nd."""
    settings, bar = market("1w", "XNYS"), days("2026-11-09")
    counts = [
        int(sessions_since(bar, settings, pd.Timestamp(day, tz="UTC"))[0])
        for day in ("2026-11-16", "2026-11-23", "2026-11-25")
    ]
    assert counts == [0, 0, 2]


def test_the_reason_names_the_limit_and_what_to_do() -> None:
    """The limit is the market's own, and a question about the past has a way."""
    settings = market("1d", "XNYS").model_copy(update={"stale_sessions": 7})
    assert "more than 7 sessions" in stale(settings)
    assert "give `now`" in stale(settings)
