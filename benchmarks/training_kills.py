"""Kill a training with SIGKILL at random instants and resume it: the same bits in the end?

`python -m benchmarks training_kills` trains on small simulated markets, drawn in memory, with the
checkpoints of the train stage: once undisturbed, then once killed `KILLS` times at instants drawn
over the time that an undisturbed training takes, wherever it then is: in a step, in a validation,
in the writing of a checkpoint. Each child goes on from what the one before it left.
"""

import hashlib
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from atlas.draws import draw_markets
from atlas.moe import build_model
from atlas.parallel import open_fabric
from atlas.training import train
from atlas.training_state import TrainingState
from atlas.windows import MarketData
from benchmarks.balance import configuration
from benchmarks.harness import Ratio, Report, timing
from pipelines import checkpoints

__all__ = ["KILLS", "resumed", "run"]

KILLS = 10
BUDGET = {"epochs": 24, "windows_per_epoch": 256, "batch": 64}
DRAWN = {"train": 600, "validation": 200, "paths": 4}
DIGEST = "digest"
Data = dict[str, MarketData]


def run(seed: int) -> Report:
    """Kill, resume and compare."""
    data = draw_markets(configuration(BUDGET), seed=31, **DRAWN)
    open_fabric()  # imported here, or most kills would meet a child that is still importing
    instants = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "plain"
        assert _child(Path(scratch) / "first", data, seed, None) == 0  # what is compiled once
        begun = time.perf_counter()
        assert _child(plain, data, seed, None) == 0, "the undisturbed training failed"
        whole = time.perf_counter() - begun
        killed = Path(scratch) / "killed"
        steps = resumed(killed, data, seed, [float(u) * whole for u in instants.random(KILLS)])
        same = (plain / DIGEST).read_bytes() == (killed / DIGEST).read_bytes()
    results = [timing("undisturbed", "s", [whole]), timing("step at a kill", "steps", steps)]
    ratios = [
        Ratio("kills", float(len(steps)), float(KILLS)),
        Ratio("the same bits", float(same), 1.0),
    ]
    return Report(results, ratios)


def resumed(folder: Path, data: Data, seed: int, waits: list[float]) -> list[float]:
    """Train in children, each killed after a while and the last left alone.

    A child that ends before its kill begins anew, so that every kill meets a training under way.

    Args:
        folder: for checkpoints and the digest of the weights.
        data: to train on.
        seed: of weights and draws.
        waits: seconds from a child's start to its kill.

    Returns:
        The step of the newest checkpoint at each kill.
    """
    steps = []
    for instant in waits:
        wait = instant
        while not _child(folder, data, seed, wait):  # it came to its end: the next begins anew
            checkpoints.clear(folder / "checkpoints")
            wait = wait / 2
        newest = max((folder / "checkpoints").glob("step-*"), default=None)
        steps.append(float(newest.stem.removeprefix("step-")) if newest else 0.0)
    assert _child(folder, data, seed, None) == 0, "the last training failed"
    return steps


def _child(folder: Path, data: Data, seed: int, wait: float | None) -> int:
    """Train in a fork and kill it after `wait` seconds; return its wait status."""
    child = os.fork()
    if child == 0:
        _train(folder, data, seed)
        os._exit(0)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _train(folder: Path, data: Data, seed: int) -> None:
    config = configuration(BUDGET)
    torch.manual_seed(seed)
    model = build_model(config, variant="moe_mlp")
    kept = folder / "checkpoints"

    def keep(state: TrainingState) -> None:
        checkpoints.save(kept, state, key="kills")

    train(
        model,
        data,
        config.training,
        seed=seed,
        checkpoint=keep,
        resume=checkpoints.load(kept, key="kills"),
    )
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    (folder / DIGEST).write_bytes(total.digest())
