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
from pipelines.paths import PROJECT, Paths

__all__ = ["run", "show"]


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Summarize a night: champion, reason, and the mean accuracy of each model.

    Returns:
        as_of, source, champion_version, promoted, reason, accuracy by model (mean over markets),
        and whether the table is this night's (`is_current`).
    """
    decision, heading = _record(paths, "promotion"), _heading(paths)
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
    for line in _outcome(paths) + _next(paths):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _outcome(paths: Paths) -> list[str]:
    decision, night = _record(paths, "promotion"), _record(paths, "registration")
    lines = []
    if night.get("registered"):
        lines.append(f"Registered: version {night['candidate_version']}, {night['candidate']}")
    elif night:
        lines.append(f"Registered: nothing new. {night.get('reason', '')}; finished stages skipped")
    if not decision:
        return [*lines, "Champion: none; no night has been judged yet."]
    version = decision.get("champion_version")
    holder = f"version {version} of atlas-moe" if version is not None else "none"
    news = " (new)" if decision.get("promoted") and night.get("registered") else ""
    lines.append(f"Champion: {holder}{news}")
    figures, challenger = decision.get("figures", {}), decision.get("challenger_version")
    if challenger is not None and "evidence" in figures:
        lines.append(
            f"Challenger: version {challenger}, e = {figures['evidence']:.3g} of "
            f"{figures['evidence_needed']:g}, night {figures['nights']} of at most "
            f"{figures['nights_allowed']}"
        )
    return [*lines, f"Why: {decision.get('reason', 'unknown')}"]


def _next(paths: Paths) -> list[str]:
    night = str(read_json(paths.night)["as_of"]) if paths.night.is_file() else ""
    other = "" if paths.home == PROJECT else f" HOME_DIR={paths.home}"
    return [
        "Where to look next:",
        f"  figure     {paths.benchmark / 'accuracy.html'}",
        f"  data docs  {paths.data_docs(night, 'any').parent}",
        f"  services   make up{other}: Airflow http://127.0.0.1:8080, MLflow http://127.0.0.1:5000",
        f"  registry   {paths.tracking_uri}, model atlas-moe",
        "  docs       README.md and docs/",
    ]


def _record(paths: Paths, stage: str) -> dict[str, Any]:
    path = paths.artifacts / f"{stage}.json"
    return dict(read_json(path)) if path.is_file() else {}


def _heading(paths: Paths) -> dict[str, Any]:
    path = paths.benchmark / "table.json"
    return dict(read_json(path)) if path.is_file() else {}
