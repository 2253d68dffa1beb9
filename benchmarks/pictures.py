"""The pictures of docs/benchmark.md, drawn from a results file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atlas.benchmark import SEED_FIGURES
from atlas.catalogue import EXPERT_IDS

__all__ = ["EXPERT_COLORS", "draw_accuracy", "draw_curves", "draw_gates", "draw_learning"]

_STYLE: Any = {"svg.hashsalt": "atlas", "font.size": 8, "axes.spines.top": False}
_STYLE |= {"axes.spines.right": False, "figure.dpi": 100}
# Okabe and Ito (2008): told apart by color-blind eyes
EXPERT_COLORS = dict(
    zip(
        EXPERT_IDS,
        ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9"),
        strict=True,
    )
)
_MODEL_COLORS = {"moe_mlp": "#0072B2", "moe_rule": "#56B4E9"}
_POOLED = "mean over markets"
# Okabe and Ito again, in the order of models; gray and black where colors end
_LINES = ("#999999", "#F0E442", "#009E73", "#0072B2", "#D55E00", "#E69F00", "#56B4E9", "#000000")


def draw_accuracy(found: Mapping[str, Any], path: Path) -> None:
    """Draw every model's accuracy with its interval, base rate dashed, the seed a red diamond."""
    with mpl.rc_context(_STYLE):
        figure, axes = _grid(_markets(found))
        for axis, market in zip(axes, _markets(found), strict=True):
            rows = [row for row in found["table"] if row["market"] == market]
            rows = [row for row in rows if row["model"] not in ("bayes", "informed")]
            for place, row in enumerate(rows):
                low, value, high = (
                    100 * row[k] for k in ("accuracy_low", "accuracy", "accuracy_high")
                )
                color = _MODEL_COLORS.get(row["model"], "#666666")
                axis.plot([low, high], [place, place], color=color, lw=1.5)
                axis.plot(value, place, "o", color=color, ms=4)
                seed = SEED_FIGURES.get(market, {}).get(row["model"])
                if seed is not None:
                    axis.plot(100 * seed, place, "D", mfc="none", mec="#D55E00", ms=5)
            axis.axvline(100 * rows[0]["base_rate"], ls="--", lw=0.8, color="#999999")
            axis.set_yticks(range(len(rows)), [row["model"] for row in rows])
            axis.invert_yaxis()
            axis.set_title(market, fontsize=9)
        _save(figure, path, "accuracy, per cent; dashed: base rate; diamond: the seed's figure")


def draw_curves(found: Mapping[str, Any], path: Path) -> None:
    """Draw risk–coverage and reliability of the mixture and its rival, a pair for each market."""
    curves = found["curves"]
    markets = [market for market in _markets(found) if market != _POOLED]
    with mpl.rc_context(_STYLE):
        figure, grid = plt.subplots(len(markets), 2, figsize=(7, 1.7 * len(markets)), squeeze=False)
        for (left, right), market in zip(grid, markets, strict=True):
            for model in curves["risk"]:
                color = _MODEL_COLORS.get(model, "#666666")
                _line(left, curves["risk"][model].get(market, []), model, color)
                _band(right, curves["reliability"][model].get(market, []), color)
            low, high = right.get_xlim()
            right.plot([low, high], [low, high], ls="--", lw=0.8, color="#999999")
            left.set_title(market, fontsize=9, loc="left")
        grid[0][0].legend(frameon=False, fontsize=7)
        _save(figure, path, "left: accuracy and coverage; right: share of ups and probability")


def draw_gates(found: Mapping[str, Any], path: Path) -> None:
    """Draw the mean weight of each expert by market, a row of bars for each gate."""
    gates = {name: own for name, own in found["curves"]["gates"].items() if own}
    with mpl.rc_context(_STYLE):
        figure, grid = plt.subplots(
            1, max(len(gates), 1), figsize=(8, 2.6), squeeze=False, sharey=True
        )
        for axis, (model, own) in zip(grid[0], gates.items(), strict=False):
            left = [0.0] * len(own)
            for expert in EXPERT_IDS:
                widths = [weights.get(expert, 0.0) for weights in own.values()]
                axis.barh(list(own), widths, left=left, color=EXPERT_COLORS[expert], label=expert)
                left = [a + b for a, b in zip(left, widths, strict=True)]
            axis.set_title(model, fontsize=9)
            axis.invert_yaxis()
        grid[0][-1].legend(frameon=False, fontsize=7, bbox_to_anchor=(1.0, 1.0))
        _save(figure, path, "mean weight of each expert by market")


def draw_learning(found: Mapping[str, Any], path: Path) -> None:
    """Draw validation log-loss against training steps, a line for each network."""
    with mpl.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(7, 3))
        for place, (model, points) in enumerate(found["curves"]["learning"].items()):
            steps, losses = zip(*points, strict=True)
            axis.plot(steps, losses, "o-", ms=3, color=_LINES[place % len(_LINES)], label=model)
        axis.set_xlabel("steps")
        axis.set_ylabel("validation log-loss, nats")
        axis.legend(frameon=False, fontsize=7, bbox_to_anchor=(1.0, 1.0))
        _save(figure, path, "learning: mean over seeds and cuts, all markets together")


def _markets(found: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["market"] for row in found["table"]))


def _grid(names: list[str]) -> tuple[Figure, list[Axes]]:
    rows = (len(names) + 1) // 2
    figure, grid = plt.subplots(rows, 2, figsize=(8, 2.4 * rows), squeeze=False)
    axes = [axis for row in grid for axis in row]
    for axis in axes[len(names) :]:
        axis.remove()
    return figure, axes[: len(names)]


def _line(axis: Axes, points: list[list[float]], label: str, color: str) -> None:
    axis.plot([100 * x for x, _ in points], [100 * y for _, y in points], color=color, label=label)


def _band(axis: Axes, points: list[list[float | None]], color: str) -> None:
    for q, share, low, high in points:
        if q is None or share is None:
            continue
        axis.plot(100 * q, 100 * share, "o", color=color, ms=3)
        if low is not None and high is not None:
            axis.plot([100 * q, 100 * q], [100 * low, 100 * high], color=color, lw=1)


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
