"""One line a market: how fresh it is, whether it passed, how well it is called, who is active."""

import datetime as dt
from typing import NamedTuple

import pandas as pd

from atlas.bars import Timeframe
from atlas.config import ATLASConfig, MarketConfig
from atlas.errors import AtlasError
from dashboard.gates import active_experts
from dashboard.reading import footer, json_of
from dashboard.scores import Line
from pipelines import store
from pipelines.paths import Paths

__all__ = ["MarketLine", "market_line", "night_of_home"]

_STALE_DAYS = 4.0  # behind the night: a long weekend is no reason for alarm


class MarketLine(NamedTuple):
    """What the overview says of a market; `notice` stands for what could not be read."""

    name: str
    timeframe: str
    symbols: int
    last: pd.Timestamp | None
    behind_days: float | None
    is_stale: bool
    passed: bool | None
    bad_share: float
    score: Line | None
    experts: list[tuple[str, float]]
    notice: str


def market_line(
    paths: Paths,
    name: str,
    settings: MarketConfig,
    night: pd.Timestamp | None,
    score: Line | None,
    variant: str,
) -> MarketLine:
    """Collect one market's line; nothing that is missing or broken is an error."""
    notices: list[str] = []
    symbols, last = 0, None
    outcome: dict[str, object] = {}
    experts: list[tuple[str, float]] = []
    try:
        symbols = len(store.symbols(paths, name))
        last = _last(paths, name)
    except (AtlasError, OSError) as error:
        notices.append(str(error))
    try:
        outcome = json_of(paths.validation(name))
        experts = active_experts(paths, variant, name)[:2]
    except AtlasError as error:
        notices.append(str(error))
    behind = _behind(last, settings, night)
    share = outcome.get("bad_share")
    return MarketLine(
        name,
        settings.timeframe,
        symbols,
        last,
        behind,
        behind is not None and behind > _STALE_DAYS,
        bool(outcome["passed"]) if "passed" in outcome else None,
        float(share) if isinstance(share, int | float) else 0.0,
        score,
        experts,
        notices[0] if notices else "",
    )


def night_of_home(paths: Paths, config: ATLASConfig) -> pd.Timestamp:
    """Return the night last begun; without one, what the simulated home starts from."""
    text = json_of(paths.night).get("as_of") or config.simulated.as_of
    return pd.Timestamp(str(text)[:10], tz="UTC")


def _last(paths: Paths, market: str) -> pd.Timestamp | None:
    """Return the newest fingerprint's time, from the file's footer."""
    found = footer(paths.fingerprints(market))
    if not found.num_rows:
        return None
    place = found.schema.names.index("timestamp")
    marks = [found.row_group(k).column(place).statistics for k in range(found.num_row_groups)]
    times = [pd.Timestamp(mark.max) for mark in marks if mark is not None and mark.has_min_max]
    newest = max(times, default=None)
    return newest.tz_localize("UTC") if newest is not None and newest.tzinfo is None else newest


def _behind(
    last: pd.Timestamp | None, settings: MarketConfig, night: pd.Timestamp | None
) -> float | None:
    if last is None or night is None:
        return None
    known = last
    if settings.modality == "chart":
        known = last + Timeframe.parse(settings.timeframe).delta
    gap: dt.timedelta = night - known
    return max(gap.total_seconds() / 86_400, 0.0)
