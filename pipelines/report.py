"""Tell the outcome of a night: the table, the champion and why, and where to look next.

`run` gives the outcome as a summary, for Airflow; `show` prints it, with colors on a terminal and
plainly elsewhere. Both only read what the stages wrote; what is missing is named, never an error,
so that a failed night still has a report.
"""

from typing import Any

import pandas as pd
from rich.console import Console

from atlas.benchmark import POOLED
from atlas.config import ATLASConfig
from pipelines.figures import caption, text_table
from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["run", "show"]


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Summarize a night: champion, reason, and the mean accuracy of each model.

    Returns:
        as_of, source, champion_version, promoted, reason, accuracy by model (mean over markets),
        and whether the table is this night's (`is_current`).
    """
    decision, heading = _decision(paths), _heading(paths)
    pooled = {}
    for row in heading.get("rows", []):
        if row["market"] == POOLED:
            pooled[row["model"]] = round(row["accuracy"], 6)
    return {
        "as_of": str(as_of.date()),
        "source": config.source,
        "is_current": heading.get("as_of") == str(as_of.date()),
        "champion_version": decision.get("champion_version"),
        "promoted": decision.get("promoted", False),
        "reason": decision.get("reason", "this home has no promotion yet"),
        "accuracy": pooled,
    }


def show(paths: Paths, console: Console) -> None:
    """Print the last night's table, the champion and the next places to look."""
    heading, path = _heading(paths), paths.benchmark / "table.parquet"
    if heading and path.is_file():
        console.print(caption(heading), highlight=False)
        console.print(text_table(pd.read_parquet(path)))
    else:
        console.print("No benchmark table yet: run `make nightly`.", highlight=False)
    for line in _champion(_decision(paths)) + _next(paths):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _champion(decision: dict[str, Any]) -> list[str]:
    if not decision:
        return ["Champion: none; no night has been judged yet."]
    version = decision.get("champion_version")
    holder = f"version {version} of atlas-moe" if version is not None else "none"
    news = " (new)" if decision.get("promoted") else ""
    candidate = decision.get("candidate")
    lines = [f"Champion: {holder}{news}"]
    if candidate:
        lines.append(f"Candidate: {candidate}")
    return [*lines, f"Why: {decision.get('reason', 'no reason was given')}"]


def _next(paths: Paths) -> list[str]:
    return [
        "Where to look next:",
        f"  figure     {paths.benchmark / 'accuracy.html'}",
        "  services   make up, then Airflow http://127.0.0.1:8080 and MLflow http://127.0.0.1:5000",
        f"  registry   {paths.tracking_uri}, model atlas-moe",
        "  docs       README.md and docs/",
    ]


def _decision(paths: Paths) -> dict[str, Any]:
    path = paths.artifacts / "promotion.json"
    return dict(read_json(path)) if path.is_file() else {}


def _heading(paths: Paths) -> dict[str, Any]:
    path = paths.benchmark / "table.json"
    return dict(read_json(path)) if path.is_file() else {}
