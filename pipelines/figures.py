"""Draw the benchmark table: as text for terminals and files, as a page with intervals.

Text is made by rich, so a terminal gets colors and a file or a log gets plain lines.
"""

import io
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich import box
from rich.console import Console
from rich.table import Table

from atlas.benchmark import HEADINGS, text_rows

__all__ = ["WIDTH", "accuracy_page", "caption", "table_text", "text_table"]

WIDTH = 120  # columns of the written text
_COLORS = {"moe_rule": "#1f77b4", "moe_mlp": "#0b3d91", "cnn": "#6baed6"}


def text_table(table: pd.DataFrame) -> Table:
    """Return one rich table with a section for each market, the mean over markets last."""
    text = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(HEADINGS):
        text.add_column(name, justify="left" if place < 2 else "right", no_wrap=True)
    for market in dict.fromkeys(table["market"]):
        for cells in text_rows(table, str(market)):
            text.add_row(*cells)
        text.add_section()
    return text


def table_text(table: pd.DataFrame, heading: Mapping[str, Any]) -> str:
    """Return the table as plain text, WIDTH columns at most."""
    file = io.StringIO()
    console = Console(file=file, width=WIDTH, color_system=None, force_terminal=False)
    console.print(caption(heading))
    console.print(text_table(table))
    return file.getvalue()


def caption(heading: Mapping[str, Any]) -> str:
    """Say in a line what the table's figures are."""
    return (
        f"Night {heading['as_of']}, source {heading['source']}: test windows, per cent; "
        f"± half the {heading['confidence']:.0%} interval over sessions; seed: its claim"
    )


def accuracy_page(table: pd.DataFrame, heading: Mapping[str, Any]) -> str:
    """Return an HTML page: accuracy with intervals per market, base rate and seed's figure."""
    markets = list(dict.fromkeys(table["market"]))
    rows = (len(markets) + 1) // 2
    gaps = {"vertical_spacing": 0.3 / rows, "horizontal_spacing": 0.08}
    figure = make_subplots(rows=rows, cols=2, subplot_titles=markets, **gaps)
    for place, market in enumerate(markets):
        own = table[table["market"] == market]
        row, column = place // 2 + 1, place % 2 + 1
        for trace in _traces(own):
            figure.add_trace(trace, row=row, col=column)
        base = 100 * float(own["base_rate"].iloc[0])
        figure.add_hline(y=base, line_dash="dash", line_color="#888", row=row, col=column)
    figure.update_layout(
        title=f"Accuracy<br><sup>{caption(heading)}; dashed: base rate, diamond: seed</sup>",
        height=280 * rows + 100,
        showlegend=False,
        template="plotly_white",
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, div_id="accuracy")
    return page


def _traces(own: pd.DataFrame) -> list[Any]:
    shares = 100 * own[["accuracy", "accuracy_low", "accuracy_high", "seed_figure"]]
    above = (shares["accuracy_high"] - shares["accuracy"]).clip(upper=100)
    below = (shares["accuracy"] - shares["accuracy_low"]).clip(upper=100)
    ours = go.Scatter(
        x=own["model"].tolist(),
        y=shares["accuracy"].tolist(),
        error_y={"type": "data", "array": above.tolist(), "arrayminus": below.tolist()},
        mode="markers",
        marker={"size": 9, "color": [_COLORS.get(name, "#444") for name in own["model"]]},
    )
    claimed = own["seed_figure"].notna()
    seed = go.Scatter(
        x=own.loc[claimed, "model"].tolist(),
        y=shares.loc[claimed, "seed_figure"].tolist(),
        mode="markers",
        marker={"size": 9, "color": "#d62728", "symbol": "diamond-open"},
    )
    return [ours, seed]
