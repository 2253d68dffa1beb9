"""Decide what an ingest asks of a source: which symbol, from when to when, how many bars.

- A local source is read whole, or from the range's start.
- A live one is asked for what was never asked for, plus a few bars before it, since exchanges
  complete their last bars late; cut where files end, so that a kill loses one file's worth at most.
- One that restates its past (daily bars with adj_close) gives the whole history in one request, and
  is asked for it whenever anything is missing.
"""

from typing import NamedTuple

import pandas as pd

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, sessions
from atlas.config import ATLASConfig, MarketConfig
from pipelines.partitions import partition_unit
from pipelines.paths import Paths
from pipelines.sources import Source
from pipelines.spans import Coverage, Span, missing, pieces

__all__ = ["LATE_BARS", "Ask", "expected_bars", "plan"]

LATE_BARS = 10  # of what is covered, asked for again


class Ask(NamedTuple):
    """One piece: rows of a symbol with start ≤ timestamp, known by `end`.

    Attributes:
        label: of the file it lies in; empty for a symbol's single file.
        bars: that the calendar expects, −1 where that takes reading the source.
    """

    symbol: str
    label: str
    start: pd.Timestamp | None
    end: pd.Timestamp
    bars: int


def plan(
    paths: Paths,
    config: ATLASConfig,
    source: Source,
    market: str,
    symbols: list[str],
    *,
    start: pd.Timestamp | None,
    as_of: pd.Timestamp,
) -> list[Ask]:
    """Return what an ingest of a market has to ask for, in order."""
    settings = config.markets[market]
    if not source.is_live:
        return [Ask(symbol, "", start, as_of, -1) for symbol in symbols]
    assert settings.live is not None
    since = pd.Timestamp(settings.live.since, tz="UTC")
    wanted = Span(max(start, since) if start is not None else since, as_of)
    coverage = Coverage(paths.var / "coverage" / market, paths.bars(market))
    asks: list[Ask] = []
    for symbol in symbols:
        lacking = missing(wanted, coverage.spans(symbol)) if wanted.start < wanted.end else []
        asks += _pieces(symbol, lacking, wanted, settings, whole=source.restates)
    return asks


def expected_bars(settings: MarketConfig, span: Span) -> int:
    """Return how many bars a market's calendar expects in a span; snapshots are counted by day."""
    step = Timeframe.parse(settings.timeframe)
    days = sessions(settings.calendar, span.start - pd.Timedelta(days=1), span.end)
    opens = bar_opens(settings.calendar, step, days)
    known = opens + (step.delta if settings.modality == "chart" else pd.Timedelta(0))
    return int(((opens >= span.start) & (known <= span.end)).sum())


def _pieces(
    symbol: str, lacking: list[Span], wanted: Span, settings: MarketConfig, *, whole: bool
) -> list[Ask]:
    step = Timeframe.parse(settings.timeframe)
    unit = partition_unit(step, settings.modality)
    if lacking and whole and unit is None:
        lacking = [wanted]
    asks = []
    for span in lacking:
        begin = max(wanted.start, span.start - LATE_BARS * step.delta)
        for label, piece in pieces(Span(begin, span.end), unit):
            asks.append(Ask(symbol, label, *piece, expected_bars(settings, piece)))
    return asks
