"""Validate: a Great Expectations suite over a market's raw rows, failing closed.

What it decides:

- Rules are rows of data; a market gets those whose columns its rows have. Rules that compare rows
  or columns read helper columns (`_measures`), so that every rule is one plain expectation.
- A row that breaks a rule goes to quarantine by its key, with the reasons. All rows of a key that
  comes twice go, as nobody can tell which is right. A bad row, a bad symbol never stops the rest:
  one that is bad throughout or cannot be read is left out, and named.
- The market fails if more than its `bad_share` of rows is bad; a symbol that cannot be read counts
  as many as the others have on average. What was found is written before it fails.
- A past night keeps the quarantine of the rows after it that later nights judged.
- Bars that a calendar expects and that are missing are counted, never invented, and fail nothing.

Great Expectations takes seconds to import, so that happens only where a suite runs.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import PRICES, Timeframe
from atlas.calendars import bar_opens, session_days, sessions
from atlas.config import ATLASConfig, MarketConfig
from atlas.errors import DataError, GateError
from atlas.surfaces import DELTAS, TENORS
from pipelines import store
from pipelines.files import digest, write_json, write_parquet
from pipelines.paths import Paths
from pipelines.stamps import once
from pipelines.verdict import Verdict, read_verdict

__all__ = ["BAR_RULES", "SURFACE_RULES", "Rule", "run"]

log = logging.getLogger(__name__)

Mask: TypeAlias = NDArray[np.bool_]  # (N,) over a market's rows

# the second sets its own level, INFO, when it is imported
_CHATTY = ("great_expectations", "great_expectations.data_context.types.base")
LARGEST = 1e300  # what is above it is infinite
LARGEST_IV = 5.0  # 500 % a year
DELTA_TOLERANCE = 1e-6  # deltas of some archives went through single precision


class Rule(NamedTuple):
    """One expectation of a suite: its name in reports, its class in GX, and its arguments."""

    name: str
    expectation: str
    arguments: dict[str, Any]

    @property
    def columns(self) -> set[str]:
        """The columns the rule reads."""
        keys = ("column", "column_A", "column_B")
        return {self.arguments[key] for key in keys if key in self.arguments}


class _Findings(NamedTuple):
    """What a night's N rows of a market are like.

    Attributes:
        rows: all of them, symbol after symbol.
        broken: which rows break each rule, by its name.
        bad: which rows break any.
        readable: number of symbols that could be read.
        unreadable: why the others could not.
    """

    rows: pd.DataFrame
    broken: dict[str, Mask]
    bad: Mask
    readable: int
    unreadable: dict[str, str]


def _present(column: str) -> Rule:
    return Rule(f"{column}_present", "ExpectColumnValuesToNotBeNull", {"column": column})


def _between(name: str, column: str, low: float, high: float, *, above: bool = False) -> Rule:
    limits = {"column": column, "min_value": low, "max_value": high, "strict_min": above}
    return Rule(name, "ExpectColumnValuesToBeBetween", limits)


def _at_least(name: str, column: str, other: str) -> Rule:
    pair = {
        "column_A": column,
        "column_B": other,
        "or_equal": True,
        "ignore_row_if": "either_value_is_missing",
    }
    return Rule(name, "ExpectColumnPairValuesAToBeGreaterThanB", pair)


def _common(*keys: str) -> tuple[Rule, ...]:
    return (
        _present("timestamp"),
        Rule("key_unique", "ExpectCompoundColumnsToBeUnique", {"column_list": ["symbol", *keys]}),
        _between("time_in_order", "seconds_since_previous", 0, LARGEST),
        _between("known_by_night", "seconds_before_night", 0, LARGEST),
    )


BAR_RULES = (
    *_common("timestamp"),
    *(_present(price) for price in PRICES),
    *(_between(f"{price}_positive", price, 0, LARGEST, above=True) for price in PRICES),
    _between("adj_close_positive", "adj_close", 0, LARGEST, above=True),
    _at_least("high_covers_open_and_close", "high", "body_high"),
    _at_least("low_covers_open_and_close", "body_low", "low"),
    _between("volume_not_negative", "volume", 0, LARGEST),
    _at_least("spread_not_negative", "ask", "bid"),
)
SURFACE_RULES = (
    *_common("timestamp", "tenor", "delta"),
    _present("iv"),
    _between("iv_positive_and_small", "iv", 0, LARGEST_IV, above=True),
    _between("tenor_known", "tenor", 1, TENORS),
    _between("delta_known", "delta_error", 0, DELTA_TOLERANCE),
)


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, market: str) -> dict[str, Any]:
    """Check the rows of a market that the night `as_of` knows; write quarantine and summary.

    Returns:
        market, as_of, passed, covers (the latest night judged) and store (digest of the files it
        was judged by), symbols, unreadable (those whose files could not be read), left_out
        (symbols without a good row: why), rows, bad_rows, bad_share, bad_rows_by_rule,
        missing_bars, short_sessions (symbol-sessions that lack a bar).

    Raises:
        GateError: too many rows are bad, or there is no row at all; it names the market, the
            rule, the share, the worst symbol and its first bad timestamp.
    """
    settings = config.markets[market]
    symbols = store.symbols(paths, market)
    files = [path for symbol in symbols for path in store.symbol_files(paths, market, symbol)]
    digests = {str(path.relative_to(paths.home)): digest(path) for path in files}
    key = {
        "as_of": as_of.isoformat(),
        "market": settings.model_dump(mode="json"),
        "files": digests,
    }
    judged = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    return once(
        paths,
        f"validate-{market}",
        key,
        lambda: [paths.quarantine(market), paths.validation(market)],
        lambda: _validate(paths, settings, as_of, market, judged),
    )


def _validate(
    paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str, judged: str
) -> dict[str, Any]:
    before = read_verdict(paths, market)
    # until the new outcome stands there is none, so that a run that dies leaves no old pass behind
    paths.validation(market).unlink(missing_ok=True)
    found = _judge(paths, settings, as_of, market)
    fault = _fault(found, settings.bad_share, market)
    knows_more = before is not None and before.covers > as_of and before.store == judged
    summary: dict[str, Any] = {
        "market": market,
        "as_of": as_of.isoformat(),
        "passed": fault is None,
        "covers": (before.covers if before and knows_more else as_of).isoformat(),
        "store": judged,
        "symbols": len(store.symbols(paths, market)),
        "unreadable": sorted(found.unreadable),
        "left_out": {**_bad_throughout(found), **found.unreadable},
        "rows": len(found.rows),
        "bad_rows": int(found.bad.sum()),
        "bad_share": _bad_share(found),
        "bad_rows_by_rule": {name: int(mask.sum()) for name, mask in found.broken.items()},
        **_missing(found.rows, settings),
    }
    later = _later(paths, settings, as_of, market, before)
    write_parquet(paths.quarantine(market), _joined(_reasons(found.rows, found.broken), later))
    write_json(paths.validation(market), summary)
    if fault is not None:
        raise GateError(fault)
    for symbol, reason in summary["left_out"].items():
        log.warning("%s: %s is left out: %s", market, symbol, reason)
    return summary


def _judge(paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str) -> _Findings:
    symbols = store.symbols(paths, market)
    rows, unreadable = _read(paths, settings, as_of, market, symbols)
    rules = BAR_RULES if settings.modality == "chart" else SURFACE_RULES
    batch = _measures(rows, settings, as_of)
    broken = _broken(batch, [rule for rule in rules if rule.columns <= set(batch)], market)
    bad = np.logical_or.reduce(list(broken.values()))
    return _Findings(rows, broken, bad, len(symbols) - len(unreadable), unreadable)


def _later(
    paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str, before: Verdict | None
) -> pd.DataFrame | None:
    """Return the quarantine of rows that this night does not know and a later one has judged."""
    if before is None:
        return None
    found = pd.read_parquet(paths.quarantine(market))
    return found[~store.known_by(found["timestamp"], as_of, settings)]


def _joined(bad: pd.DataFrame, later: pd.DataFrame | None) -> pd.DataFrame:
    if later is None or later.empty:
        return bad
    both = pd.concat([bad, later]) if len(bad) else later
    return both.sort_values(both.columns.drop("reason").tolist(), ignore_index=True)


def _read(
    paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str, symbols: list[str]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read every symbol into one frame; return the reasons of those that cannot be read, too."""
    frames, unreadable = [], {}
    for symbol in symbols:
        try:
            frame = store.read_bars(
                paths, market, symbol, as_of=as_of, config=settings, quarantined=False
            )
        except DataError as error:
            unreadable[symbol] = str(error)
            continue
        if settings.modality == "chart":
            frame = frame.reset_index()
        frames.append(frame.assign(symbol=symbol))
    if not any(len(frame) for frame in frames):
        nothing = f"no rows known by {as_of:%Y-%m-%d}: run ingest"
        raise GateError(f"{market}: {next(iter(unreadable.values()), nothing)}")
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True), unreadable


def _measures(rows: pd.DataFrame, settings: MarketConfig, as_of: pd.Timestamp) -> pd.DataFrame:
    """Add the helper columns that rules over several rows or columns read."""
    known = rows["timestamp"]
    if settings.modality == "chart":
        known = known + Timeframe.parse(settings.timeframe).delta
    since_previous = rows.groupby("symbol", sort=False)["timestamp"].diff()
    more = {
        "seconds_since_previous": since_previous.dt.total_seconds(),
        "seconds_before_night": (as_of - known).dt.total_seconds(),
    }
    if settings.modality == "chart":
        more["body_high"] = rows[["open", "close"]].max(axis=1)
        more["body_low"] = rows[["open", "close"]].min(axis=1)
    else:
        errors = [(rows["delta"] - delta).abs() for delta in DELTAS]
        more["delta_error"] = pd.concat(errors, axis=1).min(axis=1).fillna(np.inf)
    return rows.assign(**more)


def _broken(batch: pd.DataFrame, rules: Iterable[Rule], market: str) -> dict[str, Mask]:
    """Run the suite over N rows; return which rows break each rule, (N,) by the rule's name.

    Raises:
        GateError: a rule could not be checked.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when GX is imported
    import great_expectations as gx

    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("store").add_dataframe_asset(market)
    definition = asset.add_batch_definition_whole_dataframe("rows")
    suite = gx.ExpectationSuite(market)
    for rule in rules:
        expectation = getattr(gx.expectations, rule.expectation)
        suite.add_expectation(expectation(**rule.arguments, meta={"rule": rule.name}))
    outcome = definition.get_batch({"dataframe": batch}).validate(suite, result_format="COMPLETE")
    broken = {}
    for result in outcome.results:
        name = result.expectation_config.meta["rule"]
        places = result.result.get("unexpected_index_list")
        if not result.success and not places:
            raise GateError(f"{market}: rule {name} could not be checked: {result.exception_info}")
        broken[name] = np.zeros(len(batch), dtype=np.bool_)
        broken[name][places or []] = True
    return broken


def _reasons(rows: pd.DataFrame, broken: dict[str, Mask]) -> pd.DataFrame:
    """Return the keys of the rows that break a rule, one row a key, with the rules' names."""
    keys = ["symbol", "timestamp", *(name for name in ("tenor", "delta") if name in rows)]
    parts = [rows.loc[mask, keys].assign(reason=name) for name, mask in broken.items()]
    every = pd.concat(parts, ignore_index=True).drop_duplicates()
    grouped = every.groupby(keys, dropna=False, sort=True)["reason"]
    return grouped.agg("; ".join).reset_index()


def _missing(rows: pd.DataFrame, settings: MarketConfig) -> dict[str, int]:
    """Count what the calendar expects between a symbol's first and last row and is not there."""
    calendar, timeframe = settings.calendar, Timeframe.parse(settings.timeframe)
    is_surface = settings.modality == "surface"
    missing, short = 0, 0
    for _, times in rows.groupby("symbol", sort=False)["timestamp"]:
        there = pd.DatetimeIndex(times.unique())
        first, last = there.min().normalize(), there.max().normalize()
        days = sessions(calendar, first, last + pd.Timedelta(days=1))
        expected = bar_opens(calendar, timeframe, days)
        if is_surface:  # taken at any hour of its day
            there = there.normalize()
        expected = expected[(expected >= there.min()) & (expected <= there.max())]
        lacking = expected.difference(there)
        missing += len(lacking)
        short += len(np.unique(session_days(lacking, calendar, timeframe)))
    return {"missing_bars": missing, "short_sessions": short}


def _bad_share(found: _Findings) -> float:
    """Return the share of bad rows; what cannot be read counts as bad, at the others' average."""
    unread = len(found.unreadable) * len(found.rows) / found.readable
    return float((found.bad.sum() + unread) / (len(found.rows) + unread))


def _bad_throughout(found: _Findings) -> dict[str, str]:
    """Return the symbols without a good row, each with the rule that most of them break."""
    whole = pd.Series(found.bad).groupby(found.rows["symbol"], sort=False).all()
    return {
        str(symbol): f"every row is bad, most by rule {_rule_of(found, symbol)[0]}"
        for symbol in whole.index[whole]
    }


def _fault(found: _Findings, limit: float, market: str) -> str | None:
    """Return why a market fails, naming its worst symbol and what to do, or None."""
    share = _bad_share(found)
    if share <= limit:
        return None
    what = f"{market}: {share:.2%} of its rows are bad, more than its limit of {limit:.2%}"
    if found.unreadable:
        reason = next(iter(found.unreadable.values()))
        return f"{what}; {len(found.unreadable)} symbols cannot be read: {reason}"
    by_symbol = pd.Series(found.bad).groupby(found.rows["symbol"], sort=False).mean()
    symbol = str(by_symbol.idxmax())
    rule, first = _rule_of(found, symbol)
    return (
        f"{what}; worst symbol {symbol}: {by_symbol[symbol]:.2%} bad, mostly by rule {rule}, "
        f"first at {first.isoformat()}: correct its bars or leave the symbol out"
    )


def _rule_of(found: _Findings, symbol: str) -> tuple[str, pd.Timestamp]:
    """Return the rule that most rows of a symbol break, and when it is first broken."""
    own = (found.rows["symbol"] == symbol).to_numpy()
    rule = max(found.broken, key=lambda name: int((found.broken[name] & own).sum()))
    return rule, found.rows.loc[own & found.broken[rule], "timestamp"].min()
