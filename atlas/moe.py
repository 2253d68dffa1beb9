"""The networks: one plain, one a mixture of experts, both adding to the same base.

    logit  = base logit + α·deep          log_rv = HAR-X + α·deep

`AtlasNet` weighs the dictionary of kernels with one row per modality; `AtlasMoE` mixes the rows of
six experts as its gate says, and is otherwise the same network. `AtlasMoE.merge` folds a fixed
gate into an `AtlasNet`. Because the heads start at zero, either starts as its base.
`build_model` is the one place where a configuration becomes a network.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from atlas.catalogue import DEFAULTS, EXPERT_IDS, expert_spec
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, ModelError
from atlas.experts import Dictionary, Expert, Mixture, one_mixture
from atlas.familiarity import Familiarity
from atlas.gate import (
    Gate,
    MLPGate,
    RandomGate,
    Routing,
    RuleGate,
    UniformGate,
    dense_weights,
    entropy_balance,
    expert_load,
    switch_balance,
)
from atlas.inputs import Inputs
from atlas.residual import Base, Calibration, Standardizer
from atlas.trunk import SKIPS, Trunk

__all__ = ["VARIANTS", "AtlasMoE", "AtlasNet", "Network", "Output", "build_model"]

SERIES_ROW = {"chart": 3, "skew": 1, "butterfly": 2}  # the row that 1-D kernels act on

_GATES = ("rule", "mlp", "uniform", "random", "oracle")
VARIANTS = ("cnn", "cnn_fingerprint", "cnn_1d", *(f"moe_{gate}" for gate in _GATES))


class Output(NamedTuple):
    """What a network says of a batch.

    Attributes:
        logit: of the next move being up (B,), before calibration.
        log_rv: log realised variance (B,).
        routing: where the windows went; a plain network's has E = K = 1.
        load_balancing_loss: (), not yet weighted, 0 for a gate that does not learn.
        load: windows of each market that each expert answers (M + 1, E), as `expert_load` lays it.
    """

    logit: Tensor
    log_rv: Tensor
    routing: Routing
    load_balancing_loss: Tensor
    load: Tensor


class Network(nn.Module):
    """What plain network and mixture have in common: trunk, features, base, calibration.

    Args:
        trunk: shared by all rows.
        markets: in order; an input's `market` indexes them.
        modalities: served; others are refused by name.
    """

    gate_learns = False
    balance_weight = 0.0
    expert_ids: tuple[str, ...] = ()

    def __init__(self, trunk: Trunk, markets: Sequence[str], modalities: Sequence[str]) -> None:
        super().__init__()
        self.trunk = trunk
        self.markets, self.modalities = tuple(markets), tuple(modalities)
        self.standardizers = nn.ModuleDict({m: Standardizer() for m in self.modalities})
        widths = {m: SKIPS[m] + Standardizer().width for m in self.modalities}
        self.base = Base(len(self.markets), widths)
        self.calibration = Calibration(len(self.markets))
        self.familiarity = Familiarity(len(self.markets))

    def describe(self, inputs: Inputs) -> Tensor:
        """Return the raw columns `atlas.residual.DESCRIBED` (B, G), NaN where undefined."""
        columns = [inputs.fingerprint, inputs.log_timeframe[:, None], inputs.vol_ratio[:, None]]
        return torch.cat(columns, 1)

    def features(self, inputs: Inputs) -> Tensor:
        """Return the standardized fingerprint and its missing flags (B, 2G), finite."""
        return cast(Tensor, self.standardizers[inputs.modality](self.describe(inputs)))

    def deep(self, inputs: Inputs, features: Tensor) -> tuple[Tensor, Routing]:
        """Return what the network adds (B, 2) to logit and log RV, and where windows went."""
        raise NotImplementedError

    def balance(self, routing: Routing, modality: str) -> Tensor:
        """Return the load-balancing loss of a batch, ()."""
        del modality
        return routing.gate_probs.new_zeros(())

    def explore(self, on: bool) -> None:
        """Let a gate that learns ask every expert (`atlas.gate.Gate`); others stay as they are."""

    def rule_columns(self, rule: Tensor) -> Tensor:
        """Return the model's column of each expert index (B,), −1 where it has no such expert."""
        return torch.full_like(rule, -1, dtype=torch.long)

    def forward(self, inputs: Inputs) -> Output:
        """Score a batch of one modality.

        Raises:
            ModelError: if the model has no expert of that modality.
        """
        if inputs.modality not in self.modalities:
            served = ", ".join(self.modalities)
            raise ModelError(
                f"a window of modality {inputs.modality!r} came to a model for {served}: leave "
                "its market out, or add an expert for it"
            )
        features = self.features(inputs)
        deep, routing = self.deep(inputs, features)
        logit, log_rv = self.added(inputs, features, deep)
        load = expert_load(routing, inputs.market.long(), len(self.markets))
        return Output(logit, log_rv, routing, self.balance(routing, inputs.modality), load)

    def added(self, inputs: Inputs, features: Tensor, deep: Tensor) -> tuple[Tensor, Tensor]:
        """Return logit and log RV (B,): the base, and what the network adds (B, 2) times α."""
        market = inputs.market.long()
        scaled = self.calibration.alpha[market] * deep  # (B, 2)
        seen = torch.cat([inputs.skip, features], 1)
        return (
            self.base.logit(seen, market, inputs.modality) + scaled[:, 0],
            self.base.log_rv(inputs.har, seen, market, inputs.modality) + scaled[:, 1],
        )

    def base_outputs(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return what the base alone says, logit and log RV (B,)."""
        features = self.features(inputs)
        return self.added(inputs, features, features.new_zeros(len(features), 2))

    def unlike(self, inputs: Inputs) -> Tensor:
        """Say which fingerprints are unlike the training set of their market, (B,) bool."""
        return self.familiarity.unlike(self.describe(inputs), inputs.market)

    def probability(self, output: Output, market: Tensor) -> Tensor:
        """Return calibrated P(up) (B,); `market` (B,) indexes `markets`, −1 if unknown."""
        return self.calibration.probability(output.logit, market.long())


class AtlasNet(Network):
    """The plain network: one row and one head per modality."""

    def __init__(self, trunk: Trunk, rows: Mapping[str, Expert], markets: Sequence[str]) -> None:
        super().__init__(trunk, markets, tuple(rows))
        self.rows = nn.ModuleDict(rows)

    def deep(self, inputs: Inputs, features: Tensor) -> tuple[Tensor, Routing]:
        """Return what the network adds (B, 2); its routing is the one row."""
        row = cast(Expert, self.rows[inputs.modality])
        hidden = self.trunk(inputs, one_mixture(self.trunk.dictionary, row), features)
        one = hidden.new_ones(len(hidden), 1)
        return row.head(hidden), Routing(one, one, torch.zeros_like(one, dtype=torch.long))


class AtlasMoE(Network):
    """The mixture: experts' rows mixed by a gate before the nonlinearity.

    Args:
        trunk: shared.
        experts: by id, in the order of the gate's columns.
        gate: routes the windows.
        markets: of the model.
        balance: kind and weight of the load-balancing loss.
    """

    columns_of_rule: Tensor

    def __init__(
        self,
        trunk: Trunk,
        experts: Mapping[str, Expert],
        gate: Gate,
        markets: Sequence[str],
        *,
        modality_of: Mapping[str, str],
        balance: tuple[str, float] = ("entropy", 0.0),
    ) -> None:
        by_modality: dict[str, list[int]] = {}
        for column, expert_id in enumerate(experts):
            by_modality.setdefault(modality_of[expert_id], []).append(column)
        super().__init__(trunk, markets, tuple(by_modality))
        self.experts, self.gate = nn.ModuleDict(experts), gate
        self.expert_ids, self.columns = tuple(experts), by_modality
        self.balance_kind, self.balance_weight = balance
        self.gate_learns = gate.is_learned and len(experts) > 1
        columns = [self.expert_ids.index(i) if i in experts else -1 for i in EXPERT_IDS]
        columns.append(-1)  # index −1: the rule is not known
        self.register_buffer("columns_of_rule", torch.tensor(columns), persistent=False)
        for modality, own in by_modality.items():
            allowed = torch.zeros(len(experts), dtype=torch.bool)
            allowed[own] = True
            self.register_buffer(f"allowed_{modality}", allowed, persistent=False)

    def rule_columns(self, rule: Tensor) -> Tensor:
        """As `Network.rule_columns`."""
        return self.columns_of_rule[rule.long()]

    def explore(self, on: bool) -> None:
        """As `Network.explore`."""
        self.gate.explores = on and self.gate_learns

    def deep(self, inputs: Inputs, features: Tensor) -> tuple[Tensor, Routing]:
        """Return what the network adds (B, 2), and where the windows went."""
        named = self.rule_columns(inputs.rule)
        allowed = self.get_buffer(f"allowed_{inputs.modality}")
        default = self._default(inputs.modality)
        is_served = (named >= 0) & allowed[named]
        routing: Routing = self.gate(features, named.where(is_served, default), allowed)
        return self.mixed(inputs, features, dense_weights(routing)), routing

    def mixed(self, inputs: Inputs, features: Tensor, weights: Tensor) -> Tensor:
        """Return what the experts add (B, 2) under weights (B, E), whoever chose them."""
        own = self.columns[inputs.modality]
        weights = weights[:, own]  # (B, Em)
        experts = [self._expert(column) for column in own]
        hidden = self.trunk(inputs, self._mixture(experts, weights), features)
        # One product for all heads: at batch 1 the number of operations is what bounds.
        slopes = torch.cat([expert.head.weight for expert in experts])  # (2·Em, hidden)
        biases = torch.cat([expert.head.bias for expert in experts])
        heads = nn.functional.linear(hidden, slopes, biases).reshape(-1, len(own), 2)
        return (weights[:, :, None] * heads).sum(1)

    def balance(self, routing: Routing, modality: str) -> Tensor:
        """Return the load-balancing loss of a batch over its modality's experts, ()."""
        own = self.columns[modality]
        if not self.gate_learns or len(own) == 1:
            return routing.gate_probs.new_zeros(())
        probs = routing.gate_probs[:, own]
        if self.balance_kind == "switch":
            return switch_balance(probs, self.gate.k)
        return entropy_balance(probs)

    def merge(self, gate: Mapping[str, float]) -> AtlasNet:
        """Fold a fixed gate into a plain network with the same output.

        Args:
            gate: weight by expert id, at least 0; made to sum to 1 within each modality.

        Returns:
            A network that shares no tensor with this one.

        Raises:
            ModelError: if a modality gets no weight, or experts own whole banks.
        """
        rows = {m: self._merged(own, gate) for m, own in self.columns.items()}
        trunk = copy.deepcopy(self.trunk)
        merged = AtlasNet(trunk, rows, self.markets)
        shared = {k: v for k, v in self.state_dict().items() if k in merged.state_dict()}
        merged.load_state_dict({**merged.state_dict(), **shared})
        return merged

    def _merged(self, own: Sequence[int], gate: Mapping[str, float]) -> Expert:
        weights = torch.tensor([float(gate.get(self.expert_ids[c], 0.0)) for c in own])
        experts = [self._expert(column) for column in own]
        if any(expert.dictionary is not None for expert in experts):
            raise ModelError("merge: expected moe.bank: dictionary, got experts with own banks")
        if weights.min() < 0 or not 0 < weights.sum() < torch.inf:
            names = ", ".join(self.expert_ids[column] for column in own)
            raise ModelError(
                f"merge: expected weights >= 0, one above 0, among {names}; got {gate}"
            )
        states, merged = [expert.state_dict() for expert in experts], copy.deepcopy(experts[0])
        merged.load_state_dict(
            {
                name: torch.tensordot(
                    weights / weights.sum(), torch.stack([s[name] for s in states]), 1
                )
                for name in states[0]
            }
        )
        return merged

    def _expert(self, column: int) -> Expert:
        expert = self.experts[self.expert_ids[column]]
        assert isinstance(expert, Expert)
        return expert

    def _default(self, modality: str) -> int:
        own = self.columns[modality]
        named = [column for column in own if self.expert_ids[column] == DEFAULTS[modality]]
        return (named or own)[0]

    def _mixture(self, experts: Sequence[Expert], weights: Tensor) -> Mixture:
        places = tuple(experts[0].scale)
        rows = [torch.stack([expert.scale[p] for expert in experts]) for p in places]  # (Em, D)
        rows += [torch.stack([expert.shift[p] for expert in experts]) for p in places]
        widths = [row.shape[1] for row in rows]
        mixed = torch.split(weights @ torch.cat(rows, 1), widths, 1)
        shift = dict(zip(places, mixed[len(places) :], strict=True))
        banks = [expert.dictionary for expert in experts if expert.dictionary is not None]
        if not banks:
            scale = dict(zip(places, mixed, strict=False))
            return Mixture([self.trunk.dictionary], [scale], shift)
        own = [
            {place: weights[:, [e]] * expert.scale[place] for place in places}
            for e, expert in enumerate(experts)
        ]
        return Mixture(banks, own, shift)


def build_model(config: ATLASConfig, *, variant: str | None = None) -> Network:
    """Build the network of a configuration, weights drawn from torch's global generator.

    Args:
        config: markets, `moe:` and widths.
        variant: one of `VARIANTS`; None follows `config.moe`.

    Raises:
        ConfigError: if the variant is unknown.
    """
    if variant is not None and variant not in VARIANTS:
        raise ConfigError(f"variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    if variant in ("cnn", "cnn_fingerprint", "cnn_1d"):
        sees_features, is_drawn = variant == "cnn_fingerprint", variant != "cnn_1d"
        return _plain(config, sees_features=sees_features, is_drawn=is_drawn)
    return _mixed(config, variant[4:] if variant else config.moe.gate)


def _plain(config: ATLASConfig, *, sees_features: bool, is_drawn: bool) -> AtlasNet:
    modalities = tuple(dict.fromkeys(market.modality for market in config.markets.values()))
    features = Standardizer().width if sees_features else 0
    trunk = _trunk(config, modalities, features, is_drawn=is_drawn)
    rows = {
        str(modality): Expert(_owners(trunk, modality), config.model.hidden)
        for modality in modalities
    }
    return AtlasNet(trunk, rows, tuple(config.markets))


def _mixed(config: ATLASConfig, gate: str) -> AtlasMoE:
    moe = config.moe
    ids = moe.experts if moe.enabled else ("equity_daily",)
    specs = [expert_spec(expert_id) for expert_id in ids]
    modalities = tuple(dict.fromkeys(spec.modality for spec in specs))
    trunk = _trunk(config, modalities, 0)
    experts = {
        spec.id: Expert(
            _owners(trunk, spec.modality),
            config.model.hidden,
            spec.kernels,
            Dictionary(modalities) if moe.bank == "expert" else None,
        )
        for spec in specs
    }
    return AtlasMoE(
        trunk,
        experts,
        _gate(gate, moe.k, len(specs)),
        tuple(config.markets),
        modality_of={spec.id: spec.modality for spec in specs},
        balance=(moe.balance.kind, moe.balance.weight),
    )


def _gate(name: str, k: int, experts: int) -> Gate:
    if name == "mlp" and experts > 1:
        return MLPGate(Standardizer().width, experts, k)
    if name == "uniform":
        return UniformGate(experts)
    if name == "random":
        return RandomGate(k)
    return RuleGate(k)


def _trunk(
    config: ATLASConfig, modalities: Sequence[str], features: int, *, is_drawn: bool = True
) -> Trunk:
    rows = {"chart": SERIES_ROW["chart"], "surface": SERIES_ROW["butterfly"]}
    for name, market in config.markets.items():
        if market.modality == "surface":
            rows["surface"] = SERIES_ROW[config.label(name).measure]
    return Trunk(
        modalities,
        rows,
        features=features,
        is_drawn=is_drawn,
        chart_width=config.model.chart_width,
        series_width=config.model.series_width,
        hidden=config.model.hidden,
    )


def _owners(trunk: Trunk, modality: str) -> dict[str, tuple[str, ...]]:
    dictionary = trunk.dictionary
    return {place: dictionary.owners[place] for place in dictionary.places(modality)}
