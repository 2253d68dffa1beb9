"""Retrain night after night: all of the past or its newest part, from scratch or from before.

`python -m benchmarks retraining` draws simulated markets with seeds of their own and walks through
`NIGHTS` nights: each trains on what lies before its validation block, is tested on the block after,
and steps on by one block. Where ATLAS_HOME names a home of an archive, its bars are walked through
as well. Every training and its score is kept (`benchmarks.kept`): a killed run goes on.

- expanding: all training windows before the night; sliding: those of its newest three blocks.
- cold: weights drawn anew each night; warm: those of the night before; half: warm, half the steps.
- Simulated nights are scored against the known p, so that only the network is luck: expected
  log-loss, in thousandths of a nat, and lift. An archive's are scored by what happened.
- A difference is taken within a draw (a seed) and night, averaged over the nights after the first,
  and its spread is over draws.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from atlas.config import ATLASConfig
from atlas.draws import draw_markets
from atlas.metrics import expected_log_losses, lift
from atlas.moe import build_model
from atlas.prediction import predict
from atlas.sampling import spread_evenly
from atlas.training import train
from atlas.windows import MarketData, Split
from benchmarks.balance import PROJECT, configuration
from benchmarks.harness import Ratio, Report, Timing, timing
from benchmarks.kept import kept, place
from pipelines import samples, warm
from pipelines.files import read_json, write_bytes
from pipelines.paths import Paths

__all__ = ["NIGHTS", "night", "run"]

NAME = "retraining"
NIGHTS = 3
BLOCKS = 9  # of a history: 5 before the first night's validation, 1 to validate, 1 to test
SLIDING = 3  # blocks
DRAWS = (11, 12)  # simulated seeds
SEEDS = (1,)  # of an archive's networks
DRAWN = {"windows": 9_000, "paths": 36}  # a market
BUDGET = {"epochs": 2, "windows_per_epoch": 9_000}
TESTED = 1_000  # windows a market and night
VARIANT = "moe_mlp"
Data = dict[str, MarketData]


class Arm(NamedTuple):
    """One way to retrain."""

    window: str
    start: str
    share: float = 1.0  # of the budget


ARMS = {
    "cold expanding": Arm("expanding", "cold"),
    "warm expanding": Arm("expanding", "warm"),
    "cold sliding": Arm("sliding", "cold"),
    "warm sliding": Arm("sliding", "warm"),
    "warm expanding, half": Arm("expanding", "warm", 0.5),
}
USUAL = "cold expanding"


def run(seed: int) -> Report:
    """Walk through every source that is there; `seed` is the first network's."""
    results: list[Timing] = []
    ratios: list[Ratio] = []
    for source, walks in _walks(seed).items():
        for figure in ("log_loss", "lift" if source == "simulated" else "accuracy"):
            scale, unit = (1e3, "mnat") if figure == "log_loss" else (1e2, "%")
            for arm in ARMS:
                values = [scale * _mean(walk[arm], figure) for walk in walks]
                results.append(timing(f"{source} {arm} {figure}", unit, values))
                if arm != USUAL and figure == "log_loss":
                    usual = [scale * _mean(walk[USUAL], figure) for walk in walks]
                    gaps = np.subtract(values, usual)
                    results.append(timing(f"{source} {arm} less usual", unit, gaps.tolist()))
                    ratios.append(Ratio(f"{source}: {arm} less usual, mnat", gaps.mean(), None))
    return Report(results, ratios)


def night(own: MarketData, place_: int, window: str) -> MarketData:
    """Cut a market for a 0-based night by equal blocks of its time; a horizon crosses no edge.

    Args:
        own: the market; every window of its split is used.
        place_: of the night.
        window: `expanding` or `sliding`.
    """
    panel, labels = own.panel, own.labels
    ends = np.sort(np.concatenate([own.split.train, own.split.validation, own.split.test]))
    times = panel.timestamp[ends]
    edges = np.quantile(np.unique(times), np.arange(BLOCKS + 1) / BLOCKS).astype(np.int64)
    edges[-1] += 1
    validates = BLOCKS - NIGHTS - 1 + place_
    begins = validates - SLIDING if window == "sliding" else 0
    grid = panel.index[ends] % labels.question.horizon == 0
    last = panel.timestamp[labels.last[ends]]

    def between(first: int, end: int) -> Any:
        return (times >= edges[first]) & (last < edges[end])

    split = Split(
        ends[between(begins, validates)],
        ends[between(validates, validates + 1) & grid],
        ends[between(validates + 1, validates + 2) & grid],
    )
    return replace(own, split=split)


def _walks(seed: int) -> dict[str, list[dict[str, list[dict[str, float]]]]]:
    config = configuration(BUDGET)
    found = {"simulated": [_walk("simulated", draw, seed, config) for draw in DRAWS]}
    home = Path(os.environ.get("ATLAS_HOME") or PROJECT)
    if (home / "var" / "home.json").is_file():
        bound = read_json(home / "var" / "home.json")["source"]
        if bound == "files":
            archive = configuration(BUDGET, source=bound)
            found["archive"] = [_walk("archive", one, one, archive) for one in SEEDS]
    return found


def _walk(
    source: str, draw: int, seed: int, config: ATLASConfig
) -> dict[str, list[dict[str, float]]]:
    """Return every arm's scores, a dict for each night after the first."""
    held: list[Data] = []

    def data() -> Data:
        if not held:
            held.append(_data(source, draw, config))
        return held[0]

    walk: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for name, arm in ARMS.items():
        before: dict[str, Any] | None = None
        for number in range(NIGHTS):
            unit = _unit(source, draw, seed, arm, number)
            scores = kept(NAME, unit, partial(_night, unit, before, data, config))
            before = unit
            if number:
                walk[name].append(scores)
    return walk


def _unit(source: str, draw: int, seed: int, arm: Arm, number: int) -> dict[str, Any]:
    settings = {"budget": BUDGET, "drawn": DRAWN, "blocks": BLOCKS, "tested": TESTED}
    if not number:  # the first night is nobody's second
        arm = Arm(arm.window, "cold")
    named = {"source": source, "draw": draw, "seed": seed, "night": number}
    return {**named, "window": arm.window, "start": arm.start, "share": arm.share, "of": settings}


def _night(
    unit: Mapping[str, Any], before: Mapping[str, Any] | None, data: Any, config: ATLASConfig
) -> dict[str, float]:
    """Train and score one night; its weights are kept for the night after."""
    cut = {name: night(own, unit["night"], unit["window"]) for name, own in data().items()}
    windows = int(BUDGET["windows_per_epoch"] * unit["share"])
    settings = config.training.model_copy(update={"windows_per_epoch": windows})
    torch.manual_seed(unit["seed"])
    model = build_model(config, variant=VARIANT)
    if unit["start"] == "warm" and before is not None:
        weights = place(NAME, before, "safetensors").read_bytes()
        parent = warm.Parent("", "", _loaded(weights))
        warm.begin(model, parent, 0, 1)
        settings = settings.model_copy(update={"warm_start_share": 0.0})
    train(model, cut, settings, seed=unit["seed"])
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(place(NAME, unit, "safetensors"), safetensors.torch.save(state))
    return _score(model, cut)


def _loaded(content: bytes) -> dict[str, Tensor]:
    return safetensors.torch.load(content)


def _score(model: Any, data: Data) -> dict[str, float]:
    """Return means over markets of log-loss and accuracy, and of lift where p is known."""
    scores = []
    for market, own in data.items():
        ends = spread_evenly(own.split.test, TESTED)
        q = predict(model, own, ends, market_index=model.markets.index(market))["probability"]
        y = own.labels.direction[ends].astype(np.float64)
        p = y if own.panel.probability is None else own.panel.probability[ends]
        known = own.panel.probability is not None
        figures = {"log_loss": expected_log_losses(p, q).mean()}
        figures["accuracy"] = ((q > 0.5) == (y > 0.5)).mean()
        scores.append({**figures, "lift": lift(p, q) if known else float("nan")})
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def _data(source: str, draw: int, config: ATLASConfig) -> Data:
    if source == "simulated":
        return draw_markets(config, seed=draw, train=DRAWN["windows"], paths=DRAWN["paths"])
    paths = Paths(Path(os.environ.get("ATLAS_HOME") or PROJECT))
    as_of = pd.Timestamp(str(read_json(paths.night)["as_of"]), tz="UTC")
    return samples.load(paths, config, as_of)


def _mean(nights: list[dict[str, float]], figure: str) -> float:
    return float(np.mean([one[figure] for one in nights]))
