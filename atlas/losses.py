"""What a network is trained on: means over markets, so that no market drowns another.

direction            binary cross-entropy of the logit, rows without a direction left out
volatility           squared error of log RV in units of its market's training spread
load balancing       the model's own, to be minimized
warm start           negative log-likelihood of the rule's expert under the MLP gate's
                     probabilities: the gate first learns to agree with the rule (the seed's
                     "warm start"), then goes its own way
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Losses", "agreement", "direction_loss", "log_rv_loss", "market_sum"]


class Losses(NamedTuple):
    """The parts of one batch's loss; direction and volatility are sums over its markets, ()."""

    direction: Tensor
    volatility: Tensor
    balance: Tensor
    warm_start: Tensor


def market_sum(values: Tensor, known: Tensor, market: Tensor, markets: int) -> Tensor:
    """Return the sum over markets of the mean over a market's known rows.

    Args:
        values: finite where known (B,).
        known: which rows count (B,) bool.
        market: index of each row's market (B,) int64.
        markets: how many there are; those without a known row add 0.
    """
    count = torch.zeros(markets, dtype=values.dtype, device=values.device)
    count.index_add_(0, market, known.to(values.dtype))
    weight = known / count.clamp(min=1.0)[market]
    return (torch.where(known, values, 0.0) * weight).sum()


def direction_loss(logit: Tensor, direction: Tensor, market: Tensor, markets: int) -> Tensor:
    """Return the sum over markets of the mean cross-entropy; NaN directions (B,) are left out."""
    known = torch.isfinite(direction)
    target = torch.where(known, direction, 0.0)
    values = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
    return market_sum(values, known, market, markets)


def log_rv_loss(predicted: Tensor, log_rv: Tensor, spread: Tensor, market: Tensor) -> Tensor:
    """Return the sum over markets of the mean squared error in units of `spread` (M,) squared.

    Rows whose log RV (B,) is NaN are left out.
    """
    known = torch.isfinite(log_rv)
    error = (predicted - torch.where(known, log_rv, 0.0)) / spread[market]
    return market_sum(error**2, known, market, len(spread))


def agreement(gate_probs: Tensor, rule: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the rule's experts.

    Args:
        gate_probs: over the model's experts (B, E).
        rule: column of the rule's expert, −1 where the model lacks it (B,) int64; left out.
    """
    known = rule >= 0
    chosen = gate_probs.gather(1, rule.clamp(min=0)[:, None])[:, 0]
    values = torch.where(known, -torch.log(chosen.clamp(min=1e-8)), 0.0)
    return values.sum() / known.sum().clamp(min=1)
