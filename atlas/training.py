"""Train a network so that two runs, or a killed and resumed one, end in the same bits.

- A step is a batch of charts and one of surfaces, markets drawn equally; its loss is the mean over
  markets of the direction's cross-entropy and, in small part, of the volatility's squared error.
- The base is fitted first, on training rows; the network starts as that rival and adds to it.
- What is random in a step follows from (seed, step) alone, the learning rate from the step. So a
  checkpoint is weights, moments, average and a number, and no generator's state.
- The weights of the last steps are averaged; each epoch is judged by its averaged weights, on
  validation windows, mean over markets. The best epoch's are kept.
- Lightning Fabric places model and batches; `atlas.parallel` says how processes share a step.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from atlas.base import install_base
from atlas.calibration import calibrate, log_loss
from atlas.config import TrainingConfig
from atlas.errors import DataError, ModelError
from atlas.losses import agreement, direction_loss, log_rv_loss
from atlas.moe import Network, Output
from atlas.optimization import build_optimizers, clip_gradients, set_rates
from atlas.parallel import average_gradients, open_fabric, own_markets, shard
from atlas.prediction import raw_predictions, to_tensors
from atlas.progress import EpochResult, Meter, Progress, TrainingResult
from atlas.sampling import Batch, collate, draw, spread_evenly
from atlas.training_state import (
    TrainingState,
    WeightAverage,
    check_same,
    load_optimizers,
    optimizer_tensors,
    section,
)
from atlas.windows import MarketData

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["MarketData", "TrainingResult", "TrainingState", "reproducible", "train"]

PATIENCE = 2  # epochs without a better validation loss before training stops
CLIP = 1.0  # gradient norm: one window with a broken bar must not undo an epoch
VALIDATED = 1_024  # windows a market is validated on after each epoch


def train(
    model: Network,
    data: Mapping[str, MarketData],
    settings: TrainingConfig,
    *,
    seed: int,
    checkpoint: Callable[[TrainingState], None] | None = None,
    resume: TrainingState | None = None,
    progress: Callable[[Progress], None] | None = None,
    fabric: "Fabric | None" = None,
) -> TrainingResult:
    """Train `model` in place and calibrate it; it ends with the weights of its best epoch.

    Args:
        model: from `atlas.moe.build_model`; its markets hold all of `data`'s.
        data: the markets; only training and validation windows are looked at.
        settings: budget and optimizer.
        seed: of the draws; the model's first weights are the caller's.
        checkpoint: called after each epoch with all that is needed to go on from there.
        resume: what an interrupted run of the same arguments handed to `checkpoint` last.
        progress: called after each step.
        fabric: where to train, from `atlas.parallel.open_fabric`; by default the CPU, alone.

    Returns:
        History and calibration.

    Raises:
        ModelError: the loss is not finite, or `resume` is of another training.
        DataError: a market has no training window.
    """
    with reproducible(settings.threads):
        if resume is None:
            install_base(model, data)
        run = _Run(model, data, settings, seed, fabric or open_fabric())
        if resume is not None:
            run.load(resume)
        while not run.finished:
            run.advance(progress)
            if checkpoint is not None and run.fabric.global_rank == 0:
                checkpoint(run.state())
        model.load_state_dict(run.best)
        markets = calibrate(model, data)
    return TrainingResult(run.step, run.best_epoch, tuple(run.history), markets)


class _Run:
    """A training under way: what changes from step to step."""

    def __init__(
        self,
        model: Network,
        data: Mapping[str, MarketData],
        settings: TrainingConfig,
        seed: int,
        fabric: "Fabric",
    ) -> None:
        self.model, self.data, self.settings, self.seed = model, data, settings, seed
        self.fabric = fabric
        self.network, *optimizers = fabric.setup(model, *build_optimizers(model, *settings.rules()))
        self.optimizers: list[Optimizer] = optimizers
        self.epoch_steps = max(1, settings.windows_per_epoch // settings.batch)
        self.steps = settings.epochs * self.epoch_steps
        self.average = WeightAverage(model)
        self.spread = fabric.to_device(_spread(model.markets, data))
        self.images: dict[str, npt.NDArray[np.float32]] = {}
        self.step, self.best_epoch, self.best_loss = 0, 0, math.inf
        self.best: dict[str, Tensor] = {}
        self.history: list[EpochResult] = []

    @property
    def finished(self) -> bool:
        """Whether the budget is spent or validation has stopped falling."""
        return self.step >= self.steps or len(self.history) - self.best_epoch >= PATIENCE

    def advance(self, progress: Callable[[Progress], None] | None) -> None:
        """Train one epoch and judge it."""
        self.network.train()
        meter, epoch = Meter(), len(self.history) + 1
        for _ in range(self.epoch_steps):
            self._update(meter)
            self.step += 1
            if progress is not None:
                progress(Progress(self.step, self.steps, epoch, *meter.running()))
        self._judge(epoch, meter)

    def _update(self, meter: Meter) -> None:
        # Whatever the model draws at random (a dropout, say) follows from the step too.
        torch.manual_seed((self.seed << 32) + self.step)
        set_rates(self.optimizers, self.step, self.steps)
        self.model.explore(self.step < self.settings.explore_share * self.steps)
        ends = draw(self.data, batch=self.settings.batch, seed=self.seed, step=self.step)
        ends = shard(ends, self.fabric.global_rank, self.fabric.world_size)
        self.network.zero_grad()
        figures = []
        with self.fabric.no_backward_sync(self.network, enabled=self.fabric.world_size > 1):
            for batch in collate(self.data, ends, self.model.markets, images=self.images):
                loss, output = self._loss(batch)
                self.fabric.backward(loss)
                figures.append(_figures(loss, output, batch))
        average_gradients(self.fabric, self.model)
        clip_gradients(self.optimizers, CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
        if self.step >= (1 - self.settings.averaged_share) * self.steps:
            self.average.update()
        loss, hits, known, load = (sum(parts) for parts in zip(*figures, strict=True))
        meter.add(loss, hits / known if known else math.nan, load)

    def _loss(self, batch: Batch) -> tuple[Tensor, Output]:
        """Return a modality's share of the step's loss, and the output it is of."""
        targets = torch.from_numpy(batch.direction), torch.from_numpy(batch.log_rv)
        inputs, direction, log_rv = self.fabric.to_device((to_tensors(batch.inputs), *targets))
        output: Output = self.network(inputs)
        settings, markets = self.settings, len(self.data)
        own = len(np.unique(batch.inputs.market))  # how many of the markets are of this modality
        loss = direction_loss(output.logit, direction, inputs.market, len(self.model.markets))
        error = log_rv_loss(output.log_rv, log_rv, self.spread, inputs.market)
        extra = self.model.balance_weight * output.load_balancing_loss
        warm = _warm_start(self.step, settings.warm_start_share * self.steps)
        if warm > 0 and self.model.gate_learns:
            rule = self.model.rule_columns(inputs.rule)
            extra = extra + warm * agreement(output.routing.gate_probs, rule)
        loss = (loss + settings.volatility_weight * error + own * extra) / markets
        if not torch.isfinite(loss):
            raise ModelError(self._not_finite(batch, loss.item()))
        return loss, output

    def _judge(self, epoch: int, meter: Meter) -> None:
        """Validate the averaged weights, or these where averaging has not begun; keep the best."""
        self.model.explore(False)
        averaged = self.average.count > 0
        if averaged:
            self.average.swap()
        log_loss, accuracy, error = self._validated()
        loss = log_loss + self.settings.volatility_weight * error
        if loss < self.best_loss or not self.best:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = _copy(self.model.state_dict())
        if averaged:
            self.average.swap()
        scores = (loss, log_loss, accuracy, error)
        self.history.append(EpochResult(epoch, self.step, *meter.mean(), *scores))

    def _validated(self) -> tuple[float, float, float]:
        """Return log-loss, accuracy and squared error, means over markets and so over processes."""
        fabric = self.fabric
        own = own_markets(tuple(self.data), fabric.global_rank, fabric.world_size)
        spread = self.spread.cpu().numpy()
        sums = _validate(self.model, {m: self.data[m] for m in self.data if m in own}, spread)
        if fabric.world_size > 1:
            sums = fabric.all_reduce(torch.from_numpy(sums), reduce_op="sum").cpu().numpy()
        count = sums[-1]
        if not count:
            raise DataError(
                "no market has a validation window: expected at least one; lower the markets' cut"
            )
        return float(sums[0] / count), float(sums[1] / count), float(sums[2] / count)

    def state(self) -> TrainingState:
        """Return copies of everything that a resumed run needs."""
        parts = {
            "weights": _copy(self.model.state_dict()),
            "best": self.best,
            "average": _copy(self.average.mean),
            "optimizer": optimizer_tensors(self.optimizers),
        }
        tensors = {f"{part}.{name}": t for part, own in parts.items() for name, t in own.items()}
        meta = {
            "step": self.step,
            "steps": self.steps,
            "seed": self.seed,
            "markets": list(self.data),
            "averaged": self.average.count,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "history": [epoch._asdict() for epoch in self.history],
        }
        return TrainingState(tensors, meta)

    def load(self, state: TrainingState) -> None:
        """Go on from what `state` returned.

        Raises:
            ModelError: it is of another training, or incomplete.
        """
        tensors, meta = state
        wanted = {"steps": self.steps, "seed": self.seed, "markets": list(self.data)}
        check_same(meta, wanted, "training")
        try:
            self.model.load_state_dict(section(tensors, "weights"))
            for name, mean in self.average.mean.items():
                mean.copy_(tensors[f"average.{name}"])
            load_optimizers(self.optimizers, section(tensors, "optimizer"))
            self.average.count, self.step = meta["averaged"], meta["step"]
            self.best_epoch, self.best_loss = meta["best_epoch"], meta["best_loss"]
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"checkpoint: it does not fit this model ({error}); delete it to start anew"
            ) from None
        self.best = section(tensors, "best")
        self.history = [
            EpochResult(**{**fields, "load": tuple(fields["load"])}) for fields in meta["history"]
        ]

    def _not_finite(self, batch: Batch, value: float) -> str:
        return (
            f"training: expected a finite loss, got {value} at step {self.step + 1} of "
            f"{self.steps} on {batch.inputs.modality} windows; lower training.learning_rate "
            f"({self.settings.learning_rate}) or look for extreme bars"
        )


def _validate(
    model: Network, data: Mapping[str, MarketData], spread: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return sums over markets of log-loss, accuracy and squared error in spreads; the count."""
    sums = np.zeros(4)
    for market, own in data.items():
        index, ends = model.markets.index(market), spread_evenly(own.split.validation, VALIDATED)
        if not len(ends):
            continue
        found = raw_predictions(model, own, ends, market_index=index)
        y = own.labels.direction[ends].astype(np.float64)
        error = ((found.log_rv - own.labels.log_rv[ends]) / spread[index]) ** 2
        known = np.isfinite(error)
        squared = error[known].mean() if known.any() else 0.0
        hits = ((found.logit > 0) == (y > 0.5)).mean()
        sums += (log_loss(found.logit, y), hits, squared, 1)
    return sums


def _figures(
    loss: Tensor, output: Output, batch: Batch
) -> tuple[float, int, int, npt.NDArray[np.int64]]:
    """Return loss, right calls, calls that could be judged, and windows sent to each expert."""
    up, y = output.logit.detach().cpu().numpy() > 0, batch.direction
    return (
        loss.item(),
        int((up == (y > 0.5))[np.isfinite(y)].sum()),
        int(np.isfinite(y).sum()),
        output.load.sum(0).cpu().numpy(),
    )


def _warm_start(step: int, steps: float) -> float:
    """Return the weight of agreeing with the rule: from 1 to 0 in equal steps."""
    return max(0.0, 1.0 - step / steps) if steps > 0 else 0.0


def _spread(markets: tuple[str, ...], data: Mapping[str, MarketData]) -> Tensor:
    """Return the standard deviation of log RV over each market's training rows (M,)."""
    spread = np.ones(len(markets), np.float32)
    for market, own in data.items():
        values = own.labels.log_rv[own.split.train]
        known = values[np.isfinite(values)].astype(np.float64)
        if known.size > 1 and known.std() > 1e-6:
            spread[markets.index(market)] = known.std()
    return torch.from_numpy(spread)


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Fix threads and algorithms, and put back what was there, the generator included."""
    kept, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # its one attribute is not annotated
    filled = memory.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Every new tensor is written whole before it is read; filling it first takes time and no doubt.
    memory.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(kept)
        torch.use_deterministic_algorithms(strict)
        memory.fill_uninitialized_memory = filled
