"""Lay the long table and the paired tests out as text."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console, Group
from rich.table import Table

from atlas.benchmark import SEED_FIGURES
from atlas.evaluation import POOLED

__all__ = ["WIDTH", "as_text", "checks", "scores", "tests", "volatility", "volatility_tests"]

WIDTH = 140
_HEADINGS = (
    "market",
    "model",
    "accuracy",
    "log-loss",
    "ECE",
    "surest 10 %",
    "break-even",
    "lift",
    "of informed",
    "gain",
    "latency",
    "seed",
)


def scores(table: pd.DataFrame) -> Table:
    """Return a section for each market, the mean over markets last.

    Accuracies, ECE and lift in per cent, break-even in basis points of the price.
    """
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(_HEADINGS):
        text.add_column(name, justify="left" if place < 2 else "right", no_wrap=True)
    for market in dict.fromkeys(table["market"]):
        own = table[table["market"] == market]
        facts = [str(market), f"n {int(own['n'].iloc[0]):,}", *_ties(own)]
        facts.append(f"seeds {int(own['seeds'].max())}")
        facts += [""] * (len(own) - len(facts))
        for fact, row in zip(facts, own.to_dict("records"), strict=False):
            text.add_row(fact, *_cells({str(k): v for k, v in row.items()}))
        text.add_section()
    return text


def tests(table: pd.DataFrame) -> Table:
    """Return the paired tests: differences of log-loss and accuracy with their p-values."""
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "against", "market", "log-loss", "DM p", "Holm", "accuracy", "McNemar p"):
        text.add_column(name, justify="left" if name in ("model", "against", "market") else "right")
    for row in table.to_dict("records"):
        text.add_row(
            row["model"],
            row["against"],
            row["market"],
            f"{row['loss_difference']:+.5f}",
            _p(row["dm_p"]),
            _p(row["dm_p_holm"]),
            f"{100 * row['accuracy_difference']:+.2f}",
            _p(row["mcnemar_p"]),
        )
        if row["market"] == POOLED:
            text.add_section()
    return text


def checks(table: pd.DataFrame) -> Table:
    """Return the targets of the simulated markets beside what was reached."""
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="targets")
    for place, name in enumerate(("figure", "value", "target", "met")):
        text.add_column(name, justify="right" if place == 1 else "left")
    for row in table.to_dict("records"):
        error = "" if np.isnan(row["error"]) else f" ±{row['error']:.4f}"
        value = f"{row['value']:.4f}{error}"
        text.add_row(row["figure"], value, row["target"], "yes" if row["met"] else "no")
    return text


def volatility(table: pd.DataFrame) -> Table:
    """Return QLIKE of every model's variance and R² of its log, a column a market."""
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="volatility: QLIKE (R²)")
    markets = list(dict.fromkeys(table["market"]))
    for place, name in enumerate(("model", *markets)):
        text.add_column(str(name), justify="right" if place else "left")
    for model, own in table.groupby("model", sort=False):
        cells = own.set_index("market")
        text.add_row(
            str(model),
            *(f"{cells.loc[m, 'qlike']:.4f} ({cells.loc[m, 'r2']:.3f})" for m in markets),
        )
    return text


def volatility_tests(table: pd.DataFrame) -> Table:
    """Return the differences of QLIKE with their p-values, Holm over markets."""
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(("model", "against", "market", "QLIKE", "DM p", "Holm")):
        text.add_column(name, justify="left" if place < 3 else "right")
    for row in table.to_dict("records"):
        figures = (f"{row['qlike_difference']:+.5f}", _p(row["dm_p"]), _p(row["dm_p_holm"]))
        text.add_row(row["model"], row["against"], row["market"], *figures)
        if row["market"] == POOLED:
            text.add_section()
    return text


def as_text(parts: Iterable[Any]) -> str:
    """Return what rich prints of the parts, plainly, `WIDTH` columns at most."""
    file = io.StringIO()
    console = Console(file=file, width=WIDTH, color_system=None, force_terminal=False)
    console.print(Group(*parts))
    return file.getvalue()


def _cells(row: dict[str, Any]) -> list[str]:
    figure = SEED_FIGURES.get(row["market"], {}).get(row["model"], float("nan"))
    return [
        row["model"],
        _interval(row, "accuracy", 100, 2),
        _interval(row, "log_loss", 1, 4),
        _number(100 * row["ece"], 2),
        _number(100 * row["accuracy_surest"], 2),
        _number(1e4 * row["break_even"], 2),
        _number(row["lift"], 3),
        _with_error(row, "informed_lift"),
        _with_error(row, "informed_gain"),
        _number(row["latency"], 2),
        _number(100 * figure, 1),
    ]


def _ties(own: pd.DataFrame) -> list[str]:
    """Return how many ties a market has, where they were counted."""
    ties = own["ties"].iloc[0]
    return [] if pd.isna(ties) else [f"ties {int(ties):,}"]


def _interval(row: dict[str, Any], name: str, scale: float, digits: int) -> str:
    half = scale * (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return f"{scale * row[name]:.{digits}f} ±{half:.{digits}f}"


def _with_error(row: dict[str, Any], name: str) -> str:
    value, error = row[name], row[f"{name}_error"]
    return "" if np.isnan(value) else f"{value:.3f} ±{error:.3f}"


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def _p(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2g}"
