"""What the balancing losses and the warm start do to lift and to the experts' load.

`python -m benchmarks.balance --home HOME` trains the MLP gate with each, for three seeds, on a
night's simulated markets at a small budget (`BUDGET`), keeps every training in
`benchmarks/results/balance.json` as it ends, and writes docs/balance.md. `benchmarks.condconv`
trains on the same data.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import typer
import yaml

from atlas.config import ATLASConfig
from atlas.metrics import gain, lift
from atlas.moe import Network, build_model
from atlas.prediction import predict
from atlas.sampling import spread_evenly
from atlas.training import train
from atlas.windows import MarketData
from benchmarks.units import (
    PROJECT,
    Results,
    difference,
    mean_and_spread,
    resumed,
    table,
    write_page,
)
from pipelines import samples
from pipelines.paths import Paths

__all__ = [
    "BUDGET",
    "PROJECT",
    "SEEDS",
    "TESTED",
    "Score",
    "configuration",
    "load",
    "page",
    "score",
    "trained",
]

BUDGET: dict[str, Any] = {"epochs": 2, "windows_per_epoch": 12_000}
TESTED = 2_000  # windows a market
SEEDS = (1, 2, 3)
WEIGHT = 0.01
WARM = 0.1  # warm_start_share of params.yaml
KINDS = {"entropy": WEIGHT, "switch": WEIGHT, "none": 0.0}
DEAD = 0.01  # an expert that takes less of the chart windows' weight than this is dead
COMMAND = "python -m benchmarks.balance --home HOME"
_HEAD = """# Balance and warm start

Written by `{command}` from `benchmarks/results/balance.json` (commit `{commit}`); nobody typed a
figure here. The MLP gate is trained on the simulated markets of a night at {windows:,} windows (an
eighth of a night's budget), all other settings those of params.yaml (`explore_share` {explore:g}),
and scored on {tested:,} test windows a market against the known probabilities: means over markets,
of Bayes.

- **entropy** is λ·(log E − H(mean over the batch)), **switch** λ·(E·Σ f·P − 1), **none** λ = 0;
  λ = {weight:g} elsewhere.
- **warm start**: in the first {warm:.0%} of the steps the gate also learns to agree with the rule.
- An expert is *dead* if it takes less than {dead:.0%} of the chart windows' weight; *largest* is
  the weight of the expert that takes most, of five.
"""


class Score(NamedTuple):
    """Means over markets, and the weight that each expert takes of the chart windows, (E,)."""

    lift: float
    gain: float
    load: npt.NDArray[np.float64]


def configuration(
    training: Mapping[str, Any] | None = None, *, source: str = "simulated", **moe: object
) -> ATLASConfig:
    """Return params.yaml at the small budget with some fields of `training` and `moe` changed."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["training"] |= {**BUDGET, **(training or {})}
    params["moe"] |= moe
    params["source"] = source
    return ATLASConfig.parse(params)


def load(home: Path) -> dict[str, MarketData]:
    """Read the simulated markets of a home whose night has been fingerprinted."""
    config = configuration()
    return samples.load(Paths(home), config, pd.Timestamp(str(config.simulated.as_of), tz="UTC"))


def trained(
    config: ATLASConfig, variant: str, data: Mapping[str, MarketData], seed: int
) -> Network:
    """Train one network from the seed's weights and draws."""
    torch.manual_seed(seed)
    model = build_model(config, variant=variant)
    train(model, data, config.training, seed=seed)
    return model


def score(model: Network, data: Mapping[str, MarketData]) -> Score:
    """Score a network on test windows against the true probabilities."""
    lifts, gains, loads = [], [], []
    for market, own in data.items():
        ends = spread_evenly(own.split.test, TESTED)
        found = predict(model, own, ends, market_index=model.markets.index(market))
        assert own.panel.probability is not None
        p = own.panel.probability[ends]
        known = np.isfinite(p)
        lifts.append(lift(p[known], found["probability"][known]))
        gains.append(gain(p[known], found["probability"][known], p[known]))
        if own.panel.modality == "chart":
            experts = found["gate_probs"].shape[1]
            weights = np.zeros(experts)
            np.add.at(weights, found["expert_ids"], found["expert_weights"])
            loads.append(weights / len(ends))
    return Score(float(np.mean(lifts)), float(np.mean(gains)), np.mean(loads, axis=0))


def page() -> str:
    """Return docs/balance.md as the results file says it."""
    found = Results("balance").read()
    settings, facts = found["settings"], found["metadata"]
    head = _HEAD.format(
        command=facts["command"],
        commit=facts["commit"][:10],
        windows=settings["epochs"] * settings["windows_per_epoch"],
        explore=settings["explore_share"],
        tested=settings["tested"],
        weight=settings["weight"],
        warm=settings["warm"],
        dead=DEAD,
    )
    rows, missing = [], []
    for kind in KINDS:
        for warm in (True, False):
            own = [
                found["units"][_key(kind, warm, seed)]
                for seed in SEEDS
                if _key(kind, warm, seed) in found["units"]
            ]
            if len(own) < len(SEEDS):
                missing.append(f"{len(SEEDS) - len(own)} of {_key(kind, warm, 0)[:-2]}")
            if own:
                rows.append(_row(kind, warm, own))
    header = "balance | warm start | lift, mean ± sd | gain | dead, by seed | largest, by seed"
    lines = [head, table(header, rows, left=2), "", *_differences(found["units"])]
    if missing:
        lines += ["", f"Not trained yet: {', '.join(missing)}. The command goes on from here."]
    return "\n".join([*lines, ""])


def _row(kind: str, warm: bool, own: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        kind,
        "yes" if warm else "no",
        *(mean_and_spread([unit[name] for unit in own]) for name in ("lift", "gain")),
        " ".join(str(unit["dead"]) for unit in own),
        " ".join(f"{unit['largest']:.2f}" for unit in own),
    ]


def _differences(units: Mapping[str, Any]) -> Sequence[str]:
    """Say what each switch changes, paired by seed and by the other switch."""
    cold = {kind: (f"{kind} warm", f"{kind} cold") for kind in KINDS}
    pairs = {
        "entropy against none": [("entropy warm", "none warm"), ("entropy cold", "none cold")],
        "switch against none": [("switch warm", "none warm"), ("switch cold", "none cold")],
        "warm start against none": list(cold.values()),
    }
    lines = []
    for name, keys in pairs.items():
        found = [
            units[f"{one} {seed}"]["lift"] - units[f"{other} {seed}"]["lift"]
            for one, other in keys
            for seed in SEEDS
            if f"{one} {seed}" in units and f"{other} {seed}" in units
        ]
        if found:
            lines.append(f"- {name}: {difference(found)} ({len(found)} pairs)")
    if not lines:
        return []
    return ["What a switch changes in lift, paired by seed (mean ± standard error):", "", *lines]


def _key(kind: str, warm: bool, seed: int) -> str:
    return f"{kind} {'warm' if warm else 'cold'} {seed}"


def main(
    home: Annotated[Path, typer.Option(help="of a simulated night")] = PROJECT,
    minutes: Annotated[float, typer.Option(help="after which no training is begun")] = 60.0,
) -> None:
    """Train what is missing, then write the page."""
    data = load(home)
    settings = {
        **BUDGET,
        "explore_share": configuration().training.explore_share,
        "tested": TESTED,
        "weight": WEIGHT,
        "warm": WARM,
    }
    units: dict[str, Callable[[], dict[str, Any]]] = {
        _key(kind, warm, seed): partial(_train, kind, warm, seed, data)
        for warm in (True, False)
        for kind in KINDS
        for seed in SEEDS
    }
    resumed("balance", COMMAND, SEEDS[0], settings, units, minutes)
    write_page("balance", page())


def _train(kind: str, warm: bool, seed: int, data: Mapping[str, MarketData]) -> dict[str, Any]:
    name = "entropy" if kind == "none" else kind
    config = configuration(
        {"warm_start_share": WARM if warm else 0.0},
        balance={"kind": name, "weight": KINDS[kind]},
    )
    found = score(trained(config, "moe_mlp", data, seed), data)
    charts = np.delete(found.load, config.moe.experts.index("options_skew"))
    return {
        "lift": found.lift,
        "gain": found.gain,
        "dead": int((charts < DEAD).sum()),
        "largest": float(charts.max()),
        "load": found.load.tolist(),
    }


if __name__ == "__main__":
    typer.run(main)
