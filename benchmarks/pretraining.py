"""Networks with and without pre-trained kernels, market by market.

`python -m benchmarks.pretraining [--home HOME]` pre-trains (`atlas.pretraining`) and trains the MLP
mixture from those kernels and from the templates, at the budget of params.yaml, with the same
seeds and draws. Simulated markets are drawn for each seed, as the long benchmark draws them; with a
home of an archive whose night has been fingerprinted, its own night's cut is learned and tested.
Every unit is kept in `benchmarks/results/pretraining.json` as it ends, predictions and kernels
beside it in var/benchmarks/pretraining/; `benchmarks.pretraining_page` writes the page.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import typer

from atlas.config import ATLASConfig
from atlas.masking import BLOCK, Block
from atlas.moe import Network, build_model
from atlas.prediction import predict
from atlas.pretraining import RATE, load_kernels, pretrain
from atlas.smearing import smeared
from atlas.training import train
from atlas.windows import MarketData
from benchmarks import pretraining_tests
from benchmarks.balance import BUDGET, configuration
from benchmarks.kept import folder
from benchmarks.pretraining_page import page
from benchmarks.units import PROJECT, resumed, write_page
from pipelines import samples
from pipelines.evidence import drawn, plan
from pipelines.files import read_json, write_bytes, write_parquet
from pipelines.night import read_config
from pipelines.paths import Paths

__all__ = ["ARMS", "SEEDS", "TRIED"]

NAME = "pretraining"
COMMAND = "python -m benchmarks.pretraining --home HOME"
VARIANT = "moe_mlp"
SEEDS = (1, 2, 3)
ARMS = ("cold", "pretrained")
TRIED = (Block(8, 8), BLOCK, Block(2, 8), Block(2, 0))  # at the small budget of benchmarks.balance
TESTED = 10_000  # drawn test windows a market; an archive's are all of its night's
Data = dict[str, MarketData]


class _Bench:
    """The data of a source, loaded once, and where its units leave their files."""

    def __init__(self, source: str, home: Path | None) -> None:
        self.source, self.home = source, home
        self.config = _configuration(source)
        self._data: dict[int, Data] = {}

    def data(self, seed: int) -> Data:
        """Return the windows of a seed; an archive's are the same for all."""
        place = seed if self.source == plan.SIMULATED else 0
        if place not in self._data:
            self._data.clear()
            self._data[place] = self._drawn(seed) if place else self._loaded()
        return self._data[place]

    def _drawn(self, seed: int) -> Data:
        paths, unit = Paths(folder(NAME)), plan.Unit(plan.SIMULATED, seed, plan.DRAW)
        key = plan.key_of(paths, self.config, unit)
        if not drawn.is_kept(paths, unit, key):
            drawn.draw(paths, self.config, seed, key)
        return drawn.drawn(paths, seed)

    def _loaded(self) -> Data:
        assert self.home is not None
        paths = Paths(self.home.resolve())
        as_of = pd.Timestamp(str(read_json(paths.night)["as_of"]), tz="UTC")
        return samples.load(paths, self.config, as_of)

    def kernels(self, seed: int) -> dict[str, Any]:
        """Pre-train and keep the kernels; return the loss curve and the time it took."""
        data, begun = self.data(seed), time.process_time()
        found = pretrain(self.config, data, seed=seed)
        spent = time.process_time() - begun
        content = {name: weight.contiguous() for name, weight in found.weights.items()}
        write_bytes(self._place("kernels", seed, "safetensors"), safetensors.torch.save(content))
        history = [epoch._asdict() for epoch in found.history]
        return {"history": history, "markets": found.markets, "cpu_s": round(spent, 1)}

    def train(self, arm: str, seed: int) -> dict[str, Any]:
        """Train one network and keep what it says of the scored windows."""
        data, begun = self.data(seed), time.process_time()
        torch.manual_seed(seed)
        model = build_model(self.config, variant=VARIANT)
        if arm == "pretrained":
            content = self._place("kernels", seed, "safetensors").read_bytes()
            load_kernels(model, safetensors.torch.load(content))
        result = train(model, data, self.config.training, seed=seed)
        spent = time.process_time() - begun
        rows = [_rows(model, own, seed, self.source) for own in data.values()]
        write_parquet(self._place(arm, seed, "parquet"), pd.concat(rows, ignore_index=True))
        best = result.history[result.best_epoch - 1]
        losses = [epoch.validation_log_loss for epoch in result.history]
        return {
            "validation": losses,
            "best": best.validation_log_loss,
            "cpu_s": round(spent, 1),
        }

    def compared(self, seeds: int) -> dict[str, Any]:
        """Score both arms over the first so many seeds."""
        frames = {arm: [self._tested(arm, seed) for seed in SEEDS[:seeds]] for arm in ARMS}
        if self.source == plan.SIMULATED:
            joined = {arm: pd.concat(own, ignore_index=True) for arm, own in frames.items()}
            return pretraining_tests.simulated(joined["pretrained"], joined["cold"])
        return pretraining_tests.real(frames["pretrained"], frames["cold"])

    def _tested(self, arm: str, seed: int) -> pd.DataFrame:
        rows = smeared(pd.read_parquet(self._place(arm, seed, "parquet")))
        return rows[rows["split"] == "test"].reset_index(drop=True)

    def _place(self, what: str, seed: int, ending: str) -> Path:
        return folder(NAME) / f"{self.source}-{what}-{seed}.{ending}"


def _configuration(source: str) -> ATLASConfig:
    config = read_config(PROJECT / "params.yaml", source=source)
    sizes = config.benchmark.model_copy(update={"test_windows": TESTED})
    return config.model_copy(update={"benchmark": sizes})


def _rows(model: Network, own: MarketData, seed: int, source: str) -> pd.DataFrame:
    """Return what a network says of a market's scored windows, beside what became of them."""
    panel, split = own.panel, own.split
    ends = np.concatenate([split.validation, split.test])
    found = predict(model, own, ends, market_index=model.markets.index(panel.market))
    symbol = panel.symbol_of(ends)
    session = panel.session[ends]
    if source == plan.SIMULATED:  # a path is the unit of chance there, another in each seed
        session = 100_000 * seed + np.unique(symbol, return_inverse=True)[1]
        symbol = session.astype(str)
    return pd.DataFrame(
        {
            "market": panel.market,
            "symbol": symbol,
            "timestamp": pd.to_datetime(panel.timestamp[ends], unit="us", utc=True),
            "session": session,
            "split": np.repeat(["validation", "test"], [split.validation.size, split.test.size]),
            "y": own.labels.direction[ends],
            "p": np.nan if panel.probability is None else panel.probability[ends],
            "probability": found["probability"],
            "log_rv": own.labels.log_rv[ends],
            "log_rv_predicted": found["log_rv_predicted"],
        }
    )


def _tried(bench: _Bench, block: Block | None, seed: int) -> dict[str, Any]:
    """Pre-train and train at the small budget; score on validation windows alone."""
    config = configuration()
    data = bench.data(1)
    torch.manual_seed(seed)
    model = build_model(config, variant=VARIANT)
    shares: dict[str, float] = {}
    if block is not None:
        twice = config.training.model_copy(update={"windows_per_epoch": 24_000})
        found = pretrain(
            config.model_copy(update={"training": twice}), data, seed=seed, block=block
        )
        load_kernels(model, found.weights)
        last = found.history[-1]
        shares = {"held_move": last.held_move, "held_size": last.held_size}
    result = train(model, data, config.training, seed=seed)
    best = min(epoch.validation_log_loss for epoch in result.history)
    return {**shares, "validation": best}


def main(
    home: Annotated[Path | None, typer.Option(help="of an archive's night; else it waits")] = None,
    only: Annotated[str, typer.Option(help="units whose key begins so")] = "",
    minutes: Annotated[float, typer.Option(help="after which no unit is begun")] = 60.0,
) -> None:
    """Do what is missing, then write the page."""
    benches = {plan.SIMULATED: _Bench(plan.SIMULATED, None)}
    if home is not None:
        benches["files"] = _Bench("files", home)
    units: dict[str, Callable[[], dict[str, Any]]] = {}
    for place, seed in enumerate(SEEDS, 1):
        for source, bench in benches.items():
            units[f"{source} kernels {seed}"] = partial(bench.kernels, seed)
            for arm in ARMS:
                units[f"{source} {arm} {seed}"] = partial(bench.train, arm, seed)
            units[f"{source} compared {place}"] = partial(bench.compared, place)
    for block in (None, *TRIED):
        for seed in SEEDS[:2]:
            name = f"{block.hidden} {block.latest}" if block else "none"
            units[f"tried {name} {seed}"] = partial(_tried, benches[plan.SIMULATED], block, seed)
    chosen = {key: work for key, work in units.items() if key.startswith(only)}
    settings = _settings(benches[plan.SIMULATED].config)
    resumed(NAME, COMMAND, SEEDS[0], settings, chosen, minutes)
    write_page(NAME, page())


def _settings(config: ATLASConfig) -> dict[str, Any]:
    used = ("epochs", "windows_per_epoch", "batch", "learning_rate")
    return {
        **config.training.model_dump(mode="json", include=set(used)),
        "drawn": config.benchmark.train_windows,
        "tested": TESTED,
        "rate": RATE,
        "block": list(BLOCK),
        "tried": {**BUDGET, "pretraining": 2 * 24_000},
    }


if __name__ == "__main__":
    typer.run(main)
