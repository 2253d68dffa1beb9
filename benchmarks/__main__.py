"""Run one benchmark: a table for people, and one JSON document if asked.

Those in `OWN` have options of their own: `python -m benchmarks predict --help`.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness import Report, metadata, write_report

NAMES = (
    "fingerprint",
    "fingerprint_scale",
    "chart",
    "latency",
    "ingest",
    "scale",
    "size",
    "training",
    "training_kills",
    "retraining",
    "tuning",
    "leaks",
)
OWN = ("predict", "promotion", "registry_kills", "faults", "nightly", "backfill")
SEED = 7


def main(
    name: Annotated[str, typer.Argument(help=" | ".join((*NAMES, *OWN)))],
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Measure NAME and print what was found, beside its targets."""
    if name not in NAMES:
        raise typer.BadParameter(f"expected one of {', '.join(NAMES)}; got {name!r}")
    report: Report = import_module(f"benchmarks.{name}").run(SEED)
    width = max(len(row.name) for row in report.results)
    for row in report.results:
        spread = f"{row.p10:10.4g} … {row.p90:<10.4g}"
        typer.echo(f"{row.name:<{width}} {row.median:10.4g} {row.unit:<14} {spread} n={row.n}")
    for claim in report.ratios:
        target = "" if claim.target is None else f"(target {claim.target:g})"
        typer.echo(f"{claim.name:<{width}} {claim.value:10.4g} {target}")
    write_report(report, json_path, metadata(name, SEED))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in OWN:
        typer.run(import_module(f"benchmarks.{sys.argv.pop(1)}").main)
    typer.run(main)
