"""Results of a long benchmark, kept after every unit of it: a killed run goes on where it was.

A results file is one JSON document, committed: `metadata`, the `settings` that all units share,
and `units`, each under its key. Its page in docs/ is written from it, and a test compares the two.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

from atlas.errors import DataError
from benchmarks.harness import metadata

__all__ = [
    "PROJECT",
    "Results",
    "difference",
    "mean_and_spread",
    "resumed",
    "table",
    "write_page",
]

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
Unit = dict[str, Any]


class Results:
    """The results file of a benchmark."""

    def __init__(self, name: str) -> None:
        self.path = RESULTS / f"{name}.json"
        self.name = name

    def read(self) -> dict[str, Any]:
        """Return the document, empty if there is none yet."""
        if not self.path.is_file():
            return {}
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return found

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace the document at once."""
        self.path.parent.mkdir(exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        draft.replace(self.path)


def resumed(
    name: str,
    command: str,
    seed: int,
    settings: Mapping[str, Any],
    units: Mapping[str, Callable[[], Unit]],
    minutes: float,
) -> dict[str, Any]:
    """Run the units that a results file lacks, keeping each as it ends; return the document.

    Args:
        name: of the file.
        command: that makes it, for whoever doubts a figure.
        seed: the first of the benchmark's.
        settings: what all units depend on.
        units: by key, in order.
        minutes: after which no further unit is begun.

    Raises:
        DataError: the file is of other settings.
    """
    results = Results(name)
    kept = results.read()
    plain = json.loads(json.dumps(settings))
    if kept and kept["settings"] != plain:
        raise DataError(
            f"{results.path.name}: expected settings {plain}, got {kept['settings']}; delete the "
            "file to measure anew"
        )
    done: dict[str, Unit] = kept.get("units", {})
    limit = time.monotonic() + 60 * minutes
    for key, work in units.items():
        if key in done:
            continue
        if time.monotonic() > limit:
            break
        done[key] = work()
        typer.echo(f"{key}: {done[key]}")
        facts = metadata(name, seed) | {"command": command}
        results.write({"metadata": facts, "settings": plain, "units": done})
    return results.read()


def mean_and_spread(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """Return "mean ± standard deviation"; a single value alone."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def difference(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """Return "mean ± standard error" of paired differences, signed; a single value alone."""
    error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.3f}{error}"


def table(header: str, rows: list[list[str]], *, left: int = 1) -> str:
    """Return a Markdown table; `left` columns are aligned left, the rest right."""
    names = header.split(" | ")
    rule = ["---"] * left + ["--:"] * (len(names) - left)
    lines = [f"| {header} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write_page(name: str, text: str) -> None:
    """Write a page of docs/."""
    path = PROJECT / "docs" / f"{name}.md"
    path.write_text(text, encoding="utf-8")
    typer.echo(f"wrote docs/{name}.md")
