"""How weights move: the learning rate of a step, and which weights are drawn towards zero."""

import math
from typing import Any

from torch import nn

__all__ = ["learning_rate", "parameter_groups"]

WARM_UP = 0.1  # share of the steps in which the learning rate rises
FLOOR = 0.02  # the learning rate's end, as a share of its peak
NO_DECAY = ("gate", "scale", "shift", "base")  # besides whatever has one dimension


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a 0-based step: a linear rise, then half a cosine to 2 %."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return peak * (step + 1) / rise
    share = (step - rise) / max(1, steps - rise)
    return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * share)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split trainable weights: scales, shifts, gates, biases and the base are never decayed."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            plain = weight.ndim < 2 or any(word in name for word in NO_DECAY)
            (free if plain else decayed).append(weight)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
