"""What the two balancing losses and the warm start do to lift and to the experts' load.

`python -m benchmarks.balance [--home HOME]` trains the MLP gate with each, for three seeds, on a
night's simulated markets at a small budget (`BUDGET`), and prints lift on the test windows and how
the windows spread over the chart experts. `benchmarks.condconv` trains by the same function.
"""

from collections.abc import Mapping
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
from pipelines import samples
from pipelines.paths import Paths

__all__ = ["BUDGET", "Score", "configuration", "load", "score", "trained"]

PROJECT = Path(__file__).parent.parent
BUDGET: dict[str, Any] = {"epochs": 2, "windows_per_epoch": 12_000}
TESTED = 2_000  # windows a market
SEEDS = (1, 2, 3)
DEAD = 0.01  # an expert that takes less of the chart windows' weight than this is dead


class Score(NamedTuple):
    """Means over markets, and the weight that each expert takes of the chart windows, (E,)."""

    lift: float
    gain: float
    load: npt.NDArray[np.float64]


def configuration(training: Mapping[str, Any] | None = None, **moe: object) -> ATLASConfig:
    """Return params.yaml at the small budget with some fields of `training` and `moe` changed."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["training"] |= {**BUDGET, **(training or {})}
    params["moe"] |= moe
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


def main(
    home: Annotated[Path, typer.Option(help="of a simulated night")] = PROJECT,
    seeds: Annotated[int, typer.Option(help="how many of the three seeds")] = len(SEEDS),
) -> None:
    """Print a row for each loss, with and without warm start."""
    data = load(home)
    typer.echo("balance  warm start  seed   lift   gain  dead  largest load")
    for kind in ("entropy", "switch"):
        for warm in (0.4, 0.0):
            config = configuration(
                {"warm_start_share": warm}, balance={"kind": kind, "weight": 0.01}
            )
            for seed in SEEDS[:seeds]:
                found = score(trained(config, "moe_mlp", data, seed), data)
                charts = np.delete(found.load, 4)  # the surface expert takes no chart
                typer.echo(
                    f"{kind:<8} {'yes' if warm else 'no':<11} {seed:<4} {found.lift:6.3f} "
                    f"{found.gain:6.3f}  {int((charts < DEAD).sum()):<4}  {charts.max():.2f}"
                )


if __name__ == "__main__":
    typer.run(main)
