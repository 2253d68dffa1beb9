"""The whole state of a training between two steps, as tensors and JSON-able values.

Saved and loaded exactly, it makes a resumed run end in the same bits: weights, the optimizer's
moments, the running average, the best epoch so far, and the step. There is no random state: what
is random in a step follows from (seed, step) alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atlas.errors import ModelError

__all__ = [
    "TrainingState",
    "WeightAverage",
    "check_same",
    "load_optimizers",
    "optimizer_tensors",
    "section",
]


class TrainingState(NamedTuple):
    """Tensors by dotted name, on the CPU, and a small JSON-able record."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


class WeightAverage:
    """The uniform mean of a model's trainable weights over the steps it was updated at."""

    def __init__(self, model: nn.Module) -> None:
        self.count = 0
        self._weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.mean = {n: torch.zeros_like(p) for n, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the mean."""
        self.count += 1
        for name, weight in self._weights.items():
            self.mean[name].lerp_(weight.detach(), 1.0 / self.count)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights with the mean; a second call exchanges them back."""
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.mean[name])
            self.mean[name].copy_(kept)


def check_same(meta: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Compare what a checkpoint says of its run with the run that is to go on.

    Args:
        meta: of the checkpoint.
        wanted: values by name.
        what: the kind of run, for the message.

    Raises:
        ModelError: naming the first value that differs.
    """
    for name, value in wanted.items():
        if meta.get(name) != value:
            raise ModelError(
                f"checkpoint: expected {name} {value!r}, got {meta.get(name)!r}: "
                f"it is of another {what}; delete it to start anew"
            )


def section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with `name.`, without that start."""
    return {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(f"{name}.")}


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Return the states of optimizers as `<optimizer>.<parameter>.<field>` → copies on the CPU."""
    return {
        f"{place}.{index}.{name}": value.detach().cpu().clone()
        for place, optimizer in enumerate(optimizers)
        for index, fields in optimizer.state_dict()["state"].items()
        for name, value in fields.items()
    }


def load_optimizers(optimizers: Sequence[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned.

    Raises:
        ModelError: the tensors are not of these optimizers.
    """
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    try:
        for key, value in tensors.items():
            place, index, name = key.split(".", 2)
            states[int(place)].setdefault(int(index), {})[name] = value.clone()
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except (ValueError, KeyError, IndexError) as error:
        raise ModelError(f"checkpoint: its optimizer state does not fit: {error}") from None
