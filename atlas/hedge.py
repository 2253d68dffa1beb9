"""The cross-asset expert: a mixture with one expert more, which sees a basket of other series.

    hidden = body(window) + relu(join(relu(Σ gₑ(sₑ·(W∗basket) + bₑ))))

- Only `inflation_hedge` has scales other than zero over the basket's kernels, and the others' stay
  zero: where the gate gives it no weight, the basket changes nothing.
- The gate sees the basket's fingerprint beside its own, and gives the expert no weight where the
  basket is not known: in another market, before the series overlap, or when one has gone stale.
- `with_hedges` names it in the rule's place where its range of the catalogue holds, so that the
  warm start teaches the gate that range, as it does for the six.

The base and the six experts are those of `moe_mlp`, drawn first from the same seed, so that a table
with and without the expert differs by it alone. Nothing here is built unless params name a basket.
"""

from dataclasses import replace
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.basket_config import HEDGED
from atlas.baskets import Basket, basket_columns
from atlas.catalogue import CROSS_ASSET, EXPERT_IDS, expert_spec
from atlas.config import ATLASConfig
from atlas.errors import ConfigError
from atlas.experts import Expert, Mixture
from atlas.gate import MLPGate, Routing, dense_weights
from atlas.inputs import Inputs
from atlas.kernels.bank import SeriesBank
from atlas.kernels.registry import templates_of
from atlas.moe import AtlasMoE, Network, build_model
from atlas.residual import Standardizer
from atlas.rule import hysteresis
from atlas.windows import MarketData

__all__ = [
    "BasketGate",
    "BasketKernels",
    "BasketReader",
    "HedgedMoE",
    "build_network",
    "with_hedges",
]

_SPEC: Final = CROSS_ASSET[0]
_CODE: Final = len(EXPERT_IDS)  # the expert's index behind the six, where a rule names it
_PLACE: Final = "basket"
_NEWEST: Final = ("last_return", "gap")  # shared blocks: what one series tells of the next bar
_EDGE: Final = 4  # newest bars at which the basket's kernels answer


class BasketKernels(nn.Module):
    """The expert's own 1-D kernels and two shared blocks, on each line of a basket."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        chosen = {*_SPEC.kernels, *_NEWEST}
        own = [row for row in templates_of("series") if row.owner in chosen]
        self.series = SeriesBank(own, _EDGE)
        self.owners = lines * 2 * self.series.owners

    def forward(self, lines: Tensor) -> Tensor:
        """Return responses (B, L·2D, P) of lines (B, L, T)."""
        responses: Tensor = self.series(lines.flatten(0, 1))  # (B·L, 2D, P)
        return responses.reshape(-1, len(self.owners), _EDGE)


class BasketReader(nn.Module):
    """Adds what the mixed rows make of a basket to the hidden vectors of its windows."""

    def __init__(self, responses: int, hidden: int) -> None:
        super().__init__()
        self.join = nn.Linear(responses * _EDGE, hidden, bias=False)  # nothing seen adds nothing

    def forward(self, hidden: Tensor, inputs: Inputs, mixture: Mixture) -> Tensor:
        """Return hidden vectors (B, hidden) of charts."""
        seen = functional.relu(mixture.respond(_PLACE, inputs.basket))  # (B, L·2D, P)
        return hidden + functional.relu(self.join(seen.flatten(1)))


class BasketGate(MLPGate):
    """The learned gate, fed with a basket's fingerprint too.

    Args:
        features: of a window and its basket; the last one is 1 where the basket is unknown.
        experts: E, the cross-asset expert last.
        k: experts per window.
    """

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return the softmax over allowed experts, the last one's 0 where it has no basket."""
        last = torch.arange(len(allowed), device=allowed.device) == len(allowed) - 1
        blind = (features[:, -1:] > 0) & last  # (B, E)
        gate_logits: Tensor = self.layers(features)
        return gate_logits.masked_fill(~allowed | blind, -torch.inf).softmax(1)


class HedgedMoE(AtlasMoE):
    """A mixture with the cross-asset expert as its last.

    Args:
        plain: the mixture without it; its trunk and experts are taken over and must not be used
            any more.
        columns: of a basket's fingerprint.
    """

    def __init__(self, plain: AtlasMoE, columns: int) -> None:
        trunk, hidden = plain.trunk, plain.trunk.body.deepen.out_features
        kernels = BasketKernels(lines=2 * (columns - 1))
        trunk.dictionary.add_module(_PLACE, kernels)
        trunk.reader = BasketReader(len(kernels.owners), hidden)
        owners = {place: trunk.dictionary.owners[place] for place in ("series", "chart")}
        experts = {name: cast(Expert, expert) for name, expert in plain.experts.items()}
        for name, expert in experts.items():
            if expert_spec(name).modality == "chart":
                _blind(expert, len(kernels.owners))
        experts[_SPEC.id] = Expert({**owners, _PLACE: kernels.owners}, hidden, _SPEC.kernels)
        width = Standardizer().width + columns + 1
        super().__init__(
            trunk,
            experts,
            BasketGate(width, len(experts), plain.gate.k),
            plain.markets,
            modality_of={name: expert_spec(name).modality for name in experts},
            balance=(plain.balance_kind, plain.balance_weight),
        )
        self.basket_columns = columns
        known = plain.columns_of_rule[:-1].tolist()
        self.columns_of_rule = torch.tensor([*known, len(experts) - 1, -1])

    def deep(self, inputs: Inputs, features: Tensor) -> tuple[Tensor, Routing]:
        """As `AtlasMoE.deep`; the gate sees the basket's fingerprint too."""
        named = self.rule_columns(inputs.rule)
        allowed = self.get_buffer(f"allowed_{inputs.modality}")
        is_served = (named >= 0) & allowed[named]
        named = named.where(is_served, self._default(inputs.modality))
        seen = torch.cat([features, self._of_basket(inputs)], 1)
        routing: Routing = self.gate(seen, named, allowed)
        return self.mixed(inputs, features, dense_weights(routing)), routing

    def _of_basket(self, inputs: Inputs) -> Tensor:
        """Return a basket's fingerprint (B, G' + 1), 0 where unknown, its missing flag last."""
        raw: Tensor = inputs.basket_fingerprint
        if inputs.modality != "chart":
            return functional.pad(raw, (self.basket_columns, 1), value=1.0)
        missing = raw[:, :1].isnan().to(raw.dtype)
        return torch.cat([raw.nan_to_num(), missing], 1)


def build_network(config: ATLASConfig, *, variant: str) -> Network:
    """Build a network of the table, as `build_model` does, the hedged one included.

    Raises:
        ConfigError: the variant is unknown, or asks for a basket or a gate that params lack.
    """
    if variant != HEDGED:
        return build_model(config, variant=variant)
    if config.basket is None:
        raise ConfigError(f"variant {HEDGED!r}: expected a block basket: in params; got none")
    plain = build_model(config, variant="moe_mlp")
    if not isinstance(plain, AtlasMoE) or not plain.gate_learns or config.moe.bank == "expert":
        raise ConfigError(
            f"variant {HEDGED!r}: expected moe.enabled, two experts or more, and moe.bank: "
            f"dictionary; got {list(plain.expert_ids)} with bank {config.moe.bank!r}: mend moe, or "
            "leave the basket out"
        )
    return HedgedMoE(plain, len(basket_columns(tuple(config.basket.series))))


def with_hedges(own: MarketData, basket: Basket) -> MarketData:
    """Return the market with a basket beside its bars, and the expert named where its range holds.

    The verdict is steadied as the rule's are (`atlas.rule.hysteresis`), and never names the expert
    at a bar whose basket is unknown.
    """
    panel = own.panel
    named = dict(zip(basket_columns(basket.names), basket.fingerprint.T, strict=True))
    holds = np.all([limit.holds(named[limit.column]) for limit in _SPEC.ranges], axis=0)
    holds &= _SPEC.is_home(panel.timeframe.seconds)
    spans = zip(panel.offsets[:-1], panel.offsets[1:], strict=True)
    steady = np.concatenate([hysteresis(holds[a:b].astype(np.int8)) for a, b in spans])
    hedges = (steady > 0) & np.isfinite(basket.fingerprint[:, 0])
    rule = np.where(hedges, np.int8(_CODE), panel.rule).astype(np.int8)
    return replace(own, panel=replace(panel, basket=basket, rule=rule))


def _blind(expert: Expert, responses: int) -> None:
    """Give an expert a row over the basket that is zero and stays so."""
    for row in (expert.scale, expert.shift):
        row[_PLACE] = nn.Parameter(torch.zeros(responses), requires_grad=False)
