"""Charts of how good models are: risk, reliability, comparisons, a pair's evidence and log."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from dashboard.figures import Figure, floats, level
from dashboard.promotions import Event
from dashboard.scores import Curves
from dashboard.shadow import ROLES, Log
from dashboard.trials import Trial, running_mean

__all__ = [
    "differences_figure",
    "reliability_figure",
    "risk_figure",
    "shadow_figure",
    "trial_figure",
]

# Models are told apart by dashes and marks: the palette's colors are those of the experts.
MODEL_SHADES: Mapping[str, str] = {
    "moe_mlp": "role:accent",
    "moe_rule": "role:accent",
    "cnn": "role:ink",
    "lightgbm": "role:muted",
}
_PROVEN = {"color": "role:up", "dash": "dash", "width": 1.5}
_DASHES = {"moe_mlp": "solid", "moe_rule": "dash", "cnn": "dot", "lightgbm": "dashdot"}
_MARKS = {"moe_mlp": "circle", "moe_rule": "square", "cnn": "diamond", "lightgbm": "x"}


def risk_figure(found: Sequence[Curves]) -> Figure:
    """Draw accuracy over coverage, a line a model."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": one.model,
            "x": floats(one.coverage),
            "y": floats(one.accuracy),
            "line": _style(one.model),
            "hovertemplate": f"{one.model}<br>the surest %{{x:.0%}}: %{{y:.1%}} right"
            "<extra></extra>",
        }
        for one in found
    ]
    layout = {
        "xaxis": {"title": "windows answered, surest first", "tickformat": ".0%"},
        "yaxis": {"title": "right", "tickformat": ".0%"},
        "shapes": [level(0.5)],
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
            "x": floats(one.predicted),
            "y": floats(one.observed),
            "customdata": floats(one.counts),
            "line": _style(one.model),
            "marker": {"size": 8, "symbol": _MARKS.get(one.model, "circle-open")},
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
            "xaxis": {
                "title": "log-loss less the rival's",
                "rangemode": "tozero",
                "tickformat": "+.3f",
            },
            "yaxis": {"autorange": "reversed", "ticksuffix": "  ", "type": "category"},
            "margin": {"l": 88},
        },
    }


def trial_figure(found: Trial) -> Figure:
    """Draw the pair's e-value after each session over the mean loss difference so far.

    A dot is where a night ended: all that it judged at once lies before it.
    """
    ends = [k for k, night in enumerate(found.nights) if night not in found.nights[k + 1 :]]
    means = running_mean(found.differences)
    series = (("e-value", found.e_values, "y2"), ("mean loss difference", means, "y"))
    data: list[Figure] = []
    for name, values, axis in series:
        said = f"%{{x|%Y-%m-%d}}<br>{name} %{{y:.4g}}<extra></extra>"
        line = {"color": "role:accent", "width": 2}
        own = {"type": "scatter", "name": name, "yaxis": axis, "showlegend": False}
        x, y = list(found.days), floats(values)
        data.append({**own, "mode": "lines", "x": x, "y": y, "line": line, "hovertemplate": said})
        dots = {"x": [x[k] for k in ends], "y": [y[k] for k in ends]}
        text = [f"after the night {found.nights[k]}" for k in ends]
        marker = {"color": "role:accent", "size": 8}
        data.append(
            {**own, **dots, "mode": "markers", "marker": marker, "text": text}
            | {"hovertemplate": f"%{{text}}<br>{name} %{{y:.4g}}<extra></extra>"}
        )
    low, high = float(found.e_values.min()), float(found.e_values.max())
    reach = [math.log10(min(low, 0.5)) - 0.1, math.log10(max(high, found.needed)) + 0.2]
    proof = {**level(found.needed), "yref": "y2"}
    layout: Figure = {
        "xaxis": {"type": "date", "anchor": "y"},
        "yaxis": {"title": "loss, mean", "domain": [0, 0.36], "nticks": 4},
        "yaxis2": {
            "title": "e-value",
            "type": "log",
            "dtick": 1,
            "range": reach,
            "domain": [0.46, 1],
        },
        "shapes": [level(0), {**level(1), "yref": "y2"}, proof | {"line": _PROVEN}],
        "annotations": [_note(f"proven at {found.needed:g}", math.log10(found.needed))],
    }
    return {"data": data, "layout": layout}


def shadow_figure(log: Log) -> Figure:
    """Draw how often both were right each night: judged windows as lines, live rows as rings."""
    data: list[Figure] = []
    for role, shade in zip(ROLES, ("role:muted", "role:accent"), strict=True):
        own = sorted((one for one in log.said if one.role == role), key=lambda one: one.night)
        kinds = (
            ("judged", [one for one in own if one.judged], {"mode": "lines+markers"}),
            ("live", [one for one in own if one.matured], {"mode": "markers"}),
        )
        for kind, shown, mode in kinds:
            counts = [one.judged if kind == "judged" else one.matured for one in shown]
            right = [one.right if kind == "judged" else one.live_right for one in shown]
            data.append(
                {
                    "type": "scatter",
                    **mode,
                    "name": f"{role}, {kind}",
                    "x": [one.night for one in shown],
                    "y": floats(right),
                    "customdata": counts,
                    "line": {"color": shade, "width": 2},
                    "marker": {
                        "color": shade,
                        "size": 8 if kind == "judged" else 11,
                        "symbol": "circle" if kind == "judged" else "circle-open",
                        "line": {"width": 2, "color": shade},
                    },
                    "text": [f"version {one.version}" for one in shown],
                    "hovertemplate": f"%{{x}}, {role} %{{text}}<br>%{{y:.1%}} of %{{customdata}} "
                    f"{kind} rows right<extra></extra>",
                }
            )
    layout: Figure = {
        "xaxis": {"type": "category", "nticks": 8, "categoryorder": "category ascending"},
        "yaxis": {"title": "right", "tickformat": ".0%"},
        "shapes": [level(0.5)],
        "legend": {"orientation": "h", "y": -0.2},
    }
    return {"data": [one for one in data if one["x"]], "layout": layout}


def _note(text: str, height: float) -> Figure:
    """Write on the right, over a line of the upper chart."""
    place = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "y2", "y": height}
    return {"text": text, "showarrow": False, "yanchor": "bottom", **place}


def _style(model: str) -> Figure:
    shade = MODEL_SHADES.get(model, "role:muted")
    return {"color": shade, "dash": _DASHES.get(model, "solid"), "width": 2}
