"""Ingest: add to the store what a market lacks up to a night. The only stage that writes data/.

- Incremental, idempotent and safe to kill: files are replaced whole, rows that are stored stay, and
  what an interrupted run did not reach the next one adds. Nights over any ranges, in any order,
  end in the same bytes.
- A local source is read whole and only what is missing is written; a live one is asked, a file's
  worth at a time, for what it was never asked for (`pipelines.spans`).
- A split or dividend that restates stored rows is applied once and reported in
  artifacts/adjustments/<market>.json.
- The known probabilities of a simulated market go to artifacts/, never beside its bars. A stamp
  makes a second run quick.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, DataError
from pipelines import store
from pipelines.adjustments import record
from pipelines.contents import Contents
from pipelines.files import read_json, write_json, write_parquet
from pipelines.home import bind, bind_market, binding, hold
from pipelines.paths import Paths
from pipelines.plan import Ask, plan
from pipelines.sources import Source, source_for
from pipelines.spans import Coverage, Span
from pipelines.stamps import code_digest

__all__ = ["run", "write_truth"]

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]  # what is done, pieces done, pieces in all


@dataclass(frozen=True)
class _Work:
    """One market's ingest."""

    paths: Paths
    config: ATLASConfig
    source: Source
    market: str
    symbols: list[str]
    start: pd.Timestamp | None
    as_of: pd.Timestamp

    @property
    def asks(self) -> list[Ask]:
        """What has to be asked of the source, in order."""
        return plan(
            self.paths,
            self.config,
            self.source,
            self.market,
            self.symbols,
            start=self.start,
            as_of=self.as_of,
        )


def run(
    paths: Paths,
    config: ATLASConfig,
    *,
    as_of: pd.Timestamp,
    market: str,
    folder: Path | None = None,
    start: pd.Timestamp | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    wait_s: float = 0.0,
) -> dict[str, Any]:
    """Add a market's missing rows up to the night `as_of`; later rows stay untouched.

    Args:
        folder: of the archive, for the source `files`; by default the one the home is bound to.
        start: leave out rows before it; by default none.
        dry_run: only say what would be fetched, and write nothing.
        progress: told after each piece.
        wait_s: how long to wait for another ingest of this market, seconds.

    Returns:
        market, source, symbols, bars_added, bytes_read and bytes_written of the store, adjusted
        (symbols whose past was restated), and bars, first, last of what the night knows; or, dry,
        asks: a row of symbol, from, to and bars expected for each symbol.

    Raises:
        DataError: the source's files or the stored ones are not acceptable.
        SourceError: a live source does not answer.
        HomeError: the home is bound to another source, or this market is being ingested.
    """
    if start is not None and start >= as_of:
        raise ConfigError(f"from {start:%Y-%m-%d}: expected a date before {as_of:%Y-%m-%d}, the to")
    bound = binding(paths)
    folder = folder or (bound.folder if bound else None)
    source = source_for(config, market, folder)
    symbols = [store.symbol_name(symbol) for symbol in source.symbols(market)]
    if not symbols and config.markets[market].required:
        raise DataError(
            f"{market}: the source {config.source_of(market)!r} has no symbols of this market: "
            "add some, or give the market required: false in params.yaml"
        )
    work = _Work(paths, config, source, market, symbols, start, as_of)
    if dry_run:
        return _dry(work)
    bind(paths, config.source, folder)
    lock = paths.var / "locks" / f"ingest-{market}.lock"
    with hold(lock, f"ingest of {market}", wait_s=wait_s):
        bind_market(paths, market, config.source_of(market))
        return _ingest(work, progress)


def _ingest(work: _Work, progress: Progress | None) -> dict[str, Any]:
    paths, market, source = work.paths, work.market, work.source
    stamp = paths.var / "stamps" / f"ingest-{market}.json"
    key = _key(work)
    found = read_json(stamp) if stamp.is_file() and not source.is_live else None
    if found and found["key"] == key and found["files"] == _files(paths, market):
        log.info("ingest %s: nothing new to do, skipped", market)
        nothing = {"bars_added": 0, "bytes_read": 0, "bytes_written": 0, "adjusted": 0}
        return {**found["summary"], **nothing, "skipped": True}
    _sweep(paths, market)
    settings = work.config.markets[market]
    always = pd.Timestamp.max.tz_localize("UTC")
    source.check_rows(market)  # before the first is written: a bad file leaves data/ as it was
    before = store.extent(paths, market, settings, always).bars
    totals = _fill(work, progress)
    if work.config.source_of(market) == "simulated":
        write_truth(paths, source, market, work.as_of)
    added = store.extent(paths, market, settings, always).bars - before
    known = store.extent(paths, market, settings, work.as_of)
    summary = {
        "market": market,
        "source": work.config.source_of(market),
        "symbols": len(work.symbols),
        "bars_added": added,
        **totals,
        "bars": known.bars,
        "first": known.first.isoformat() if known.first is not None else None,
        "last": known.last.isoformat() if known.last is not None else None,
    }
    write_json(stamp, {"key": key, "files": _files(paths, market), "summary": summary})
    return {**summary, "skipped": False}


def _fill(work: _Work, progress: Progress | None) -> dict[str, int]:
    """Fetch and write piece by piece; return bytes read and written, and symbols adjusted."""
    paths, market = work.paths, work.market
    settings = work.config.markets[market]
    is_simulated = work.config.source_of(market) == "simulated"
    coverage = Coverage(paths.var / "coverage" / market, paths.bars(market))
    contents = Contents(paths.var / "contents" / f"{market}.json", paths.bars(market))
    totals = {"bytes_read": 0, "bytes_written": 0}
    adjusted: set[str] = set()
    asks = work.asks
    for done, ask in enumerate(asks, start=1):
        rows = work.source.fetch(market, ask.symbol, as_of=ask.end, start=ask.start)
        coverage.forget_changed(ask.symbol)
        written = store.write_bars(
            paths,
            market,
            ask.symbol,
            rows,
            Timeframe.parse(settings.timeframe),
            settings.modality,
            restated="refuse" if is_simulated else "keep",
            report=partial(record, paths, market, ask.symbol),
            contents=contents,
        )
        if work.source.is_live and ask.start is not None:
            coverage.add(ask.symbol, ask.label, Span(ask.start, ask.end))
        totals["bytes_read"] += written.bytes_read
        totals["bytes_written"] += written.bytes_written
        adjusted |= {ask.symbol} if written.adjustment else set()
        if progress:
            progress(f"{market}/{ask.symbol}", done, len(asks))
    contents.save()
    return {**totals, "adjusted": len(adjusted)}


def _dry(work: _Work) -> dict[str, Any]:
    """Say what would be fetched, one row a symbol."""
    rows: dict[str, dict[str, Any]] = {}
    for ask in work.asks:
        row = rows.setdefault(
            ask.symbol, {"symbol": ask.symbol, "from": None, "to": "", "bars": 0, "pieces": 0}
        )
        if row["from"] is None and ask.start is not None:
            row["from"] = ask.start.isoformat()
        row["to"] = ask.end.isoformat()
        row["bars"] += ask.bars
        row["pieces"] += 1
    return {
        "market": work.market,
        "source": work.config.source_of(work.market),
        "dry_run": True,
        "asks": list(rows.values()),
    }


def write_truth(paths: Paths, source: Source, market: str, as_of: pd.Timestamp) -> None:
    """Write the known probabilities of a simulated market, which grow from night to night."""
    from pipelines.sources.simulated import SimulatedSource

    assert isinstance(source, SimulatedSource)
    truth = source.truth(market, as_of)
    path = paths.truth(market)
    # like the bars, the truth of later nights stays when a past one runs
    if not path.is_file() or pq.read_metadata(path).num_rows < len(truth):
        write_parquet(path, truth)


def _key(work: _Work) -> str:
    """Return a digest over all that decides what this ingest finds."""
    parts: dict[str, Any] = {
        "code": code_digest(),
        "source": work.config.source_of(work.market),
        "symbols": work.symbols,
        "market": work.config.markets[work.market].model_dump(mode="json"),
        "start": work.start.isoformat() if work.start else None,
        "as_of": work.as_of.isoformat(),
        "given": work.source.digest(work.market),
    }
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
