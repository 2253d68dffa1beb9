"""Does tuning start better from the settings of the nearest fingerprint than from the default?

`python -m benchmarks tuning` tunes each chart market alone, as the tune stage would, on windows
drawn for each seed. A market is held out: what the other markets of its seed were tuned to is what
the home has seen, and `atlas.tuning.start_from` picks the nearest of them.

- default: the search begins with the default settings. nearest: the same search, with the settings
  of the nearest fingerprint as its second trial, as the stage has it. Nothing is pruned.
- Trials to a loss: how many trials end before one is within a tenth of the way from the default
  settings' loss to the best that either search found; one more than all where none is.
- Every trial is kept (`benchmarks.kept`): a killed run goes on, and settings that both searches try
  are trained once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
import torch

from atlas.config import ATLASConfig
from atlas.draws import draw_markets
from atlas.moe import Network, build_model
from atlas.tuning import Seen, Settings, described, objective, search, settings_of, start_from
from atlas.windows import MarketData
from benchmarks.balance import configuration
from benchmarks.harness import Ratio, Report, Timing, timing
from benchmarks.kept import kept

__all__ = ["run", "trials_to"]

NAME = "tuning"
MARKETS = ("crypto_1min", "equity_5min", "equity_daily", "futures_30min", "low_vol_etf")
SEEDS = (21, 22)
TRIALS = 10
WITHIN = 0.1
BUDGET = {"epochs": 1, "windows_per_epoch": 4_096}
DRAWN = {"train": 4_000, "validation": 1_000, "paths": 20}
Losses = list[float]


def run(seed: int) -> Report:
    """Search every market of every seed twice; `seed` is the networks' and the sampler's."""
    results: list[Timing] = []
    found: dict[str, list[tuple[float, float, float]]] = {market: [] for market in MARKETS}
    for draw in SEEDS:
        tuned = {market: _Tuner(market, draw, seed) for market in MARKETS}
        usual = {market: tuner.searched([]) for market, tuner in tuned.items()}
        for market, tuner in tuned.items():
            seen = [tuned[m].seen(*usual[m]) for m in MARKETS if m != market]
            near, _ = tuner.searched(seen)
            losses, _ = usual[market]
            goal = losses[0] - (1 - WITHIN) * (losses[0] - min(*losses, *near))
            gap = min(near) - min(losses)
            found[market].append((trials_to(goal, losses), trials_to(goal, near), 1e3 * gap))
    for market, rows in found.items():
        default, nearest, gaps = (list(column) for column in zip(*rows, strict=True))
        results.append(timing(f"{market} default start", "trials", default))
        results.append(timing(f"{market} nearest start", "trials", nearest))
        results.append(timing(f"{market} best loss, nearest less default", "mnat", gaps))
    pairs = np.array([row[:2] for rows in found.values() for row in rows])
    return Report(
        results,
        [
            Ratio("mean trials, default start", float(pairs[:, 0].mean()), None),
            Ratio("mean trials, nearest start", float(pairs[:, 1].mean()), None),
            Ratio("nearest is sooner, share", float((pairs[:, 1] < pairs[:, 0]).mean()), None),
            Ratio("default is sooner, share", float((pairs[:, 1] > pairs[:, 0]).mean()), None),
        ],
    )


def trials_to(goal: float, losses: Losses) -> int:
    """Return how many trials it takes to reach a loss, one more than all if none does."""
    return next((n for n, loss in enumerate(losses, 1) if loss <= goal), len(losses) + 1)


class _Tuner:
    """One market of one draw: its searches and their trials."""

    def __init__(self, market: str, draw: int, seed: int) -> None:
        self.market, self.draw, self.seed = market, draw, seed
        self.config = _alone(market)
        self.default = {
            name: self.config.training.model_dump(mode="json")[name]
            for name in ("optimizer", "learning_rate", "weight_decay", "experts", "gate")
        }
        self._data: dict[str, MarketData] = {}
        self._evaluate: Callable[..., float] | None = None

    def searched(self, seen: list[Seen]) -> tuple[Losses, Settings]:
        """Search from the default and, if markets were seen, the nearest; return losses and best.

        The losses are of the trials, in their order.
        """
        near = self._near(seen)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(pruner=optuna.pruners.NopPruner())
        owners = [*self.config.moe.experts, "gate"]
        starts = [self.default] if near is None else [self.default, near]
        search(study, self._loss, owners, trials=TRIALS, seed=self.seed, starts=starts)
        losses = [float(trial.value or np.inf) for trial in study.trials]
        return losses, settings_of(study.best_trial.params)

    def seen(self, _: Losses, best: Settings) -> Seen:
        """Return what a home keeps of this market once it was tuned."""
        expert, fingerprint = self._described()
        return Seen(self.market, "chart", expert, tuple(fingerprint), best)

    def _near(self, seen: list[Seen]) -> Settings | None:
        if not seen:
            return None
        unit = {**self._unit(), "start": [one._asdict() for one in seen]}
        found: Settings = kept(NAME, unit, lambda: start_from(self._drawn(), seen))
        return found

    def _described(self) -> tuple[str, list[float]]:
        def work() -> list[Any]:
            expert, fingerprint = described(self._drawn()[self.market])
            return [expert, list(fingerprint)]

        expert, fingerprint = kept(NAME, {**self._unit(), "described": True}, work)
        return expert, fingerprint

    def _loss(self, settings: Settings, report: Callable[[float, int], None]) -> float:
        unit = {**self._unit(), "settings": settings}
        return float(kept(NAME, unit, lambda: self._trained(settings, report)))

    def _trained(self, settings: Settings, report: Callable[[float, int], None]) -> float:
        if self._evaluate is None:
            self._evaluate = objective(
                [self._drawn()], self._built, self.config.training, seed=self.seed
            )
        return self._evaluate(settings, report)

    def _built(self) -> Network:
        torch.manual_seed(self.seed)
        return build_model(self.config, variant="moe_mlp")

    def _drawn(self) -> Mapping[str, MarketData]:
        if not self._data:
            self._data = draw_markets(self.config, seed=self.draw, **DRAWN)
        return self._data

    def _unit(self) -> dict[str, Any]:
        named = {"market": self.market, "draw": self.draw, "seed": self.seed}
        return {**named, "of": [BUDGET, DRAWN]}


def _alone(market: str) -> ATLASConfig:
    """Return the usual configuration with one market in it."""
    config = configuration(BUDGET)
    simulated = config.simulated.model_copy(
        update={"markets": {market: config.simulated.markets[market]}}
    )
    own = {"markets": {market: config.markets[market]}, "simulated": simulated}
    return config.model_copy(update=own)
