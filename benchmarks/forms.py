"""The forms that the seed's open question compares: what an expert owns, and who answers.

- `dictionary`: kernels are shared, an expert owns a row of scales; rows are mixed (the default).
- `answers`: `moe.bank: expert`. Every expert's kernels answer, their answers are mixed.
- `kernels`: CondConv (Yang et al., 2019). Every expert owns kernels; a window's gate weights mix
  them into one set, which is applied once. Rows are mixed as in the dictionary.
- `discrete`: every expert is a whole network, trunk and all; a window is handed to its top k alone
  and their outputs are mixed (Shazeer et al., 2017).

The last two live here and not in the library: they are what it was measured against. All take the
same gate, the same base and the same training.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.catalogue import expert_spec
from atlas.config import ATLASConfig
from atlas.experts import KERNEL_GAIN, Dictionary, DictionaryPlace, Expert, Mixture, one_mixture
from atlas.inputs import Inputs
from atlas.moe import AtlasMoE, Network, build_model
from atlas.trunk import Trunk

__all__ = ["FORMS", "CondConvMoE", "DiscreteMoE", "alone", "build_form", "taken"]

FORMS = ("dictionary", "answers", "kernels", "discrete")


class KernelMixture(NamedTuple):
    """One set of kernels for each window, mixed from several dictionaries; answers as `Mixture`.

    Attributes:
        dictionaries: one an expert, E of them.
        weights: (B, E).
        scale, shift: by place, (B, D).
    """

    dictionaries: Sequence[Dictionary]
    weights: Tensor
    scale: Mapping[str, Tensor]
    shift: Mapping[str, Tensor]

    def respond(self, place: DictionaryPlace, x: Tensor) -> Tensor:
        """Return the responses (B, D, …) of each window's own kernels, before any ReLU."""
        stack: list[Any] = [dictionary.get_submodule(place) for dictionary in self.dictionaries]
        own = torch.stack([bank.kernels() for bank in stack])  # (E, D, …)
        mixed = torch.unflatten(self.weights @ own.flatten(1), 1, own.shape[1:])  # (B, D, …)
        response = stack[0](x, mixed) if place == "series" else _on_charts(x, mixed)
        spread = (..., *(None,) * (response.ndim - 2))
        return response * self.scale[place][spread] + self.shift[place][spread]


class CondConvMoE(AtlasMoE):
    """A mixture whose gate mixes kernels, not answers; one expert alone is a plain row."""

    def _mixture(self, experts: Sequence[Expert], weights: Tensor) -> Mixture | KernelMixture:  # type: ignore[override]
        if len(experts) == 1:
            return one_mixture(self.trunk.dictionary, experts[0])
        places = tuple(experts[0].scale)
        scale = {p: weights @ torch.stack([e.scale[p] for e in experts]) for p in places}
        shift = {p: weights @ torch.stack([e.shift[p] for e in experts]) for p in places}
        own = [expert.dictionary for expert in experts if expert.dictionary is not None]
        return KernelMixture(own, weights, scale, shift)


class DiscreteMoE(AtlasMoE):
    """A mixture of whole networks, each of which sees only the windows that are sent to it."""

    def __init__(self, parts: Mapping[str, AtlasMoE], like: AtlasMoE) -> None:
        experts = {expert_id: part.experts[expert_id] for expert_id, part in parts.items()}
        super().__init__(
            like.trunk,
            {expert_id: e for expert_id, e in experts.items() if isinstance(e, Expert)},
            like.gate,
            like.markets,
            modality_of={expert_id: expert_spec(expert_id).modality for expert_id in parts},
            balance=(like.balance_kind, like.balance_weight),
        )
        self.trunk = next(iter(parts.values())).trunk  # the first expert's own, not another
        self.trunks = nn.ModuleDict({expert_id: part.trunk for expert_id, part in parts.items()})

    def mixed(self, inputs: Inputs, features: Tensor, weights: Tensor) -> Tensor:
        """As `AtlasMoE.mixed`, each expert on its own windows."""
        total = features.new_zeros(len(features), 2)
        for column in self.columns[inputs.modality]:
            rows = weights[:, column].nonzero()[:, 0]
            if not len(rows):
                continue
            expert, trunk = self._expert(column), self.trunks[self.expert_ids[column]]
            assert isinstance(trunk, Trunk)
            mixture = one_mixture(trunk.dictionary, expert)
            hidden = trunk(taken(inputs, rows), mixture, features[rows])
            added = weights[rows, column, None] * expert.head(hidden)
            total = total.index_add(0, rows, added)
        return total


def build_form(form: str, config: ATLASConfig) -> Network:
    """Build a form of the MLP mixture, weights drawn from torch's global generator."""
    moe = config.moe
    bank = "dictionary" if form in ("dictionary", "discrete") else "expert"
    settings = config.model_copy(update={"moe": moe.model_copy(update={"bank": bank})})
    built = build_model(settings, variant="moe_mlp")
    assert isinstance(built, AtlasMoE)
    if form == "kernels":
        experts = {i: e for i, e in built.experts.items() if isinstance(e, Expert)}
        return CondConvMoE(
            built.trunk,
            experts,
            built.gate,
            built.markets,
            modality_of={expert_id: expert_spec(expert_id).modality for expert_id in experts},
            balance=(built.balance_kind, built.balance_weight),
        )
    if form == "discrete":
        return DiscreteMoE({i: alone(settings, i) for i in moe.experts}, built)
    return built


def taken(inputs: Inputs, rows: Tensor) -> Inputs:
    """Return the windows of a batch at `rows`, positions or a mask."""
    fields = (field[rows] if len(field) else field for field in inputs[1:])  # no basket: no rows
    return Inputs(inputs.modality, *fields)


def alone(config: ATLASConfig, expert_id: str) -> AtlasMoE:
    """Build the network of one expert, as `moe.experts: [expert_id]` would."""
    moe = config.moe.model_copy(update={"experts": (expert_id,)})
    built = build_model(config.model_copy(update={"moe": moe}), variant="moe_rule")
    assert isinstance(built, AtlasMoE)
    return built


def _on_charts(plane: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each plane (B, 1, 8, 16) with its own kernels (B, D, 7, 9), padded causally."""
    columns = functional.unfold(functional.pad(plane, (8, 0, 3, 3)), kernels.shape[2:])
    responses = kernels.flatten(2) @ columns  # (B, D, 8·16)
    return KERNEL_GAIN * torch.unflatten(responses, 2, plane.shape[2:])
