"""Do bars still come, and do nights still run: against the calendar, not against the clock.

A market is behind by the whole sessions of its calendar that a night knows of after its newest
bar; of bars longer than a day, after the next one was due. Weekends and holidays are no delay. Its
limit is the market's `stale_sessions`.
"""

import numpy as np
import pandas as pd

from atlas.bars import Timeframe
from atlas.config import MarketConfig
from atlas.coverage import sessions_behind
from pipelines import store
from pipelines.files import read_json
from pipelines.paths import Paths
from pipelines.watch.checks import Check

__all__ = ["market_check", "night_check"]


def market_check(paths: Paths, settings: MarketConfig, market: str, as_of: pd.Timestamp) -> Check:
    """Count the sessions that a market's newest bar is behind the night."""
    last = store.extent(paths, market, settings, as_of).last
    if last is None:
        line = f"{market}: no bar is stored: run ingest, or take the market out of params.yaml"
        alarm, limit = settings.required, float(settings.stale_sessions)
        return Check("freshness", market, "sessions_behind", np.nan, 0.0, limit, alarm, True, line)
    step = Timeframe.parse(settings.timeframe)
    behind = sessions_behind(last, as_of, settings.calendar, step)
    alarm, line = behind > settings.stale_sessions, ""
    if alarm:
        line = (
            f"{market}: no new bar for {behind} sessions, the last is of {last:%Y-%m-%d %H:%M} "
            f"UTC; more than {settings.stale_sessions} is an alarm: see whether its source still "
            "answers and ingest runs"
        )
    limit = float(settings.stale_sessions)
    return Check("freshness", market, "sessions_behind", behind, 0.0, limit, alarm, True, line)


def night_check(paths: Paths, as_of: pd.Timestamp, limit: int) -> Check:
    """Count the days since the night that was begun last."""
    night = pd.Timestamp(str(read_json(paths.night)["as_of"]), tz="UTC")
    days = max((as_of - night).days, 0)
    alarm = days > limit
    line = (
        f"the last night is of {night:%Y-%m-%d}, {days} days ago; more than {limit} is an alarm: "
        "see whether the scheduler runs and why the nights since then failed"
    )
    return Check("night", "", "days_old", days, 1.0, limit, alarm, True, line if alarm else "")
