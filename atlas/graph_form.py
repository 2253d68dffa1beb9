"""A mixture in the form that its ONNX graph is traced from: the same answers, fewer operators.

At batch 1 a graph's time is that of starting its operators. Training weighs the rows of all
experts, which suits a batch and its gradients; a graph takes the k chosen rows from one table:

- the modality's mask lies in the gate's last biases, and the weights are the softmax of the k
  largest logits, which is the softmax over all, cut to k and made to sum to 1;
- scales and shifts of every place are columns of that table beside the experts' own weights, so
  that one product mixes all of them, in shapes that broadcast without being laid out again.

Experts with banks of their own, and the cross-asset expert, keep the form that they train in.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.ensemble import Ensemble
from atlas.experts import Dictionary, DictionaryPlace, Expert
from atlas.gate import MLPGate, Routing, RuleGate
from atlas.inputs import Inputs
from atlas.moe import AtlasMoE, Network
from atlas.trunk import SKIPS

__all__ = ["GraphMoE", "graph_form"]


def graph_form(network: Network) -> Network:
    """Return a network of the same tensors and answers that traces to fewer operators.

    One that has no such form is returned as it is; of an ensemble every member is looked at.
    """
    if isinstance(network, Ensemble):
        members = [member for member in network.members if isinstance(member, Network)]
        return Ensemble([graph_form(member) for member in members])
    shared = type(network) is AtlasMoE and not any(
        expert.dictionary is not None for expert in network.experts.values()
    )
    return GraphMoE(cast(AtlasMoE, network)) if shared else network


class GraphMoE(AtlasMoE):
    """A mixture over a shared dictionary, mixed from a table of rows.

    What the experts add is (B, 1, 2) here, as their product leaves it, from `deep` to `added`.

    Args:
        network: whose tensors it shares.
    """

    def __init__(self, network: AtlasMoE) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(network.__dict__)

    def deep(self, inputs: Inputs, features: Tensor) -> tuple[Tensor, Routing]:
        """As `AtlasMoE.deep`."""
        allowed = self.get_buffer(f"allowed_{inputs.modality}")
        table = self._table(inputs.modality)
        if isinstance(self.gate, MLPGate):
            # The base reads the same numbers: they are laid side by side once.
            seen = torch.cat([inputs.skip, features], 1)
            routing = _chosen(self.gate, seen, allowed, SKIPS[inputs.modality])
        else:
            named = self.columns_of_rule
            is_served = (named >= 0) & allowed[named]
            column = named.where(is_served, self._default(inputs.modality))[inputs.rule.long()]
            routing = self.gate(features, column, allowed)
            if isinstance(self.gate, RuleGate):  # one row has all weight
                return self._answer(inputs, features, table[:, None][column]), routing
        rows = functional.embedding(routing.expert_ids, table)  # (B, K, N)
        return self._answer(inputs, features, routing.expert_weights[:, None] @ rows), routing

    def mixed(self, inputs: Inputs, features: Tensor, weights: Tensor) -> Tensor:
        """As `AtlasMoE.mixed`."""
        return self._answer(inputs, features, weights[:, None] @ self._table(inputs.modality))

    def added(self, inputs: Inputs, features: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """As `Network.added`, of what the experts add (B, 1, 2)."""
        market = inputs.market.long()
        scaled = self.calibration.alpha[:, None][market] * deep  # (B, 1, 2)
        direction, volatility = torch.split(scaled, [1, 1], 2)
        seen = torch.cat([inputs.skip, features], 1)
        return (
            self.base.logit(seen, market, inputs.modality) + direction.reshape(-1),
            self.base.log_rv(inputs.har, seen, market, inputs.modality) + volatility.reshape(-1),
        )

    def _table(self, modality: str) -> Tensor:
        """Return a row an expert (E, N): scales and shifts by place, then its own weight.

        Experts of another modality have rows of zeros: whatever weight they get adds nothing.
        """
        own = self.columns[modality]
        rows = [_row(self._expert(column)) for column in own]
        nothing = torch.zeros_like(rows[0])
        filled = [rows[own.index(e)] if e in own else nothing for e in range(len(self.expert_ids))]
        is_own = torch.eye(len(filled), device=nothing.device)[:, own]  # (E, Em)
        return torch.cat([torch.stack(filled), is_own], 1)

    def _answer(self, inputs: Inputs, features: Tensor, mixed: Tensor) -> Tensor:
        """Return what the experts add (B, 1, 2) under a mixed row of the table (B, 1, N)."""
        own = self.columns[inputs.modality]
        experts = [self._expert(column) for column in own]
        scale = experts[0].scale
        widths = [len(row) for row in scale.values() for _ in ("scale", "shift")]
        *parts, weights = torch.split(mixed, [*widths, len(own)], 2)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        rows = _GraphRows(self.trunk.dictionary, dict(zip(scale, pairs, strict=True)))
        hidden = self.trunk(inputs, rows, features)
        slopes = torch.cat([expert.head.weight for expert in experts])  # (2·Em, hidden)
        biases = torch.cat([expert.head.bias for expert in experts])
        heads = functional.linear(hidden, slopes, biases).reshape(-1, len(own), 2)
        return torch.matmul(weights, heads)


class _GraphRows(NamedTuple):
    """A dictionary with the mixed row that weighs it; answers as `atlas.experts.Mixture`.

    Attributes:
        dictionary: shared.
        rows: scales and shifts by place, (B, 1, D) each.
    """

    dictionary: Dictionary
    rows: Mapping[str, tuple[Tensor, Tensor]]

    def respond(self, place: DictionaryPlace, x: Tensor) -> Tensor:
        """Return the mixed responses (B, D, …) to an input of that place, before any ReLU."""
        response = self.dictionary.get_submodule(place)(x)  # (B, D, …)
        scale, shift = self.rows[place]
        if response.ndim == 3:  # the bank's own transpose meets this one, and both go
            return cast(Tensor, (response.transpose(1, 2) * scale + shift).transpose(1, 2))
        spread = (-1, len(self.dictionary.owners[place]), *(1,) * (response.ndim - 2))
        return cast(Tensor, response * scale.reshape(spread) + shift.reshape(spread))


def _row(expert: Expert) -> Tensor:
    """Return an expert's scales and shifts, place by place."""
    pairs = zip(expert.scale.values(), expert.shift.values(), strict=True)
    return torch.cat([part for pair in pairs for part in pair])


def _chosen(gate: MLPGate, seen: Tensor, allowed: Tensor, unread: int) -> Routing:
    """As `MLPGate.forward`, without the mask, the sum and the division.

    Args:
        gate: learned.
        seen: (B, D' + G'), its features behind D' numbers that it does not read.
        allowed: (E,) bool.
        unread: D'.
    """
    first, *hidden, last = gate.layers
    first, last = cast(nn.Linear, first), cast(nn.Linear, last)
    nothing = first.weight.new_zeros(first.out_features, unread)
    found = functional.linear(seen, torch.cat([nothing, first.weight], 1), first.bias)
    for layer in hidden:
        found = layer(found)
    weight, bias = last.weight * allowed[:, None], last.bias.masked_fill(~allowed, -torch.inf)
    gate_logits = functional.linear(found, weight, bias)  # (B, E)
    experts = int(allowed.sum())
    top, ids = gate_logits.topk(experts if gate.explores else min(gate.k, experts), 1)
    return Routing(gate_logits.softmax(1), top.softmax(1), ids)
