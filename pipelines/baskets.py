"""Bring a basket's series out of the store and lay them beside the markets that see it.

The contract is checked before anything is trained: every series is stored and passed validation in
this night, and each market has `basket.overlap` sessions at whose close the whole basket is known.
Bars come through the store, quarantined rows dropped, adjusted as charts and labels are.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.baskets import Basket, Closes, absent_basket, build_basket
from atlas.calendars import bar_closes
from atlas.config import ATLASConfig
from atlas.errors import DataError
from atlas.hedge import with_hedges
from atlas.windows import MarketData, Panel, log_positive
from pipelines import samples, store
from pipelines.paths import Paths
from pipelines.verdict import require_passed

__all__ = ["basket_of", "closes", "hedged", "require"]


def hedged(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, data: Mapping[str, MarketData]
) -> dict[str, MarketData]:
    """Give every market of charts its basket: an unknown one where params name none for it.

    Raises:
        DataError: a series is missing, or overlaps a market too little.
    """
    assert config.basket is not None
    series = closes(paths, config, as_of)
    found = {}
    for market, own in data.items():
        panel = own.panel
        if market in config.basket.markets:
            found[market] = with_hedges(own, basket_of(panel, config, series))
        elif panel.modality == "chart":
            absent = absent_basket(tuple(series), panel.timestamp.size)
            found[market] = replace(own, panel=replace(panel, basket=absent))
        else:
            found[market] = own
    return found


def require(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp) -> None:
    """Check a basket's contract, if params name one.

    Raises:
        DataError: a series is missing, or overlaps a market too little.
    """
    if config.basket is None:
        return
    series = closes(paths, config, as_of)
    for market in config.basket.markets:
        basket_of(samples.load_panel(paths, config.markets[market], market, as_of), config, series)


def closes(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp) -> dict[str, Closes]:
    """Read the series of the basket as they were known at `as_of`, by name within it.

    Raises:
        DataError: one is not stored, has no bars by then, or its market did not pass validation.
    """
    assert config.basket is not None
    found = {}
    for name, spec in config.basket.series.items():
        market, symbol = spec.split("/")
        settings = config.markets[market]
        require_passed(paths, market, as_of)
        known = store.symbols(paths, market)
        if symbol not in known:
            raise DataError(
                f"basket.series.{name}: expected {spec} among the stored symbols; {market} has "
                f"{', '.join(known)[:200]}: ingest it, or name another series"
            )
        frame = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
        times, grid = samples.grid_of(frame, settings)
        if not len(times):
            raise DataError(
                f"basket.series.{name}: expected bars of {spec} known by {as_of.date()}; got none: "
                "ingest them, or name another series"
            )
        log_close = log_positive(grid[3])
        quoted = np.isfinite(log_close)
        closed = bar_closes(times, settings.calendar, Timeframe.parse(settings.timeframe))
        found[name] = Closes(spec, closed[quoted], log_close[quoted])
    return found


def basket_of(panel: Panel, config: ATLASConfig, series: Mapping[str, Closes]) -> Basket:
    """Lay the series beside a panel.

    Raises:
        DataError: they overlap it too little.
    """
    assert config.basket is not None
    times = pd.DatetimeIndex(panel.timestamp.view("datetime64[us]"), tz="UTC")
    asked = bar_closes(times, config.markets[panel.market].calendar, panel.timeframe)
    basket = build_basket(
        series,
        market=panel.market,
        symbols=panel.symbols,
        offsets=panel.offsets,
        asked=asked,
        log_close=log_positive(np.asarray(panel.values)[3]),
        stale_days=config.basket.stale_days,
    )
    known = np.unique(panel.session[np.isfinite(basket.age_days)]).size
    if known < config.basket.overlap:
        spans = ", ".join(f"{name} {_span(each.closed)}" for name, each in series.items())
        raise DataError(
            f"basket: expected at least {config.basket.overlap} sessions of {panel.market} at "
            f"whose close all of it is known; got {known}. Closes of {panel.market} run "
            f"{_span(asked)}, {spans}: name series that overlap, or lower basket.overlap"
        )
    return basket


def _span(times: NDArray[np.int64]) -> str:
    first, last = np.array([times.min(), times.max()]).astype("datetime64[us]").astype("M8[D]")
    return f"{first} to {last}"
