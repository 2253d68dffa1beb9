"""Charts as Plotly's own JSON; the browser adds type, grid and background from the page's theme.

A figure is `data` and `layout` in plain dicts and lists: Plotly for Python would only check them,
for seconds of import. NaN becomes null, which draws a gap. Colors of experts come from one place;
other series name a role (`ink`, `muted`, `accent`, …) that the theme gives its color.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dashboard.experts import color
from dashboard.gates import Loads
from dashboard.promotions import PROOF, Event, Trial, running_mean
from dashboard.scores import Curves
from dashboard.series import Shares, iso, last_values
from dashboard.symbols import Window

__all__ = [
    "answers_figure",
    "candle_figure",
    "differences_figure",
    "fingerprint_figure",
    "gate_figure",
    "image_figure",
    "load_figure",
    "reliability_figure",
    "risk_figure",
    "trial_figure",
]

Figure = dict[str, Any]
MODEL_COLORS: Mapping[str, str] = {  # of Okabe and Ito, and dashes beside, so that none needs color
    "moe_mlp": "#0072B2",
    "moe_rule": "#E69F00",
    "cnn": "#009E73",
    "lightgbm": "#CC79A7",
}
_DASHES = {"moe_mlp": "solid", "moe_rule": "dash", "cnn": "dot", "lightgbm": "dashdot"}
_TIME = "%{x|%Y-%m-%d %H:%M}"


def gate_figure(
    experts: tuple[str, ...], shares: Shares, price: "pd.Series[float]", said: str
) -> Figure:
    """Stack the weights of all experts under the price of the same dates."""
    times = iso(shares.times)
    data: list[Figure] = []
    if len(price):
        inside = price[shares.times[0] : shares.times[-1]]  # type: ignore[misc]
        thin = last_values(inside if len(inside) > 1 else price.iloc[-2:], 600)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "price",
                "x": iso(pd.DatetimeIndex(thin.index)),
                "y": _floats(thin.to_numpy()),
                "yaxis": "y2",
                "line": {"width": 1.4, "color": "role:ink"},
                "showlegend": False,
                "hovertemplate": f"{_TIME}<br>{html.escape(said)} %{{y:.5g}}<extra></extra>",
            }
        )
    for place, name in enumerate(experts):
        column = shares.values[:, place]
        if not (column > 0).any():
            continue
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": html.escape(name),
                "x": times,
                "y": _floats(column),
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
    text = [[f"{100 * value:.0f}" if value else "·" for value in row] for row in found.values]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": [_floats(row) for row in found.values],
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
                "y": _floats(values),
                "line": {"color": shade, "width": 1.8},
                "hovertemplate": f"{_TIME}<br>{name} %{{y:.4f}}<extra></extra>",
            }
            for (name, values), shade in zip(
                window.lines.items(), ("role:ink", "#D55E00"), strict=True
            )
        ]
        layout: Figure = {"yaxis": {"title": "implied volatility"}, "xaxis": {"type": "date"}}
        return {"data": traces, "layout": {**layout, "legend": {"orientation": "h", "y": -0.18}}}
    candles = {
        "type": "candlestick",
        "x": list(range(1, len(times) + 1)),
        **{name: _floats(window.lines[name]) for name in ("open", "high", "low", "close")},
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
    data, layout = [], {"margin": {"l": 8, "r": 8, "t": 22, "b": 8}, "annotations": []}
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
                "y": _floats(thin.to_numpy()),
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
            "y": _floats(thin["probability"]),
            "line": {"color": "role:accent", "width": 1.5},
            "hovertemplate": f"{_TIME}<br>up with %{{y:.1%}}<extra></extra>",
        }
    ]
    layout: Figure = {
        "xaxis": {"type": "date", "anchor": "y"},
        "yaxis": {"tickformat": ".0%", "title": "up", "domain": [0.5, 1] if _has(thin) else [0, 1]},
        "shapes": [_level(0.5)],
        "showlegend": False,
    }
    if _has(thin):
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "volatility",
                "x": times,
                "y": _floats(thin["volatility"]),
                "yaxis": "y2",
                "line": {"color": "#D55E00", "width": 1.5},
                "hovertemplate": f"{_TIME}<br>volatility %{{y:.4g}}<extra></extra>",
            }
        )
        layout["yaxis2"] = {"domain": [0, 0.42], "title": "volatility", "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def risk_figure(found: Sequence[Curves]) -> Figure:
    """Draw accuracy over coverage, a line a model."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": one.model,
            "x": _floats(one.coverage),
            "y": _floats(one.accuracy),
            "line": _style(one.model),
            "hovertemplate": f"{one.model}<br>the surest %{{x:.0%}}: %{{y:.1%}} right<extra></extra>",
        }
        for one in found
    ]
    layout = {
        "xaxis": {"title": "share of windows answered, surest first", "tickformat": ".0%"},
        "yaxis": {"title": "right", "tickformat": ".0%"},
        "shapes": [_level(0.5)],
        "legend": {"orientation": "h", "y": -0.26},
    }
    return {"data": data, "layout": layout}


def reliability_figure(found: Sequence[Curves]) -> Figure:
    """Draw the share that went up over the probability given, beside the diagonal."""
    data: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": one.model,
            "x": _floats(one.predicted),
            "y": _floats(one.observed),
            "customdata": _floats(one.counts),
            "line": _style(one.model),
            "hovertemplate": f"{one.model}<br>given %{{x:.1%}}, up %{{y:.1%}}"
            "<br>%{customdata:.0f} windows<extra></extra>",
        }
        for one in found
    ]
    values = np.concatenate([np.concatenate([one.predicted, one.observed]) for one in found])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": [low, high],
            "y": [low, high],
            "line": {"color": "role:muted", "dash": "dot", "width": 1},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    )
    layout = {
        "xaxis": {"title": "probability given", "tickformat": ".0%"},
        "yaxis": {"title": "share that went up", "tickformat": ".0%"},
        "legend": {"orientation": "h", "y": -0.26},
    }
    return {"data": data, "layout": layout}


def differences_figure(events: Sequence[Event]) -> Figure:
    """Draw the loss difference of each judged version with its interval; left of 0 is better."""
    shown = [event for event in events if event.is_compared]
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": [event.difference for event in shown],
                "y": [f"version {event.version}" for event in shown],
                "text": [html.escape(f"against {event.rival}") for event in shown],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [event.high - event.difference for event in shown],
                    "arrayminus": [event.difference - event.low for event in shown],
                    "color": "role:muted",
                },
                "marker": {
                    "size": 11,
                    "color": ["role:up" if event.promoted else "role:muted" for event in shown],
                    "symbol": ["circle" if event.promoted else "circle-open" for event in shown],
                },
                "hovertemplate": "%{y} %{text}<br>log-loss %{x:+.5f}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": "log-loss less the rival's", "rangemode": "tozero", "tickformat": "+.3f"},
            "yaxis": {"autorange": "reversed", "ticksuffix": "  ", "type": "category"},
            "margin": {"l": 88},
        },
    }


def trial_figure(found: Trial, evidence: Sequence[float]) -> Figure:
    """Draw the pair's evidence over sessions, or the mean loss difference where none is known."""
    values = list(evidence) or running_mean(found.differences)
    name = "e-value" if evidence else "mean log-loss difference"
    layout: Figure = {"xaxis": {"type": "date"}, "yaxis": {"title": name}, "shapes": [_level(0)]}
    if evidence:
        layout["yaxis"] |= {"type": "log", "dtick": 1}
        layout["shapes"] = [_level(PROOF), _level(1)]
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(found.days),
        "y": _floats(values),
        "line": {"color": "role:accent", "width": 2},
        "hovertemplate": f"%{{x}}<br>{name} %{{y:.4g}}<extra></extra>",
    }
    return {"data": [line], "layout": layout}


def _has(rows: pd.DataFrame) -> bool:
    return "volatility" in rows and bool(rows["volatility"].notna().any())


def _level(height: float) -> Figure:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": height,
        "y1": height,
        "line": {"color": "role:muted", "dash": "dot", "width": 1},
    }


def _style(model: str) -> Figure:
    shade = MODEL_COLORS.get(model, "role:muted")
    return {"color": shade, "dash": _DASHES.get(model, "solid"), "width": 2}


def _floats(values: Iterable[Any]) -> list[float | None]:
    found = (float(value) for value in values)
    return [value if math.isfinite(value) else None for value in found]
