"""Train one network in several processes: each takes a share of every market's windows.

A step's windows follow from (seed, step) as they do in one process; process r of n takes every
n-th of them from the r-th on, so sharding is deterministic and every process has rows of every
market. Gradients are averaged once a step, in one message, after both modalities went back. So n
processes take the steps that one process takes, up to the order of additions.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from atlas.errors import ConfigError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["Accelerator", "average_gradients", "open_fabric", "own_markets", "shard"]

Accelerator = Literal["auto", "cpu", "cuda"]
Positions = npt.NDArray[np.int64]


def open_fabric(accelerator: Accelerator = "cpu", processes: int = 1) -> "Fabric":
    """Return Lightning's Fabric for one process, or join those that torchrun started.

    Args:
        accelerator: `auto` is a CUDA device where torch sees one, else the CPU.
        processes: of this machine; more than one speak over gloo (CPU) or NCCL (CUDA).

    Raises:
        ConfigError: fewer CUDA devices are there than are asked for.
    """
    from lightning.fabric import Fabric  # here: two seconds that only a training should pay

    chosen = accelerator
    if chosen == "auto":
        chosen = "cuda" if torch.cuda.device_count() >= processes else "cpu"
    if chosen == "cuda" and torch.cuda.device_count() < processes:
        raise ConfigError(
            f"training.accelerator: cuda with {processes} process{'es' * (processes > 1)} needs as "
            f"many CUDA devices; torch sees {torch.cuda.device_count()}: set it to auto or cpu"
        )
    if processes == 1:
        return Fabric(accelerator=chosen, devices=1)
    fabric = Fabric(accelerator=chosen, strategy="ddp", devices=processes)
    fabric.launch()
    return fabric


def shard(ends: Mapping[str, Positions], rank: int, processes: int) -> dict[str, Positions]:
    """Return a process's share of a step's windows, as many in each process.

    Where a market's windows do not divide evenly its first ones are taken twice.
    """
    if processes == 1:
        return dict(ends)
    shares = {}
    for market, own in ends.items():
        size = -(-len(own) // processes) * processes
        shares[market] = np.resize(own, size)[rank::processes]
    return shares


def own_markets(markets: tuple[str, ...], rank: int, processes: int) -> frozenset[str]:
    """Return the markets that a process validates; each market is one process's."""
    return frozenset(markets[rank::processes])


def average_gradients(fabric: "Fabric", model: nn.Module) -> None:
    """Replace every gradient by its mean over processes; nothing to do in one process."""
    if fabric.world_size == 1:
        return
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    mean = fabric.all_reduce(flat, reduce_op="mean")
    parts = torch.split(mean, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
