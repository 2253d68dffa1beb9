"""Gates: which experts see a window, and how evenly they are used.

- Every gate is a module with one call and returns a `Routing`. A window is only ever routed to
  experts of its modality: k = min(k, experts left).
- The balancing losses are to be *minimized* and are zero when experts are used evenly. The seed's
  λ·H(softmax) *added* to a loss would reward collapse; here it enters as log E − H(batch mean).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = [
    "Gate",
    "MLPGate",
    "RandomGate",
    "Routing",
    "RuleGate",
    "UniformGate",
    "dense_weights",
    "entropy_balance",
    "expert_load",
    "route",
    "switch_balance",
]


class Routing(NamedTuple):
    """Where each window of a batch goes.

    Attributes:
        gate_probs: (B, E) over all of the model's experts, 0 outside the window's modality.
        expert_weights: (B, K), sum 1.
        expert_ids: (B, K) columns of `gate_probs`, int64.
    """

    gate_probs: Tensor
    expert_weights: Tensor
    expert_ids: Tensor


def route(gate_probs: Tensor, allowed: Tensor, k: int) -> Routing:
    """Keep the k most probable experts of a modality and make their weights sum to 1.

    Args:
        gate_probs: (B, E), positive somewhere within `allowed`, 0 outside.
        allowed: (E,) bool, the experts of the window's modality.
        k: at most as many as are allowed.
    """
    chosen = gate_probs.masked_fill(~allowed, -1.0)
    weights, ids = torch.topk(chosen, k, dim=1)
    return Routing(gate_probs, weights / weights.sum(1, keepdim=True), ids)


def dense_weights(routing: Routing) -> Tensor:
    """Return expert weights (B, E), 0 for experts that were not chosen."""
    empty = torch.zeros_like(routing.gate_probs)
    return empty.scatter(1, routing.expert_ids, routing.expert_weights)


def expert_load(routing: Routing, market: Tensor, markets: int) -> Tensor:
    """Return how many windows of each market each expert answers, (M + 1, E) int64.

    Args:
        routing: of a batch.
        market: (B,) index into the model's markets, −1 if unknown to it: the last row.
        markets: M.
    """
    answers = (dense_weights(routing) > 0).long()  # (B, E)
    load = answers.new_zeros(markets + 1, answers.shape[1])
    return load.index_add(0, market.remainder(markets + 1), answers)


class Gate(nn.Module):
    """Maps a batch of one modality to its routing; a subclass says the probabilities.

    While `explores` is set every expert of the modality is kept, not k of them. Of two experts that
    share their windows only those that are asked can learn to differ; rows are mixed before the
    nonlinearity, so asking all costs no second convolution.
    """

    is_learned = False
    explores = False

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:
        """Return gate_probs (B, E), 0 where not allowed; arguments as for `forward`."""
        raise NotImplementedError

    def forward(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Routing:
        """Route a batch.

        Args:
            features: (B, G) standardized fingerprint with its missing flags.
            rule: (B,) column of the expert that the rule (or an oracle) names, within `allowed`.
            allowed: (E,) bool, the experts of the batch's modality, at least one.
        """
        probs = self.probabilities(features, rule, allowed)
        experts = int(allowed.sum())
        return route(probs, allowed, experts if self.explores else min(self.k, experts))


class RuleGate(Gate):
    """Version 0: all weight on the expert that the inputs' `rule` names.

    Given the true law's expert there instead, it is the oracle gate of the ablation.
    """

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:
        """Return one-hot rows."""
        one_hot: Tensor = nn.functional.one_hot(rule, len(allowed))
        return one_hot.to(features.dtype)


class MLPGate(Gate):
    """Version 1, learned: features → 64 → 32 → E, softmax over the modality's experts."""

    is_learned = True

    def __init__(self, features: int, experts: int, k: int) -> None:
        super().__init__(k)
        self.layers = nn.Sequential(
            nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, experts)
        )

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return the softmax over allowed experts."""
        gate_logits: Tensor = self.layers(features)  # (B, E)
        return gate_logits.masked_fill(~allowed, -torch.inf).softmax(1)


class UniformGate(Gate):
    """The ablation in which every expert of the modality has the same weight, whatever k is."""

    def __init__(self, experts: int) -> None:
        super().__init__(k=experts)

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return 1 / (experts allowed) for each."""
        even = allowed.to(features.dtype) / allowed.sum()
        return even.expand(features.shape[0], -1)  # a traced graph keeps shape[0] free, not len()


class RandomGate(Gate):
    """The ablation that routes by a hash of the row: fixed for a window, and telling nothing.

    Args:
        k: experts per window.
        seed: another seed routes the same windows elsewhere.
    """

    def __init__(self, k: int, seed: int = 1) -> None:
        super().__init__(k)
        self.seed = seed

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return a softmax over hashed scores."""
        # A hundred-thousandth of a standard deviation is enough to tell rows apart.
        digits = (features.double() * 1e5).round().long()  # (B, G)
        state = torch.full_like(digits[:, 0], self.seed)
        for column in digits.unbind(1):
            state = _scrambled(state ^ column)
        salts = torch.arange(1, len(allowed) + 1, device=features.device)
        hashed = _scrambled(_scrambled(state[:, None] + salts * 0x9E3779B1))  # (B, E)
        scores = (hashed & 0xFFFF).to(features.dtype) / 0xFFFF * 4
        return scores.masked_fill(~allowed, -torch.inf).softmax(1)


def entropy_balance(gate_probs: Tensor) -> Tensor:
    """Return log E − H(mean over the batch of gate_probs), in nats, ().

    Args:
        gate_probs: (B, E) over the experts of one modality. 0 when experts are used evenly on
            average, log E when one takes all; minimizing it never asks a single window to be
            undecided. The seed's "λ·H(softmax)" is meant so: λ·H *added* would reward collapse.
    """
    mean = gate_probs.mean(0)
    entropy = -(mean * mean.clamp_min(1e-9).log()).sum()
    return float(np.log(gate_probs.shape[1])) - entropy


def switch_balance(gate_probs: Tensor, k: int) -> Tensor:
    """Return E·Σ f·P − 1 (Fedus et al., 2021), ().

    Args:
        gate_probs: (B, E) over the experts of one modality; P is their mean over the batch.
        k: experts per window; f is the share of the B·k places that an expert takes, without
            gradient. 0 when experts are used evenly.
    """
    experts = gate_probs.shape[1]
    top = gate_probs.topk(min(k, experts), dim=1).indices
    share = nn.functional.one_hot(top, experts).to(gate_probs.dtype).mean((0, 1))
    return experts * (share * gate_probs.mean(0)).sum() - 1


def _scrambled(state: Tensor) -> Tensor:
    # Wang's 32-bit mixer in 64-bit integers, masked so that no product overflows.
    mask = 0xFFFFFFFF
    state = state & mask
    state = ((state ^ 61) ^ (state >> 16)) * 9 & mask
    state = (state ^ (state >> 4)) * 0x27D4EB2D & mask
    return state ^ (state >> 15)
