"""Ingest: add to the store what a market lacks up to a night. The only stage that writes data/.

Incremental, idempotent and safe to kill: files are replaced whole, rows that are stored stay, and
what an interrupted run did not reach the next one adds. The known probabilities of a simulated
market go to artifacts/, never beside its bars. A stamp makes a second run quick.
"""

import contextlib
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, DataError
from pipelines import store
from pipelines.files import read_json, write_json, write_parquet
from pipelines.home import bind, binding, hold
from pipelines.paths import Paths
from pipelines.sources import Source, source_for
from pipelines.sources.files import FilesSource
from pipelines.stamps import code_digest

__all__ = ["run", "write_truth"]

log = logging.getLogger(__name__)


def run(
    paths: Paths,
    config: ATLASConfig,
    *,
    as_of: pd.Timestamp,
    market: str,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Add a market's missing rows up to the night `as_of`; later rows stay untouched.

    Args:
        folder: of the archive, for the source `files`; by default the one the home is bound to.

    Returns:
        market, symbols, bars_added, and bars, first, last of what the night knows.

    Raises:
        DataError: the source's files or the stored ones are not acceptable.
        HomeError: the home is bound to another source, or this market is being ingested.
    """
    if market not in config.markets:
        known = ", ".join(config.markets)
        raise ConfigError(f"market {market!r} is not in params.yaml, which has {known}")
    bound = binding(paths)
    folder = folder or (bound.folder if bound else None)
    source = source_for(config, folder)
    symbols = [store.symbol_name(symbol) for symbol in source.symbols(market)]
    if not symbols and config.markets[market].required:
        raise DataError(
            f"{market}: the source {config.source!r} has no symbols of this market: add some, or "
            "give the market required: false in params.yaml"
        )
    bind(paths, config.source, folder)
    with hold(paths.var / "locks" / f"ingest-{market}.lock", f"ingest of {market}"):
        return _ingest(paths, config, source, symbols, market, as_of)


def _ingest(
    paths: Paths,
    config: ATLASConfig,
    source: Source,
    symbols: list[str],
    market: str,
    as_of: pd.Timestamp,
) -> dict[str, Any]:
    stamp = paths.var / "stamps" / f"ingest-{market}.json"
    key = _key(config, source, symbols, market, as_of)
    found = read_json(stamp) if stamp.is_file() else None
    if found and found["key"] == key and found["files"] == _files(paths, market):
        log.info("ingest %s: nothing new to do, skipped", market)
        return {**found["summary"], "bars_added": 0, "skipped": True}
    _sweep(paths, market)
    settings = config.markets[market]
    always = pd.Timestamp.max.tz_localize("UTC")
    source.check_rows(market)  # before the first is written: a bad file leaves data/ as it was
    before = store.extent(paths, market, settings, always).bars
    for symbol in symbols:
        rows = source.fetch(market, symbol, as_of=as_of)
        store.write_bars(
            paths,
            market,
            symbol,
            rows,
            Timeframe.parse(settings.timeframe),
            settings.modality,
            restated="refuse" if config.source == "simulated" else "keep",
        )
    if config.source == "simulated":
        write_truth(paths, source, market, as_of)
    added = store.extent(paths, market, settings, always).bars - before
    known = store.extent(paths, market, settings, as_of)
    summary = {
        "market": market,
        "symbols": len(symbols),
        "bars_added": added,
        "bars": known.bars,
        "first": known.first.isoformat() if known.first is not None else None,
        "last": known.last.isoformat() if known.last is not None else None,
    }
    write_json(stamp, {"key": key, "files": _files(paths, market), "summary": summary})
    return {**summary, "skipped": False}


def write_truth(paths: Paths, source: Source, market: str, as_of: pd.Timestamp) -> None:
    """Write the known probabilities of a simulated market, which grow from night to night."""
    from pipelines.sources.simulated import SimulatedSource

    assert isinstance(source, SimulatedSource)
    truth = source.truth(market, as_of)
    path = paths.truth(market)
    # like the bars, the truth of later nights stays when a past one runs
    if not path.is_file() or pq.read_metadata(path).num_rows < len(truth):
        write_parquet(path, truth)


def _key(
    config: ATLASConfig, source: Source, symbols: list[str], market: str, as_of: pd.Timestamp
) -> str:
    """Return a digest over all that decides what this ingest finds."""
    parts: dict[str, Any] = {
        "code": code_digest(),
        "source": config.source,
        "symbols": symbols,
        "market": config.markets[market].model_dump(mode="json"),
        "as_of": as_of.isoformat(),
    }
    if isinstance(source, FilesSource):
        parts["folder"], parts["files"] = str(source.folder), source.digest(market)
    else:
        parts["simulated"] = config.simulated.model_dump(mode="json")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _files(paths: Paths, market: str) -> dict[str, list[int]]:
    """Return size and time of each file that ingest wrote for a market."""
    found = [*paths.bars(market).rglob("*.parquet"), paths.truth(market)]
    states = {path: path.stat() for path in found if path.is_file()}
    return {
        str(path.relative_to(paths.home)): [state.st_size, state.st_mtime_ns]
        for path, state in sorted(states.items())
    }


def _sweep(paths: Paths, market: str) -> None:
    """Remove the temporary files that a killed run left; the lock says none is in use."""
    truth = paths.truth(market)
    for left in (
        *paths.bars(market).rglob(".*.tmp"),
        *truth.parent.glob(f".{truth.name}.*.tmp"),
    ):
        with contextlib.suppress(FileNotFoundError):
            left.unlink()
