"""Validate: a Great Expectations suite over a market's raw rows, failing closed.

What it decides:

- The rules are those of `atlas.row_rules`; a market gets those whose columns its rows have.
- A row that breaks a rule goes to quarantine by its key, with the reasons. All rows of a key that
  comes twice go, as nobody can tell which is right. A bad row, a bad symbol never stops the rest:
  one that is bad throughout or cannot be read is left out, and named.
- The market fails if more than its `bad_share` of rows is bad; a symbol that cannot be read counts
  as many as the others have on average. A market of a live source also fails if most of its
  symbols are stale. What was found is written before it fails.
- What only warns goes to a list of its own; those rows stay. Sessions that lack bars, or hold some
  at odd hours, are reported by symbol and never filled.
- A past night keeps the quarantine of the rows after it that later nights judged. Rows later than
  the clock, of a source that is not simulated, are quarantined too: they are somebody's error.
"""

import hashlib
import json
import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from atlas.config import LIVE_SOURCES, ATLASConfig, MarketConfig
from atlas.errors import DataError, GateError
from pipelines import findings, store
from pipelines.files import digest, write_json, write_parquet
from pipelines.judged import Judged
from pipelines.paths import Paths
from pipelines.stamps import once
from pipelines.suite import Mask, broken, rules_of
from pipelines.verdict import Verdict, read_verdict

__all__ = ["run"]

log = logging.getLogger(__name__)

_ALWAYS = pd.Timestamp("2262-01-01", tz="UTC")
_FUTURE = "not_in_the_future"


class _Outcome(NamedTuple):
    found: findings.Findings
    measured: findings.Measured


class _Work(NamedTuple):
    """One market's validation; `digests` are of its files, `future` holds keys past the clock."""

    paths: Paths
    settings: MarketConfig
    as_of: pd.Timestamp
    market: str
    digests: dict[str, str]
    future: pd.DataFrame
    is_live: bool


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, market: str) -> dict[str, Any]:
    """Check the rows of a market that the night `as_of` knows; write quarantine and summary.

    Returns:
        market, as_of, passed, covers (the latest night judged) and store (digest of the files it
        was judged by), symbols, unreadable (those whose files could not be read), left_out
        (symbols without a good row: why), rows, bad_rows, bad_share, bad_rows_by_rule, warnings
        (rows that only warn), warnings_by_rule, missing_bars, unexpected_bars, missing_quotes,
        short_sessions (symbol-sessions that lack a bar), misfits (symbols that the calendar does
        not fit), stale (sessions since the last row, where too many), future_rows, worst (symbol,
        session, rule and time) and data_docs, a page of what was found.

    Raises:
        GateError: too many rows are bad, or there is no row at all; it names the market, the
            rule, the share, the worst symbol and its first bad timestamp. Or a live source's
            symbols are stale.
    """
    settings = config.markets[market]
    symbols = store.symbols(paths, market)
    files = [path for symbol in symbols for path in store.symbol_files(paths, market, symbol)]
    digests = {str(path.relative_to(paths.home)): digest(path) for path in files}
    source = config.source_of(market)
    is_live = source in LIVE_SOURCES
    now = _ALWAYS if source == "simulated" else pd.Timestamp.now("UTC")
    future = _future(paths, settings, market, now)
    key = {
        "as_of": as_of.isoformat(),
        "market": settings.model_dump(mode="json"),
        "files": digests,
        "live": is_live,
        "future": len(future),
    }
    work = _Work(paths, settings, as_of, market, digests, future, is_live)
    return once(
        paths,
        f"validate-{market}",
        key,
        lambda: [
            paths.quarantine(market),
            paths.warnings(market),
            paths.sessions(market),
            paths.validation(market),
        ],
        lambda: _validate(work),
    )


def _validate(work: _Work) -> dict[str, Any]:
    paths, settings, as_of, market = work.paths, work.settings, work.as_of, work.market
    judged = hashlib.sha256(json.dumps(work.digests, sort_keys=True).encode()).hexdigest()
    before = read_verdict(paths, market)
    # until the new outcome stands there is none, so that a run that dies leaves no old pass behind
    paths.validation(market).unlink(missing_ok=True)
    outcome = _judge(work)
    found = outcome.found
    stale = {name: n for name, n in outcome.measured.behind.items() if n > settings.stale_sessions}
    fault = findings.fault(found, settings.bad_share, market)
    if fault is None and work.is_live and len(stale) > findings.SOURCE_STALE * found.readable:
        fault = _stale_fault(stale, settings, market)
    knows_more = before is not None and before.covers > as_of and before.store == judged
    summary: dict[str, Any] = {
        "market": market,
        "as_of": as_of.isoformat(),
        "passed": fault is None,
        "covers": (before.covers if before and knows_more else as_of).isoformat(),
        "store": judged,
        "symbols": len(store.symbols(paths, market)),
        **_summary(outcome, work),
        "stale": stale if work.is_live else {},
        "data_docs": str(paths.data_docs(str(as_of.date()), market).relative_to(paths.home)),
    }
    later = _later(paths, settings, as_of, market, before)
    bad = {name: mask for name, mask in found.broken.items() if name not in found.warned}
    quarantine = _joined(findings.reasons(found.rows, bad), later, work.future)
    write_parquet(paths.quarantine(market), quarantine)
    warned = {
        name: found.broken[name] & ~found.bad for name in found.broken if name in found.warned
    }
    write_parquet(paths.warnings(market), findings.reasons(found.rows, warned))
    write_parquet(paths.sessions(market), outcome.measured.sessions)
    write_json(paths.validation(market), summary)
    if fault is not None:
        raise GateError(fault)
    _tell(market, summary)
    return summary


def _judge(work: _Work) -> _Outcome:
    paths, settings, market = work.paths, work.settings, work.market
    read = findings.read(paths, settings, work.as_of, market)
    rows = read.frame
    measured = findings.measured(rows, settings, work.as_of)
    rules = rules_of(settings)
    page = paths.data_docs(str(work.as_of.date()), market)
    judged = Judged(paths, market, settings, work.digests)
    batch = rows.assign(**measured.columns)
    masks = broken(batch, rules, market, page, judged.rows(read.files))
    judged.record(read.files)
    warned = frozenset(rule.name for rule in rules if rule.warns)
    bad: Mask = np.logical_or.reduce([mask for name, mask in masks.items() if name not in warned])
    readable = len(store.symbols(paths, market)) - len(read.unreadable)
    found = findings.Findings(rows, masks, warned, bad, readable, read.unreadable)
    return _Outcome(found, measured)


def _summary(outcome: _Outcome, work: _Work) -> dict[str, Any]:
    """Put what was found in numbers and names."""
    found, sessions = outcome.found, outcome.measured.sessions
    counts = {name: int(mask.sum()) for name, mask in found.broken.items()}
    warned = [found.broken[name] for name in found.broken if name in found.warned]
    return {
        "unreadable": sorted(found.unreadable),
        "left_out": {**findings.bad_throughout(found), **found.unreadable},
        "rows": len(found.rows),
        "bad_rows": int(found.bad.sum()),
        "bad_share": findings.bad_share(found),
        "bad_rows_by_rule": {n: c for n, c in counts.items() if n not in found.warned},
        "warnings": int((np.logical_or.reduce(warned) & ~found.bad).sum()) if warned else 0,
        "warnings_by_rule": {n: c for n, c in counts.items() if n in found.warned},
        "missing_bars": int(sessions["missing"].sum()),
        "unexpected_bars": int(sessions["unexpected"].sum()),
        "missing_quotes": int(sessions["missing_quotes"].sum()),
        "short_sessions": int((sessions["missing"] > 0).sum()),
        "misfits": outcome.measured.misfits,
        "future_rows": len(work.future),
        "worst": findings.worst(found, work.settings),
    }


def _future(paths: Paths, settings: MarketConfig, market: str, now: pd.Timestamp) -> pd.DataFrame:
    """Return the keys of stored rows that are later than the clock."""
    parts = []
    for symbol in store.symbols(paths, market) if now < _ALWAYS else []:
        try:
            rows = store.read_after(paths, market, symbol, settings, now)
        except DataError:
            continue  # named when the rows are read
        parts.append(rows.assign(symbol=symbol))
    late = [part for part in parts if len(part)]
    if not late:
        return pd.DataFrame()
    every = pd.concat(late, ignore_index=True)
    return every[findings.keys(every)].drop_duplicates().assign(reason=_FUTURE)


def _stale_fault(stale: dict[str, int], settings: MarketConfig, market: str) -> str:
    symbol = max(stale, key=lambda name: stale[name])
    return (
        f"{market}: expected rows at most {settings.stale_sessions} sessions old; {len(stale)} "
        f"symbols are older, {symbol} by rule fresh: {stale[symbol]} sessions: see to its source"
    )


def _tell(market: str, summary: dict[str, Any]) -> None:
    """Log what people should know although the market passed."""
    for symbol, reason in summary["left_out"].items():
        log.warning("%s: %s is left out: %s", market, symbol, reason)
    for symbol, share in summary["misfits"].items():
        log.warning("%s: %.1f%% of %s lies outside its calendar", market, 100 * share, symbol)
    for symbol, count in summary["stale"].items():
        log.warning("%s: %s is stale: no row for %d sessions", market, symbol, count)
    if summary["future_rows"]:
        log.warning("%s: %d rows are later than the clock", market, summary["future_rows"])
    if summary["warnings"]:
        rules = ", ".join(f"{n} {c}" for n, c in summary["warnings_by_rule"].items() if c)
        log.warning("%s: %d rows to look at: %s", market, summary["warnings"], rules)


def _later(
    paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str, before: Verdict | None
) -> pd.DataFrame | None:
    """Return the quarantine of rows that this night does not know and a later one has judged."""
    if before is None:
        return None
    found = pd.read_parquet(paths.quarantine(market))
    return found[~store.known_by(found["timestamp"], as_of, settings)]


def _joined(bad: pd.DataFrame, later: pd.DataFrame | None, future: pd.DataFrame) -> pd.DataFrame:
    more = [part for part in (later, future) if part is not None and len(part)]
    if not more:
        return bad
    every = pd.concat([bad, *more] if len(bad) else more)
    keys = every.columns.drop("reason").tolist()
    return every.drop_duplicates(keys).sort_values(keys, ignore_index=True)[[*keys, "reason"]]
