"""The fingerprint stage: one row of statistics and one rule verdict for every bar of a market.

- Symbols are worked through in order and written as one file, so that equal bars give equal bytes.
- A night computes the rows it lacks. What it has is kept for a symbol whose earlier bars have the
  digest they had when the rows were made, by the same code and settings; a bar that was added,
  restated, adjusted anew or quarantined among them makes all of the symbol's rows again. New rows
  start from bars far enough back that the file has the bytes of a full computation.
- The rule's hysteresis looks back nine bars of this same history, never at last night's state.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.calendars import session_days
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, MarketConfig
from atlas.data_fingerprint import (
    FINGERPRINT_COLUMNS,
    LOOKBACK,
    VOL_SESSIONS,
    fingerprint,
    fingerprint_surfaces,
)
from atlas.errors import DataError
from atlas.rule import hysteresis, rule_experts
from atlas.surfaces import surface_grid
from pipelines import store
from pipelines.files import digest, read_json, write_json, write_parquet
from pipelines.paths import Paths
from pipelines.stamps import code_digest, once

__all__ = ["History", "rows_of", "run"]

_BEFORE = LOOKBACK + 16  # rows: a window, the rule's eight verdicts, a bridged quote


class History(NamedTuple):
    """What one symbol's rows are computed from."""

    bars: pd.DataFrame | None  # for charts
    grid: NDArray[np.float64] | None  # (N, 3, 9) for surfaces
    stamps: pd.DatetimeIndex


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, market: str) -> dict[str, Any]:
    """Fingerprint the bars of `market` known at `as_of`, unless that is done already.

    Returns:
        market, rows, how many of them were computed now, symbols, and the share of rows that
        the rule gives each expert.

    Raises:
        DataError: the market has no bars by `as_of`, or bars out of order.
    """
    settings = config.markets[market]
    output = paths.fingerprints(market)
    key = {
        "as_of": as_of.isoformat(),
        "settings": [settings.timeframe, settings.calendar, settings.modality],
        "files": _digests(paths, market),
    }
    return once(
        paths,
        f"fingerprint-{market}",
        key,
        lambda: [output],
        lambda: _work(paths, settings, as_of, market),
    )


def _work(paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str) -> dict[str, Any]:
    made = _settings(settings)
    kept, known = _earlier(paths, market, made)
    parts, record, computed = [], {}, 0
    for symbol in store.symbols(paths, market):
        history = _history(paths, settings, as_of, market, symbol)
        if not len(history.stamps):
            continue
        old = known.get(symbol, {"rows": 0, "digest": ""})
        before, whole = _prefix_digests(history, old["rows"])
        have = old["rows"] if before == old["digest"] else 0
        if have:
            parts.append(kept[symbol])
        if have < len(history.stamps):
            parts.append(rows_of(history, settings, market, symbol, have))
        computed += len(history.stamps) - have
        record[symbol] = {"rows": len(history.stamps), "digest": whole}
    if not parts:
        raise DataError(
            f"{market}: expected bars known by {as_of.date()} in {paths.bars(market)}; got none: "
            "run ingest first"
        )
    table = pd.concat(parts, ignore_index=True)
    output = paths.fingerprints(market)
    write_parquet(output, table)
    write_json(_state(paths, market), {"made": made, "output": digest(output), "symbols": record})
    shares = table["rule"].value_counts(normalize=True)
    return {
        "market": market,
        "rows": len(table),
        "computed": computed,
        "symbols": len(record),
        "rule_shares": {str(name): round(float(share), 6) for name, share in shares.items()},
    }


def _settings(settings: MarketConfig) -> str:
    said = [settings.timeframe, settings.calendar, settings.modality, code_digest()]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _earlier(
    paths: Paths, market: str, made: str
) -> tuple[dict[str, pd.DataFrame], Mapping[str, Any]]:
    """Return the rows of the night before by symbol, and what they were made from."""
    state, output = _state(paths, market), paths.fingerprints(market)
    found = read_json(state) if state.is_file() and output.is_file() else None
    if not found or found["made"] != made or found["output"] != digest(output):
        return {}, {}
    table = pd.read_parquet(output)
    rows = {str(name): part for name, part in table.groupby("symbol", sort=False)}
    return rows, found["symbols"]


def _history(
    paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str, symbol: str
) -> History:
    frame = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
    if settings.modality == "surface":
        stamps, grid = surface_grid(frame)
        return History(None, grid, stamps)
    return History(frame, None, pd.DatetimeIndex(frame.index))


def _prefix_digests(history: History, rows: int) -> tuple[str, str]:
    """Return the digest of the first `rows` bars, and of all."""
    if history.bars is not None:
        names, values = list(history.bars.columns), history.bars.to_numpy(np.float64)
    else:
        assert history.grid is not None
        names, values = ["iv"], history.grid.reshape(len(history.stamps), -1)
    times = np.asarray(history.stamps.as_unit("us").asi8).view(np.float64)
    content = np.ascontiguousarray(np.column_stack([times, values]))
    total = hashlib.sha256(json.dumps(names).encode())
    total.update(content[:rows].data)
    before = total.hexdigest() if rows <= len(content) else "shorter"
    total.update(content[rows:].data)
    return before, total.hexdigest()


def rows_of(
    history: History, settings: MarketConfig, market: str, symbol: str, have: int
) -> pd.DataFrame:
    """Compute the rows of a symbol from the one at `have` on."""
    first = _first_needed(history, settings, have)
    try:
        if history.bars is not None:
            bars = history.bars.iloc[first:]
            rows = fingerprint(bars, settings.timeframe, calendar=settings.calendar)
        else:
            assert history.grid is not None
            rows = fingerprint_surfaces(history.stamps[first:], history.grid[first:])
    except DataError as error:
        raise DataError(f"{market}/{symbol}: {error}") from None
    table = rows[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
    step = Timeframe.parse(settings.timeframe)
    verdicts = hysteresis(rule_experts(table, settings.modality, step))
    rows["rule"] = np.array(EXPERT_IDS, dtype=object)[verdicts]
    rows = rows.iloc[have - first :].reset_index()
    rows.insert(0, "symbol", symbol)
    return rows


def _first_needed(history: History, settings: MarketConfig, have: int) -> int:
    """Return the earliest bar that a row from `have` on may depend on, or one before it."""
    first = max(0, have - _BEFORE)
    step = Timeframe.parse(settings.timeframe)
    if history.bars is None or first == 0:
        return first
    if step.is_intraday:
        # the first session lacks its first return, and the newest row's own may have ended
        days = session_days(history.stamps[: have + 1], settings.calendar, step)
        names = np.unique(days)
        place = np.searchsorted(days, names[max(0, len(names) - VOL_SESSIONS - 3)])
        first = min(first, int(place))
    if "adj_close" in history.bars:
        factor = (history.bars["adj_close"] / history.bars["close"]).to_numpy()
        usable = np.flatnonzero(np.isfinite(factor))  # one before the tail may be carried into it
        if usable.size:
            place = np.searchsorted(usable, first, side="right") - 1
            first = int(usable[place]) if place >= 0 else 0
    return first


def _state(paths: Paths, market: str) -> Path:
    return paths.var / "fingerprints" / f"{market}.json"


def _digests(paths: Paths, market: str) -> dict[str, str]:
    files = [
        path
        for symbol in store.symbols(paths, market)
        for path in store.symbol_files(paths, market, symbol)
    ]
    quarantine = paths.quarantine(market)
    files += [quarantine] if quarantine.is_file() else []
    return {str(path.relative_to(paths.home)): digest(path) for path in files}
