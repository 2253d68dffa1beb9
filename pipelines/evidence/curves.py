"""The curves beside the long table: risk and coverage, reliability, gates, and learning."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from atlas.reliability import reliability_curve
from atlas.selection import risk_coverage
from pipelines.evidence import plan
from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["curves", "gate_weights", "learning_curve"]

_POINTS = 20


def curves(
    test: Mapping[str, Sequence[pd.DataFrame]], models: Sequence[str], blocks: Mapping[str, float]
) -> dict[str, Any]:
    """Return, by model and market, points of both curves; a model's seeds are pooled.

    `risk` has pairs of coverage and accuracy; `reliability` has mean probability, share of ups and
    its interval. Figures are rounded to a hundredth of a per cent: they are drawn, not computed on.
    """
    found: dict[str, Any] = {"risk": {}, "reliability": {}}
    for model in models:
        rows = pd.concat(test[model], ignore_index=True)
        for market in dict.fromkeys(rows["market"]):
            own = rows[rows["market"] == market]
            y, q = own["y"].to_numpy(np.float64), own["probability"].to_numpy(np.float64)
            risk = risk_coverage(y, q, points=_POINTS)
            found["risk"].setdefault(model, {})[market] = _points(risk[["coverage", "accuracy"]])
            curve = reliability_curve(
                y,
                q,
                own["session"].to_numpy(np.int64),
                block=blocks[market],
                resamples=300,
            )
            columns = ["probability", "share_up", "low", "high"]
            found["reliability"].setdefault(model, {})[market] = _points(curve[columns])
    return found


def gate_weights(paths: Paths, units: Sequence[plan.Unit], model: str) -> dict[str, Any]:
    """Return the mean weight of each expert by market over all seeds and test windows."""
    parts = []
    for unit in units:
        path = plan.root(paths) / unit.name / f"{model}.parquet"
        if unit.model == model and path.is_file():
            frame = pd.read_parquet(path)
            gates = [str(name) for name in frame if str(name).startswith("gate_")]
            test = frame[frame["split"] == "test"]
            parts.append(test.groupby("market", sort=False)[gates].mean())
    if not parts:
        return {}
    mean = pd.concat(parts).groupby(level=0, sort=False).mean()
    experts = [str(name).removeprefix("gate_") for name in mean]
    return {
        str(market): dict(zip(experts, row.round(4).tolist(), strict=True))
        for market, row in zip(mean.index, mean.to_numpy(np.float64), strict=True)
    }


def learning_curve(
    paths: Paths, units: Sequence[plan.Unit], model: str
) -> list[list[float | None]]:
    """Return pairs of step and validation log-loss, the mean over seeds and cuts by epoch."""
    files = [plan.root(paths) / unit.name / "history.json" for unit in units if unit.model == model]
    epochs = [epoch for path in files if path.is_file() for epoch in read_json(path)]
    if not epochs:
        return []
    mean = pd.DataFrame(epochs).groupby("epoch")[["step", "validation_log_loss"]].mean()
    return _points(mean)


def _points(frame: pd.DataFrame) -> list[list[float | None]]:
    rows = frame.to_numpy(np.float64).round(4)
    return [[float(v) if np.isfinite(v) else None for v in row] for row in rows]
