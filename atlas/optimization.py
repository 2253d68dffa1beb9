"""How weights move: optimizers, the learning rate of a step, which weights are drawn to zero.

An expert's own weights (its scales, shifts and head rows) and the gate may each have an optimizer
and a learning rate of their own, as the tuner found them; the trunk and whatever has none share
one optimizer. The weights of one owner are never split over optimizers, so that each optimizer's
moments are of one kind.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = [
    "OPTIMIZERS",
    "Rule",
    "build_optimizers",
    "clip_gradients",
    "learning_rate",
    "owner_of",
    "parameter_groups",
    "set_rates",
]

WARM_UP = 0.1  # share of the steps in which the learning rate rises
FLOOR = 0.02  # the learning rate's end, as a share of its peak
NO_DECAY = ("gate", "scale", "shift", "base")  # besides whatever has one dimension
SHARED: Final = "shared"
OPTIMIZERS: Final = ("adamw", "nadam", "sgd")
_MOMENTUM = 0.9


class Rule(NamedTuple):
    """How some weights move: one of `OPTIMIZERS`, its peak learning rate, its weight decay."""

    optimizer: str
    learning_rate: float
    weight_decay: float


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a 0-based step: a linear rise, then half a cosine to 2 %."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return peak * (step + 1) / rise
    share = (step - rise) / max(1, steps - rise)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share)))


def set_rates(optimizers: Iterable[Optimizer], step: int, steps: int) -> None:
    """Give every group the learning rate of a 0-based step, each from its own peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, group["peak"])


def owner_of(name: str) -> str:
    """Return whose weight a parameter is, by its name: an expert's id, `gate` or `shared`."""
    first, _, rest = name.partition(".")
    if first == "experts":
        return rest.partition(".")[0]
    return "gate" if first == "gate" else SHARED


def build_optimizers(model: nn.Module, shared: Rule, own: Mapping[str, Rule]) -> list[Optimizer]:
    """Build one optimizer for the shared weights and one for each owner with a rule of its own.

    Args:
        model: its trainable weights are each given to exactly one optimizer.
        shared: for the trunk, and for owners that `own` does not name.
        own: by expert id or `gate`; an owner that the model lacks is passed over.

    Returns:
        The shared optimizer first, then the owners' in the model's order.
    """
    weights: dict[str, list[tuple[str, nn.Parameter]]] = {SHARED: []}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            owner = owner_of(name)
            weights.setdefault(owner if owner in own else SHARED, []).append((name, weight))
    return [_optimizer(own.get(owner, shared), named) for owner, named in weights.items() if named]


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], weight_decay: float
) -> list[dict[str, Any]]:
    """Split trainable weights: scales, shifts, gates, biases and the base are never decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, weight in named:
        if weight.requires_grad:
            plain = weight.ndim < 2 or any(word in name for word in NO_DECAY)
            (free if plain else decayed).append(weight)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def clip_gradients(optimizers: Iterable[Optimizer], limit: float) -> Tensor:
    """Scale all gradients together so that their norm is at most `limit`; return the norm, ()."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    return nn.utils.clip_grad_norm_([w for group in groups for w in group["params"]], limit)


def _optimizer(rule: Rule, named: list[tuple[str, nn.Parameter]]) -> Optimizer:
    groups = parameter_groups(named, rule.weight_decay)
    for group in groups:
        group["peak"] = rule.learning_rate
    if rule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rule.learning_rate, momentum=_MOMENTUM, nesterov=True)
    if rule.optimizer == "nadam":
        return torch.optim.NAdam(groups, lr=rule.learning_rate, decoupled_weight_decay=True)
    return torch.optim.AdamW(groups, lr=rule.learning_rate, fused=True)  # a quarter of the time
