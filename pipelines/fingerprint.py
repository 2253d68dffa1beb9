"""The fingerprint stage: one row of statistics and one rule verdict for every bar of a market.

Symbols are worked through in order and written as one file, so that equal bars give equal bytes.
The rule's hysteresis looks back nine bars of this same history, never at last night's state.
"""

from typing import Any

import numpy as np
import pandas as pd

from atlas.bars import Timeframe
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, fingerprint, fingerprint_surfaces
from atlas.errors import DataError
from atlas.gate import hysteresis, rule_experts
from atlas.surfaces import surface_grid
from pipelines import store
from pipelines.files import digest, write_parquet
from pipelines.paths import Paths
from pipelines.stamps import once

__all__ = ["run"]


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, market: str) -> dict[str, Any]:
    """Fingerprint the bars of `market` known at `as_of`, unless that is done already.

    Returns:
        market, rows, symbols, and the share of rows that the rule gives each expert.

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
    parts = []
    for symbol in store.symbols(paths, market):
        bars = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
        if len(bars):
            parts.append(_rows(bars, settings, market, symbol))
    if not parts:
        raise DataError(
            f"{market}: expected bars known by {as_of.date()} in {paths.bars(market)}; got none: "
            "run ingest first"
        )
    table = pd.concat(parts, ignore_index=True)
    write_parquet(paths.fingerprints(market), table)
    shares = table["rule"].value_counts(normalize=True)
    return {
        "market": market,
        "rows": len(table),
        "symbols": len(parts),
        "rule_shares": {str(name): round(float(share), 6) for name, share in shares.items()},
    }


def _rows(frame: pd.DataFrame, settings: MarketConfig, market: str, symbol: str) -> pd.DataFrame:
    try:
        if settings.modality == "surface":
            rows = fingerprint_surfaces(*surface_grid(frame))
        else:
            rows = fingerprint(frame, settings.timeframe, calendar=settings.calendar)
    except DataError as error:
        raise DataError(f"{market}/{symbol}: {error}") from None
    table = rows[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
    step = Timeframe.parse(settings.timeframe)
    verdicts = hysteresis(rule_experts(table, settings.modality, step))
    rows["rule"] = np.array(EXPERT_IDS, dtype=object)[verdicts]
    rows = rows.reset_index()
    rows.insert(0, "symbol", symbol)
    return rows


def _digests(paths: Paths, market: str) -> dict[str, str]:
    files = [
        path
        for symbol in store.symbols(paths, market)
        for path in store.symbol_files(paths, market, symbol)
    ]
    quarantine = paths.quarantine(market)
    files += [quarantine] if quarantine.is_file() else []
    return {str(path.relative_to(paths.home)): digest(path) for path in files}
