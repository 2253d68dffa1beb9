"""Charts as Plotly's own JSON; the browser adds type, grid and background from the page's theme.

A figure is `data` and `layout` in plain dicts and lists: Plotly for Python would only check them,
for seconds of import. NaN becomes null, which draws a gap. Colors of experts come from one place;
other series name a role (`ink`, `muted`, `accent`, …) that the theme gives its color.
"""

import html
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from dashboard.experts import color
from dashboard.gates import Loads
from dashboard.monitoring import Drift
from dashboard.series import Shares, iso, last_values
from dashboard.symbols import Window
from pipelines.watch.checks import Check

__all__ = [
    "Figure",
    "answers_figure",
    "candle_figure",
    "drift_figure",
    "fingerprint_figure",
    "floats",
    "gate_figure",
    "image_figure",
    "level",
    "load_figure",
    "watched_figure",
]

Figure = dict[str, Any]
_TIME = "%{x|%Y-%m-%d %H:%M}"


def gate_figure(
    experts: tuple[str, ...], shares: Shares, price: "pd.Series[float]", said: str
) -> Figure:
    """Stack the weights of all experts under the price of the same dates."""
    times = iso(shares.times)
    data: list[Figure] = []
    if len(price):
        inside = price[shares.times[0] : shares.times[-1]]
        thin = last_values(inside if len(inside) > 1 else price.iloc[-2:], 600)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "price",
                "x": iso(pd.DatetimeIndex(thin.index)),
                "y": floats(thin.to_numpy()),
                "yaxis": "y2",
                "line": {"width": 1.4, "color": "role:ink"},
                "showlegend": False,
                "hovertemplate": f"{_TIME}<br>{html.escape(said)} %{{y:.5g}}<extra></extra>",
            }
        )
    for place, name in enumerate(experts):
        column = shares.means[:, place]
        if not (column > 0).any():
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": html.escape(name),
                "x": times,
                "y": floats(column),
                "stackgroup": "gate",
                "fillcolor": color(name),
                "line": {"width": 0.5, "color": color(name)},
                "hovertemplate": f"{_TIME}<br>{html.escape(name)} %{{y:.0%}}<extra></extra>",
            }
        )
    layout = {
        "yaxis": {"range": [0, 1], "domain": [0, 0.6], "tickformat": ".0%", "title": "gate"},
        "yaxis2": {"domain": [0.68, 1], "title": "price", "nticks": 4},
        "xaxis": {"type": "date", "anchor": "y"},
        "hovermode": "x",
        "legend": {"orientation": "h", "y": -0.16, "traceorder": "normal"},
    }
    return {"data": data, "layout": layout}


def load_figure(found: Loads) -> Figure:
    """Draw the load of every expert in every market as a heat map with its numbers."""
    text = [[f"{100 * value:.0f}" if value else "·" for value in row] for row in found.shares]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": [floats(row) for row in found.shares],
                "x": list(found.experts),
                "y": list(found.markets),
                "text": text,
                "texttemplate": "%{text}",
                "zmin": 0,
                "zmax": 1,
                "colorscale": "role:heat",
                "showscale": False,
                "xgap": 3,
                "ygap": 3,
                "hovertemplate": "%{y}<br>%{x}: %{z:.1%} of the places<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"side": "bottom", "tickangle": -30, "showgrid": False},
            "yaxis": {"autorange": "reversed", "showgrid": False, "ticksuffix": "  "},
            "margin": {"l": 112, "b": 84},
        },
    }


def drift_figure(found: Drift) -> Figure:
    """Draw how far each market and column is on the way to an alarm, in per cent."""
    text = [["·" if v is None else f"{100 * v:.0f}" for v in row] for row in found.shares]
    said = [["not judged" if c is None else _judged(c) for c in row] for row in found.checks]
    heat = load_figure(Loads(found.markets, found.columns, np.zeros((0, 0))))
    trace = heat["data"][0] | {
        "z": found.shares,
        "text": text,
        "customdata": said,
        "hovertemplate": "%{y}<br>%{x}: %{customdata}<extra></extra>",
    }
    return {**heat, "data": [trace]}


def watched_figure(days: pd.DataFrame) -> Figure:
    """Draw the number of alarms of each day of the watch."""
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(days["as_of"]),
        "y": floats(days["alarm"]),
        "line": {"color": "role:down", "width": 2},
        "hovertemplate": "%{x}<br>%{y} alarms<extra></extra>",
    }
    most = max(1, math.ceil(days["alarm"].max() / 4))  # alarms are whole
    layout = {
        "xaxis": {"type": "category", "nticks": 8},
        "yaxis": {"title": "alarms", "rangemode": "tozero", "dtick": most},
    }
    return {"data": [trace], "layout": layout}


def _judged(check: Check) -> str:
    if not check.judged:
        return f"not judged: {html.escape(check.line)}"
    return f"{check.value:.3g}, usual {check.usual:.3g}, alarm above {check.limit:.3g}"


def candle_figure(window: Window) -> Figure:
    """Draw the newest window for people: candlesticks, or implied volatility and skew."""
    times = iso(window.times)
    if window.is_surface:
        traces = [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": times,
                "y": floats(values),
                "line": {"color": shade, "width": 1.8},
                "hovertemplate": f"{_TIME}<br>{name} %{{y:.4f}}<extra></extra>",
            }
            for (name, values), shade in zip(
                window.lines.items(), ("role:ink", "role:accent"), strict=True
            )
        ]
        layout: Figure = {"yaxis": {"title": "implied volatility"}, "xaxis": {"type": "date"}}
        return {"data": traces, "layout": {**layout, "legend": {"orientation": "h", "y": -0.18}}}
    candles = {
        "type": "candlestick",
        "x": list(range(1, len(times) + 1)),
        **{name: floats(window.lines[name]) for name in ("open", "high", "low", "close")},
        "text": [time.replace("T", " ") for time in times],
        "increasing": {"line": {"color": "role:up", "width": 1}, "fillcolor": "role:up"},
        "decreasing": {"line": {"color": "role:down", "width": 1}, "fillcolor": "role:down"},
        "name": "",
    }
    ticks = list(range(4, len(times) + 1, 20))
    axis = {
        "rangeslider": {"visible": False},
        "tickvals": ticks,
        "ticktext": [times[k - 1].replace("T", " ")[5:16] for k in ticks],
    }
    return {"data": [candles], "layout": {"xaxis": axis, "yaxis": {"title": "adjusted price"}}}


def image_figure(window: Window) -> Figure:
    """Draw the model's own channels, lowest price at the bottom, as four small images."""
    data: list[Figure] = []
    layout: Figure = {"margin": {"l": 8, "r": 8, "t": 22, "b": 8}, "annotations": []}
    for place, (name, image) in enumerate(window.channels.items()):
        end = "" if place == 0 else str(place + 1)
        row, column = divmod(place, 2)
        left, bottom = 0.52 * column, 0.53 * (1 - row)
        signed = float(np.nanmin(image)) < 0
        data.append(
            {
                "type": "heatmap",
                "z": [[round(float(value), 3) for value in line] for line in image],
                "xaxis": f"x{end}",
                "yaxis": f"y{end}",
                "colorscale": "role:signed" if signed else "role:gray",
                "zmin": -1 if signed else 0,
                "zmax": 1,
                "showscale": False,
                "hovertemplate": f"{name}: bar %{{x}}, level %{{y}}: %{{z}}<extra></extra>",
            }
        )
        hidden = {"visible": False, "fixedrange": True}
        layout[f"xaxis{end}"] = {**hidden, "domain": [left, left + 0.48], "anchor": f"y{end}"}
        layout[f"yaxis{end}"] = {**hidden, "domain": [bottom, bottom + 0.43], "anchor": f"x{end}"}
        layout["annotations"].append(
            {
                "text": name,
                "x": left,
                "y": bottom + 0.44,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
            }
        )
    return {"data": data, "layout": layout}


def fingerprint_figure(history: pd.DataFrame, name: str) -> Figure:
    """Draw one fingerprint column over time."""
    thin = last_values(history.set_index("timestamp")[name], 900)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": iso(pd.DatetimeIndex(thin.index)),
                "y": floats(thin.to_numpy()),
                "line": {"color": "role:accent", "width": 1.5},
                "hovertemplate": f"{_TIME}<br>{name} %{{y:.4g}}<extra></extra>",
                "showlegend": False,
            }
        ],
        "layout": {"yaxis": {"title": name}, "xaxis": {"type": "date"}},
    }


def answers_figure(rows: pd.DataFrame) -> Figure:
    """Draw the probability of up and the predicted volatility of every scored window."""
    thin = rows.iloc[:: -(-len(rows) // 900) or 1]
    times = iso(pd.DatetimeIndex(thin["timestamp"]))
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "probability of up",
            "x": times,
            "y": floats(thin["probability"]),
            "line": {"color": "role:accent", "width": 1.5},
            "hovertemplate": f"{_TIME}<br>up with %{{y:.1%}}<extra></extra>",
        }
    ]
    layout: Figure = {
        "xaxis": {"type": "date", "anchor": "y"},
        "yaxis": {"tickformat": ".0%", "title": "up", "domain": [0.5, 1] if _has(thin) else [0, 1]},
        "shapes": [level(0.5)],
        "showlegend": False,
    }
    if _has(thin):
        shades = {"realised": ("role:muted", 1.0), "volatility": ("role:accent", 1.8)}
        for name, (shade, width) in shades.items():
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": name,
                    "x": times,
                    "y": floats(thin[name]) if name in thin else [],
                    "yaxis": "y2",
                    "line": {"color": shade, "width": width},
                    "hovertemplate": f"{_TIME}<br>{name} %{{y:.4g}}<extra></extra>",
                }
            )
        layout["yaxis2"] = {"domain": [0, 0.42], "title": "volatility", "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def _has(rows: pd.DataFrame) -> bool:
    return "volatility" in rows and bool(rows["volatility"].notna().any())


def level(height: float) -> Figure:
    """Return a dotted line across the figure at a height."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": height,
        "y1": height,
        "line": {"color": "role:muted", "dash": "dot", "width": 1},
    }


def floats(values: Iterable[Any]) -> list[float | None]:
    """Return numbers as JSON has them: what is not finite is null."""
    found = (float(value) for value in values)
    return [value if math.isfinite(value) else None for value in found]
