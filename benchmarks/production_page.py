"""Write the measured parts of docs/operations.md and docs/scale.md from the results they quote.

`python -m benchmarks.production_page` replaces what stands between the markers of each benchmark;
a test compares the pages with the files under benchmarks/results/. A benchmark without a results
file keeps its block.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import typer

from benchmarks import scale_page
from benchmarks.training_page import replaced

__all__ = ["BLOCKS", "written"]

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
PAGES = tuple(PROJECT / "docs" / name for name in ("operations.md", "scale.md"))
_CAUSE = 110  # letters of a line that names a cause


def written(text: str) -> str:
    """Return a page with every marked block written anew from its results file."""
    for name, (source, block) in BLOCKS.items():
        path = RESULTS / f"{source}.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            text = replaced(text, name, block(found))
    return text


def _faults(found: dict[str, Any]) -> str:
    nights = found["nights"]
    losses = [loss for night in nights for loss in night["losses"]]
    well, again = sum(one["well"] for one in losses), sum(one["runs"] > 1 for one in nights)
    seconds = [one["seconds"] for one in nights]
    lines = [
        f"**{well} of {len(losses)} losses ended well**, in {len(nights)} nights; "
        f"{again} of the nights had to be asked for a second time. An undisturbed night took "
        f"{found['calm_s']:.0f} s on that machine, which had other work, a disturbed one "
        f"{median(seconds):.0f} s (median; at most {max(seconds):.0f}).",
        "",
        "| lost | times | ended well | during | a line that named it |",
        "|---|--:|--:|---|---|",
    ]
    for kind in sorted({one["kind"] for one in losses}):
        own = [one for one in losses if one["kind"] == kind]
        stages = ", ".join(sorted({one["stage"].removeprefix("markets.") for one in own}))
        cells = (kind.replace("_", " "), str(len(own)), str(sum(one["well"] for one in own)))
        lines.append(f"| {' | '.join((*cells, stages, _named(own)))} |")
    return "\n".join([*lines, "", _said(found)])


def _named(losses: list[dict[str, Any]]) -> str:
    told = [one["cause"] for one in losses if one["cause"]]
    if not told:
        return "nothing was on the way that could be lost"
    file, _, line = min(told, key=len).partition(": ")
    line = re.sub(r"^\S*\d{4}-\d\d-\d\dT\S+ (\[\w+ *\] )?", "", line)
    line = re.sub(r"[|`*<>]", " ", line)
    return f"{file}: `{line[:_CAUSE].strip()}`"


def _claims(found: dict[str, Any]) -> str:
    lines = ["| | measured | asked |", "|---|--:|--:|"]
    for row in found["results"]:
        lines.append(f"| {_words(row['name'])}, {row['unit']} | {row['median']:.3g} | |")
    for row in found["ratios"]:
        target = "" if row["target"] is None else f"{row['target']:g}"
        lines.append(f"| **{_words(row['name'])}** | {row['value']:.3g} | {target} |")
    return "\n".join([*lines, "", _said(found)])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _said(found: dict[str, Any]) -> str:
    facts = found["metadata"]
    command = facts["command"].partition(" --json")[0]
    return (
        f"`{command}`, commit {facts['commit'][:7]}, {facts['date'][:10]}, {facts['cores']} cores."
    )


BLOCKS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "faults": ("faults", _faults),
    "backfill": ("backfill", _claims),
    "nightly": ("nightly", _claims),
    "scale": ("scale", scale_page.measured),
    "projection": ("scale", scale_page.projected),
}


def main() -> None:
    """Rewrite the pages."""
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
        typer.echo(f"wrote {page.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
