"""What the training loop costs beside a bare PyTorch loop, the MoE beside the CNN, two processes.

`python -m benchmarks training` needs a home whose night has been fingerprinted: the project's, or
the one that ATLAS_HOME names.

- bare: forward, losses, backward, AdamW on batches rendered beforehand; the stage draws, renders,
  clips, averages and reports besides.
- Rounds of a few steps run interleaved. Ratios are of process CPU time, which a busy machine
  disturbs less than wall time.
- Two processes each take half of a step: their windows a second of CPU, both together on two
  cores, over those of one process. Waiting for each other is not in it; wall time is shown too.
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from atlas import training
from atlas.base import install_base
from atlas.losses import direction_loss, log_rv_loss
from atlas.moe import build_model
from atlas.optimization import build_optimizers
from atlas.parallel import open_fabric
from atlas.prediction import to_tensors
from atlas.progress import Meter
from atlas.sampling import collate, draw
from atlas.windows import MarketData
from benchmarks.balance import PROJECT, configuration, load
from benchmarks.harness import Ratio, Report, ratio, timing

__all__ = ["run"]

STEPS = 8  # of a round
ROUNDS = 12
BUDGET = {"epochs": 4, "windows_per_epoch": 48_000}  # of params.yaml
Data = dict[str, MarketData]


def run(seed: int) -> Report:
    """Measure the loops in this process, then two processes."""
    data = load(Path(os.environ.get("ATLAS_HOME") or PROJECT))
    batch = configuration().training.batch
    with training.reproducible(1):
        works = {
            "stage moe": _stage("moe_mlp", data, seed),
            "bare moe": _bare("moe_mlp", data, seed),
            "stage cnn": _stage("cnn", data, seed),
        }
        seconds = _interleave(works)
    rates = {name: [STEPS * batch / s for s in own] for name, own in seconds.items()}
    results = [timing(name, "windows/CPU-s", own) for name, own in rates.items()]
    steps = BUDGET["epochs"] * (BUDGET["windows_per_epoch"] // batch)
    minutes = [s / STEPS * steps / 60 for s in seconds["stage moe"]]
    results.append(timing("48,000 windows x 4 epochs", "CPU-min", minutes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    results.append(timing("memory", "GiB", [peak]))
    one, two = _several(1), _several(2)
    results += [timing("one process", "windows/CPU-s", one[0])]
    results += [timing("two processes, each", "windows/CPU-s", two[0])]
    results += [timing("one process, wall", "windows/s", one[1])]
    results += [timing("two processes, wall", "windows/s", two[1])]
    return Report(
        results,
        [
            ratio("over_bare_loop", rates["stage moe"], rates["bare moe"], 0.95),
            ratio("moe_over_cnn_cost", seconds["stage moe"], seconds["stage cnn"], 1.15),
            Ratio("cpu_minutes", float(np.median(minutes)), 4.0),
            Ratio("two_processes_cpu", float(2 * np.median(two[0]) / np.median(one[0])), 1.6),
            Ratio("two_processes_wall", float(np.median(two[1]) / np.median(one[1])), 1.6),
            Ratio("memory_gib", peak, 4.0),
        ],
    )


def _interleave(works: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(ROUNDS):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return seconds


def _run(variant: str, data: Data, seed: int, processes: int = 1) -> "training._Run":
    config = configuration(BUDGET)
    torch.manual_seed(seed)
    model = build_model(config, variant=variant)
    install_base(model, data)
    fabric = open_fabric("cpu", processes)
    return training._Run(model, data, config.training, seed, fabric)


def _stage(variant: str, data: Data, seed: int) -> Callable[[], None]:
    run = _run(variant, data, seed)
    run.step = int(0.8 * run.steps)  # where weights are averaged too
    meter = Meter()

    def work() -> None:
        run.network.train()
        for _ in range(STEPS):
            run._update(meter)
            run.step += 1

    return work


def _bare(variant: str, data: Data, seed: int) -> Callable[[], None]:
    settings = configuration(BUDGET).training
    torch.manual_seed(seed)
    model = build_model(configuration(), variant=variant).train()
    install_base(model, data)
    optimizers = build_optimizers(model, *settings.rules())
    spread = training._spread(model.markets, data)
    drawn = [draw(data, batch=settings.batch, seed=seed, step=step) for step in range(STEPS)]
    batches = [
        [
            (to_tensors(b.inputs), torch.from_numpy(b.direction), torch.from_numpy(b.log_rv))
            for b in collate(data, ends, model.markets)
        ]
        for ends in drawn
    ]

    def work() -> None:
        for parts in batches:
            model.zero_grad()
            for inputs, direction, log_rv in parts:
                output = model(inputs)
                loss = direction_loss(output.logit, direction, inputs.market, len(model.markets))
                error = log_rv_loss(output.log_rv, log_rv, spread, inputs.market)
                total = loss + settings.volatility_weight * error
                (total + model.balance_weight * output.load_balancing_loss).backward()
            for optimizer in optimizers:
                optimizer.step()

    return work


def _several(processes: int) -> tuple[list[float], list[float]]:
    """Return windows per CPU second of a process and windows per second of all, by round."""
    with tempfile.TemporaryDirectory() as folder:
        agent = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            start_method="fork",
        )
        elastic_launch(agent, _one_of)(Path(folder), processes)
        rows = np.concatenate([np.load(path) for path in sorted(Path(folder).glob("*.npy"))])
    return rows[:, 0].tolist(), rows[:, 1].tolist()


def _one_of(folder: Path, processes: int) -> None:
    data = load(Path(os.environ.get("ATLAS_HOME") or PROJECT))
    batch = configuration().training.batch
    with training.reproducible(1):
        run, rows = _run("moe_mlp", data, 1, processes), []
        meter = Meter()
        for _ in range(ROUNDS // 2):
            used, start = time.process_time(), time.perf_counter()
            for _ in range(STEPS):
                run._update(meter)
                run.step += 1
            cpu, wall = time.process_time() - used, time.perf_counter() - start
            rows.append((STEPS * batch / processes / cpu, STEPS * batch / wall))
    np.save(folder / f"{run.fabric.global_rank}.npy", np.array(rows[1:]))
