"""Turn what the stages wrote into what a model trains and scores on.

A market counts only if it passed validation in this very night: what earlier nights left of it is
not used. Bars come through the store, which drops quarantined rows; fingerprints and the rule's
verdicts from the fingerprint stage; the known probabilities, for the evaluation alone, where the
source wrote them. Everything is cut at the night's `as_of`.
"""

import logging
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import COLUMNS, Timeframe, adjusted
from atlas.calendars import has_close, session_days
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, MarketConfig
from atlas.cuts import cut
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.errors import DataError
from atlas.surfaces import surface_grid
from atlas.windows import Labels, MarketData, Panel, Split, label
from pipelines import store
from pipelines.paths import Paths
from pipelines.verdict import require_passed

__all__ = ["grid_of", "labels_of", "load", "load_market", "load_panel", "split_of"]

log = logging.getLogger(__name__)


class _Symbol(NamedTuple):
    """One symbol's bars: name, times (n,), grid (5, n) or (n, 3, 9), contracts (n,) or None."""

    name: str
    times: pd.DatetimeIndex
    grid: NDArray[np.float64]
    contract: NDArray[np.float64] | None


def load(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp) -> dict[str, MarketData]:
    """Load every market, in the order of params; an absent one that is not required is left out.

    Raises:
        DataError: a required market did not pass validation in this night, or has no bars or no
            fingerprints.
    """
    data = {}
    for market, settings in config.markets.items():
        try:
            data[market] = load_market(paths, config, market, as_of)
        except DataError as error:
            if settings.required:
                raise
            log.warning("%s; it is not required: left out", error)
    return data


def load_market(paths: Paths, config: ATLASConfig, market: str, as_of: pd.Timestamp) -> MarketData:
    """Load one market's panel, labels and cut as they were known at `as_of`.

    Raises:
        DataError: the market did not pass validation in this night, bars or fingerprints are
            missing, or too few sessions are there to cut.
    """
    require_passed(paths, market, as_of)
    panel = load_panel(paths, config.markets[market], market, as_of)
    labels = labels_of(panel, config)
    return MarketData(panel, labels, split_of(panel, labels, config))


def labels_of(panel: Panel, config: ATLASConfig) -> Labels:
    """Label a panel as params ask for its market."""
    settings, ask = config.markets[panel.market], config.label(panel.market)
    return label(
        panel,
        kind=ask.kind,
        measure=ask.measure,
        horizon=ask.horizon,
        skip=ask.skip,
        volatility_horizon=settings.volatility_horizon,
    )


def split_of(panel: Panel, labels: Labels, config: ATLASConfig) -> Split:
    """Cut a panel by its newest sessions, as a night does.

    Raises:
        DataError: too few sessions are there to cut.
    """
    settings = config.markets[panel.market]
    return cut(
        panel,
        labels,
        test=settings.cut.test,
        validation=settings.cut.validation,
        horizon=config.label(panel.market).horizon,
    )


def load_panel(paths: Paths, settings: MarketConfig, market: str, as_of: pd.Timestamp) -> Panel:
    """Lay a market's symbols end to end, with fingerprints, rule and truth beside the bars."""
    timeframe = Timeframe.parse(settings.timeframe)
    parts = _read(paths, settings, market, as_of)
    stamps = np.concatenate([part.times.as_unit("us").asi8 for part in parts])
    times = pd.DatetimeIndex(stamps.view("datetime64[us]"), tz="UTC")
    axis = 0 if settings.modality == "surface" else 1
    fingerprints = _fingerprints(paths, market, parts)
    rule = pd.Categorical(fingerprints["rule"].astype(str), categories=EXPERT_IDS).codes
    probability, law = _truth(paths, market, parts)
    return Panel(
        market=market,
        modality=settings.modality,
        timeframe=timeframe,
        symbols=tuple(part.name for part in parts),
        offsets=np.cumsum([0, *(len(part.times) for part in parts)], dtype=np.int64),
        timestamp=stamps,
        session=session_days(times, settings.calendar, timeframe),
        values=np.ascontiguousarray(np.concatenate([part.grid for part in parts], axis=axis)),
        fingerprint=fingerprints[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32),
        rule=rule.astype(np.int8),
        has_close=has_close(settings.calendar),
        probability=probability,
        law=law,
        contract=_contracts(parts),
    )


def grid_of(
    frame: pd.DataFrame, settings: MarketConfig
) -> tuple[pd.DatetimeIndex, NDArray[np.float64]]:
    """Return a symbol's times (n,) and its adjusted bars (5, n) or surfaces (n, 3, 9)."""
    if settings.modality == "surface":
        return surface_grid(frame)
    bars = adjusted(frame)
    return pd.DatetimeIndex(bars.index), bars[list(COLUMNS)].to_numpy(np.float64).T


def _read(paths: Paths, settings: MarketConfig, market: str, as_of: pd.Timestamp) -> list[_Symbol]:
    parts = []
    for symbol in store.symbols(paths, market):
        frame = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
        if frame.empty:
            log.warning("%s: %s has no bars by %s: left out", market, symbol, as_of.date())
        else:
            given = frame["contract"].to_numpy(np.float64) if "contract" in frame else None
            parts.append(_Symbol(symbol, *grid_of(frame, settings), given))
    if not parts:
        raise DataError(
            f"{market}: expected bars known by {as_of.date()} in {paths.bars(market)}; got none: "
            "run ingest first"
        )
    return parts


def _contracts(parts: list[_Symbol]) -> NDArray[np.float64] | None:
    """Return each bar's contract, one number for a symbol that names none, None if no symbol does.

    A symbol whose column is empty, because another symbol of its file has it, names none.
    """
    named = [part.contract is not None and not np.isnan(part.contract).all() for part in parts]
    if not any(named):
        return None
    return np.concatenate(
        [
            part.contract if known and part.contract is not None else np.zeros(len(part.times))
            for part, known in zip(parts, named, strict=True)
        ]
    )


def _fingerprints(paths: Paths, market: str, parts: list[_Symbol]) -> pd.DataFrame:
    path = paths.fingerprints(market)
    advice = f"run `python -m pipelines fingerprint --market {market}`"
    if not path.is_file():
        raise DataError(f"{market}: expected fingerprints in {path}; got no file: {advice}")
    columns = ["symbol", "timestamp", *FINGERPRINT_COLUMNS, "rule"]
    rows, missing = _aligned(pd.read_parquet(path, columns=columns), parts)
    if missing.any():
        raise DataError(
            f"{market}: expected a fingerprint for each of {missing.size} bars; "
            f"{int(missing.sum())} have none: {advice}"
        )
    return rows


def _truth(
    paths: Paths, market: str, parts: list[_Symbol]
) -> tuple[NDArray[np.float64] | None, NDArray[np.int8] | None]:
    """Return what is known of each bar, where the source wrote it: p of the next move, and law."""
    path = paths.truth(market)
    if not path.is_file():
        return None, None
    columns = ["symbol", "timestamp", "p", "law"]
    rows, missing = _aligned(pd.read_parquet(path, columns=columns), parts)
    law = pd.Categorical(rows["law"].astype(str), categories=EXPERT_IDS).codes
    p = np.where(missing, np.nan, rows["p"].to_numpy(np.float64))
    return p, np.where(missing, -1, law).astype(np.int8)


def _aligned(frame: pd.DataFrame, parts: list[_Symbol]) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return the rows of `frame` in the order of the parts' bars, and which bars have none."""
    positions = []
    groups = frame.groupby("symbol", observed=True).indices
    for part in parts:
        own = groups.get(part.name, np.zeros(0, np.int64))
        found = pd.Index(frame["timestamp"].iloc[own]).get_indexer(part.times)
        places = np.append(own, -1)  # −1, not found, picks the last: −1 again
        positions.append(places[found])
    order = np.concatenate(positions)
    missing = order < 0
    if frame.empty:
        return frame.reindex(range(order.size)), missing
    return frame.iloc[np.where(missing, 0, order)], missing
