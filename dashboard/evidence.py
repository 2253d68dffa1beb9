"""Charts of how good the models are: risk, reliability, comparisons, evidence of a pair."""

import html
from collections.abc import Mapping, Sequence

import numpy as np

from dashboard.figures import Figure, floats, level
from dashboard.promotions import PROOF, Event, Trial, running_mean
from dashboard.scores import Curves

__all__ = ["differences_figure", "reliability_figure", "risk_figure", "trial_figure"]

MODEL_COLORS: Mapping[str, str] = {  # of Okabe and Ito, and dashes beside, so that none needs color
    "moe_mlp": "#0072B2",
    "moe_rule": "#E69F00",
    "cnn": "#009E73",
    "lightgbm": "#CC79A7",
}
_DASHES = {"moe_mlp": "solid", "moe_rule": "dash", "cnn": "dot", "lightgbm": "dashdot"}


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
        "xaxis": {"title": "share of windows answered, surest first", "tickformat": ".0%"},
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


def trial_figure(found: Trial, evidence: Sequence[float]) -> Figure:
    """Draw the pair's evidence over sessions, or the mean loss difference where none is known."""
    values = list(evidence) or running_mean(found.differences)
    name = "e-value" if evidence else "mean log-loss difference"
    layout: Figure = {"xaxis": {"type": "date"}, "yaxis": {"title": name}, "shapes": [level(0)]}
    if evidence:
        layout["yaxis"] |= {"type": "log", "dtick": 1}
        layout["shapes"] = [level(PROOF), level(1)]
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(found.days),
        "y": floats(values),
        "line": {"color": "role:accent", "width": 2},
        "hovertemplate": f"%{{x}}<br>{name} %{{y:.4g}}<extra></extra>",
    }
    return {"data": [line], "layout": layout}


def _style(model: str) -> Figure:
    shade = MODEL_COLORS.get(model, "role:muted")
    return {"color": shade, "dash": _DASHES.get(model, "solid"), "width": 2}
