"""Print the ledger: who was scored where, and how much of the best score luck explains."""

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from atlas.deflation import expected_maximum
from pipelines.ledger import COLUMNS, ledger_path, overview
from pipelines.paths import Paths

__all__ = ["show"]

_DIGITS = {"log-loss": 4, "score": 2}
_LEFT = ("first seen", "model", "settings", "test span")


def show(paths: Paths, console: Console) -> None:
    """Print a line for each model and span; what trials, score and skill mean stands below."""
    found = overview(paths)
    if found.empty:
        console.print("The ledger is empty: no model has been scored yet; run `make nightly`.")
        return
    heads = [*COLUMNS[:-1], "log-loss", "trials", "score", "skill"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in heads:
        table.add_column(name, justify="left" if name in _LEFT else "right", no_wrap=True)
    for row in found.itertuples(index=False):
        table.add_row(*(_cell(*cell) for cell in zip(heads, row, strict=True)))
    wide = console if console.is_terminal else Console(file=console.file, width=150)
    wide.print(table, highlight=False)
    newest = found.iloc[-1]
    count = int(newest["trials"])
    for line in (
        f"{len(found)} lines in {ledger_path(paths)}",
        f"On the newest span {count} trials: the best of as many without skill would score "
        f"{expected_maximum(count):.2f}",
        "score: of the log-loss against the base rate, 0 without skill; skill: how sure it is "
        "after so many trials (above .95 is taken for skill)",
    ):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.{_DIGITS.get(name, 3)}f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)
