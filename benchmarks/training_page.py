"""Write the tables of docs/training.md and docs/trust.md from the benchmarks that they quote.

`python -m benchmarks.training_page` replaces what stands between the markers of each benchmark; a
test compares the pages with the files under benchmarks/results/.
"""

import json
import re
from pathlib import Path
from typing import Any

import typer

__all__ = ["PAGES", "replaced", "written"]

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
PAGES = {
    "training.md": ("harx", "retraining", "tuning", "training_kills", "training"),
    "trust.md": ("size",),
}


def written(page: str, text: str) -> str:
    """Return one of `PAGES` with every marked block written anew from its results file.

    A benchmark without a file keeps its block.
    """
    for name in PAGES[page]:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            text = replaced(text, name, _block(found))
    return text


def replaced(text: str, name: str, block: str) -> str:
    """Return a page with another block between a benchmark's markers."""
    begin, end = f"<!-- {name}: written by benchmarks -->", f"<!-- end of {name} -->"
    new = f"{begin}\n\n{block}\n\n{end}"
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: new, text, flags=re.DOTALL)


def _block(found: dict[str, Any]) -> str:
    facts = found["metadata"]
    lines = ["| | median | p10 … p90 | n |", "|---|--:|--:|--:|"]
    for row in found["results"]:
        spread = f"{_number(row['p10'])} … {_number(row['p90'])}"
        cells = (f"{row['name']}, {row['unit']}", _number(row["median"]), spread, str(row["n"]))
        lines.append(f"| {' | '.join(cells)} |")
    for row in found["ratios"]:
        target = "" if row["target"] is None else f" (target {row['target']:g})"
        lines.append(f"| **{row['name']}**{target} | {_number(row['value'])} | | |")
    said = f"`{facts['command'].partition(' --json')[0]}`, commit {facts['commit'][:7]}, "
    return "\n".join([said + f"{facts['date'][:10]}, {facts['cores']} cores.", "", *lines])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def main() -> None:
    """Rewrite the pages."""
    for page in PAGES:
        path = PROJECT / "docs" / page
        path.write_text(written(page, path.read_text(encoding="utf-8")), encoding="utf-8")
        typer.echo(f"wrote {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    typer.run(main)
