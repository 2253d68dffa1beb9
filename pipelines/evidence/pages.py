"""Publish the long benchmark: files in the home, a run in MLflow, the table on the console."""

import json
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from pipelines import tracking
from pipelines.evidence import plan, text
from pipelines.evidence.table import Evidence, assemble
from pipelines.files import write_bytes, write_json, write_parquet
from pipelines.night import Night

__all__ = ["Took", "cost_of", "document", "publish"]

_LEGEND = (
    "Accuracy, ECE and the accuracy of the surest tenth in per cent, ± half the interval over "
    "sessions (simulated: over paths); log-loss in nats; break-even in basis points a trade after "
    "half the spread; lift and gain against known probabilities, shares of the informed ceiling; "
    "latency: one window's time over the CNN's; seed: the figure that the seed claims."
)


class Took(NamedTuple):
    """What a run cost: when its clock began (monotonic), units done in it, units at once."""

    begun: float
    done: int
    jobs: int


def publish(night: Night, console: Console, took: Took) -> None:
    """Score what the units left, write it, log it and print it."""
    found = assemble(night.paths, night.config)
    run = tracking.open_benchmark(night.paths)
    record = document(night, found, run)
    record["metadata"]["took"] = cost_of(night, took)
    folder = plan.root(night.paths)
    write_parquet(folder / "table.parquet", found.table)
    write_parquet(folder / "tests.parquet", found.tests)
    write_parquet(folder / "volatility.parquet", found.volatility)
    write_json(folder / "results.json", record)
    parts = [_LEGEND, text.scores(found.table), _rival(found), text.tests(found.tests)]
    if len(found.checks):
        parts += [text.checks(found.checks)]
    parts += [text.volatility(found.volatility), text.volatility_tests(found.volatility_tests)]
    written = text.as_text(parts)
    write_bytes(folder / "table.txt", written.encode())
    tracking.log_benchmark(night.paths, run, record["metadata"], _metrics(found.table), folder)
    for part in parts:
        console.print(part, highlight=False)
    console.print(f"run {run}; files in {folder}", highlight=False, soft_wrap=True)


def document(night: Night, found: Evidence, run: str) -> dict[str, Any]:
    """Return everything that was found as one JSON document, NaN as null."""
    commit, dirty = tracking.revision()
    used = night.config.model_dump(mode="json", include={"benchmark", "training", "model", "moe"})
    metadata = {
        "command": _command(night),
        "source": night.config.source,
        "run": run,
        "commit": commit,
        "dirty": dirty,
        "data_version": tracking.data_version(night.paths),
        "as_of": str(night.as_of.date()),
        "rival": found.rival,
        "params": used,
    }
    return {
        "metadata": metadata,
        "table": _rows(found.table),
        "tests": _rows(found.tests),
        "checks": _rows(found.checks),
        "volatility": _rows(found.volatility),
        "volatility_tests": _rows(found.volatility_tests),
        "volatility_tests_as_said": _rows(found.volatility_tests_as_said),
        "curves": found.curves,
    }


def cost_of(night: Night, took: Took) -> dict[str, float | int]:
    """Return the wall time from start to table, what was done in it, and all units' work.

    The wall time is that of the whole only if no unit had been done before: `done` is `units`.
    """
    units = plan.units(night.config)
    spent = plan.facts(night.paths, units, "cpu_s").values()
    return {
        "wall_s": round(time.monotonic() - took.begun),
        "units": len(units),
        "done": took.done,
        "jobs": took.jobs,
        "cpu_s": round(sum(spent)),
    }


def _command(night: Night) -> str:
    """Return what was run, as the page quotes it."""
    archive = "" if night.folder is None else " --source files --data …"
    return f"python -m pipelines evidence --seeds {len(night.config.benchmark.seeds)}{archive}"


def _rival(found: Evidence) -> str:
    return f"The rival, best on validation: {found.rival}. Below 0 the first model loses less."


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    finite = table.astype(object).where(~table.isin([np.inf, -np.inf]) & table.notna(), None)
    rows: list[dict[str, Any]] = json.loads(json.dumps(finite.to_dict("records")))
    return rows


def _metrics(table: pd.DataFrame) -> dict[str, float]:
    names = ("accuracy", "log_loss", "ece", "informed_lift", "informed_gain")
    return {
        f"{row['market'].replace(' ', '_')}.{row['model']}.{name}": float(row[name])
        for row in table.to_dict("records")
        for name in names
        if np.isfinite(row[name])
    }
