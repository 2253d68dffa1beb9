"""The Great Expectations suite of an asset class: built from `atlas.row_rules`, run, and shown.

There are three: bars around the clock, bars with sessions, and surfaces. A rule becomes one plain
expectation over a column; the columns that take several rows are measured before. Every row is
judged twice when it comes, by the suite and by the same rules in NumPy, and the two have to agree.
Rows that the suite knows from a night before go through NumPy again, and through the suite only if
that finds something, so that a night does not cost what its history does. Great Expectations takes
seconds to import, so that happens only where a suite runs. Of a run a page of Data Docs is kept,
for people; it holds times of running, so it is no artifact.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.calendars import has_close
from atlas.config import MarketConfig
from atlas.errors import GateError
from atlas.row_rules import BAR_RULES, SESSION_RULES, SURFACE_RULES, Rule, broken_by
from pipelines.files import write_bytes

__all__ = ["Mask", "broken", "rules_of"]

Mask: TypeAlias = NDArray[np.bool_]  # (N,) over a market's rows

# the second sets its own level, INFO, when it is imported
_CHATTY = ("great_expectations", "great_expectations.data_context.types.base")
_SHOWN = 20  # rows that break a rule, on a page of Data Docs


def rules_of(settings: MarketConfig) -> tuple[Rule, ...]:
    """Return the rules of a market's asset class."""
    if settings.modality == "surface":
        return SURFACE_RULES
    return SESSION_RULES if has_close(settings.calendar) else BAR_RULES


def broken(
    batch: pd.DataFrame,
    rules: Iterable[Rule],
    market: str,
    page: Path | None = None,
    known: Mask | None = None,
) -> dict[str, Mask]:
    """Run the suite over N rows; return which rows break each rule, (N,) by the rule's name.

    Args:
        batch: rows and what was measured of them; a rule whose columns it lacks is left out.
        page: where to write the Data Docs of this run, whose counts are of all N rows.
        known: which rows the suite judged in a night before, (N,); by default none.

    Raises:
        GateError: a rule could not be checked.
    """
    used = [rule for rule in rules if rule.columns <= set(batch)]
    found = {rule.name: _broken_by(batch, rule) for rule in used}
    rows = slice(None)
    if known is not None:
        rows = np.logical_or.reduce([~known, *found.values()])
    columns = sorted(set().union(*(rule.columns for rule in used)))
    outcome = _outcome(batch.loc[rows, columns], used, market)
    for result in outcome.results:
        name = result.expectation_config.meta["rule"]
        places = result.result.get("unexpected_index_list") or []
        if not result.success and not places:
            raise GateError(f"{market}: rule {name} could not be checked: {result.exception_info}")
        if places != np.flatnonzero(found[name]).tolist():
            raise GateError(
                f"{market}: rule {name}: expected the suite to find the "
                f"{int(found[name].sum())} rows that the rule itself does; got {len(places)}: "
                "see to the versions in requirements.lock"
            )
    if page is not None:
        write_bytes(page, _page(outcome, used, market, batch).encode())
    return found


def _broken_by(batch: pd.DataFrame, rule: Rule) -> Mask:
    if rule.required:
        return np.asarray(batch[rule.column].isna(), np.bool_)
    return broken_by({name: batch[name].to_numpy(np.float64) for name in rule.columns}, rule)


def _outcome(batch: pd.DataFrame, rules: list[Rule], market: str) -> Any:
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
        suite.add_expectation(_expectation(gx.expectations, rule))
    return definition.get_batch({"dataframe": batch}).validate(suite, result_format="COMPLETE")


def _expectation(expectations: Any, rule: Rule) -> Any:
    """Say a rule in the words of Great Expectations."""
    meta = {"rule": rule.name}
    text = f"{rule.name} ({'a warning' if rule.warns else 'a row that breaks it is quarantined'})"
    said = {"meta": meta, "description": text}
    if rule.required:
        return expectations.ExpectColumnValuesToNotBeNull(column=rule.column, **said)
    if rule.other is not None:
        return expectations.ExpectColumnPairValuesAToBeGreaterThanB(
            column_A=rule.column,
            column_B=rule.other,
            or_equal=True,
            ignore_row_if="either_value_is_missing",
            **said,
        )
    return expectations.ExpectColumnValuesToBeBetween(
        column=rule.column,
        min_value=rule.low,
        max_value=rule.high,
        strict_min=rule.above,
        **said,
    )


def _page(outcome: Any, rules: list[Rule], market: str, batch: pd.DataFrame) -> str:
    """Render one run as a page of Data Docs, with a few of the rows that break each rule."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    by_name = {rule.name: rule for rule in rules}
    for result in outcome.results:
        _count_all(result.result, by_name[result.expectation_config.meta["rule"]], batch)
        for name in ("unexpected_list", "unexpected_index_list"):
            result.result[name] = (result.result.get(name) or [])[:_SHOWN]
    outcome.meta["expectation_suite_name"] = market
    page: str = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(outcome))
    return page


def _count_all(said: dict[str, Any], rule: Rule, batch: pd.DataFrame) -> None:
    """Let what a rule found count among all rows, those known from a night before included."""
    absent = [batch[name].isna().to_numpy() for name in rule.columns]
    missing = 0 if rule.required else int(np.logical_or.reduce(absent).sum())
    shares = {
        "missing_percent": (missing, len(batch)),
        "unexpected_percent": (said["unexpected_count"], len(batch) - missing),
        "unexpected_percent_nonmissing": (said["unexpected_count"], len(batch) - missing),
        "unexpected_percent_total": (said["unexpected_count"], len(batch)),
    }
    counts: dict[str, float | None] = {"element_count": len(batch), "missing_count": missing}
    counts |= {name: 100 * part / all_ if all_ else None for name, (part, all_) in shares.items()}
    said.update({name: value for name, value in counts.items() if name in said})
