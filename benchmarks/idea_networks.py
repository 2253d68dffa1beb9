"""Networks of `benchmarks.ideas`: the MLP mixture with one thing changed.

They live here and not in the library: an idea gets a key in params.yaml once it has helped. All
start as the usual mixture does, from the same draws of torch's generator where they share weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from atlas.catalogue import expert_spec
from atlas.config import ATLASConfig
from atlas.experts import Expert
from atlas.inputs import Inputs
from atlas.kernels.bank import KernelBank, SeriesBank, random_walk_gain
from atlas.moe import AtlasMoE, Network, Output, build_model
from atlas.residual import Base

__all__ = [
    "SHORT",
    "MarketHeads",
    "ShortSighted",
    "market_heads",
    "no_base",
    "no_skip",
    "random_kernels",
    "randomize",
    "short_sighted",
    "usual",
]

SHORT = 16  # bars that a short-sighted mixture sees
VARIANT = "moe_mlp"


class Unaided(Base):
    """A base that knows each market's base rate and nothing else; volatility keeps its HAR."""

    def logit(self, features: Tensor, market: Tensor, modality: str) -> Tensor:
        """Return the market's intercept (B,)."""
        del features, modality
        return self.intercept[market]


class Blind(nn.Module):
    """Stands where skip inputs enter the body, and lets nothing through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, skip: Tensor) -> Tensor:
        """Return zeros (B, hidden)."""
        return skip.new_zeros(len(skip), self.width)


class MarketHeads(AtlasMoE):
    """A mixture in which every market adds a head of its own to its experts'; it starts at 0."""

    def __init__(self, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        hidden = self.trunk.body.deepen.out_features
        many = len(self.markets) + 1  # the last row is of a market that it does not know
        self.slopes = nn.Parameter(torch.zeros(many, 2, hidden))
        self.biases = nn.Parameter(torch.zeros(many, 2))

    def mixed(self, inputs: Inputs, features: Tensor, weights: Tensor) -> Tensor:
        """As `AtlasMoE.mixed`, and the market's own head on the same hidden vectors."""
        own = self.columns[inputs.modality]
        experts = [self._expert(column) for column in own]
        hidden = self.trunk(inputs, self._mixture(experts, weights[:, own]), features)
        heads = torch.stack([expert.head(hidden) for expert in experts], 1)  # (B, Em, 2)
        shared = (weights[:, own, None] * heads).sum(1)
        market = inputs.market.long()
        alone = (self.slopes[market] * hidden[:, None]).sum(2) + self.biases[market]
        total: Tensor = shared + alone
        return total


class ShortSighted(AtlasMoE):
    """A mixture that sees the newest `SHORT` bars: older ones are blank, their line is flat."""

    def forward(self, inputs: Inputs) -> Output:
        """As `AtlasMoE.forward`; the base, which reads no picture, is as ever."""
        image, series = inputs.image.clone(), inputs.series.clone()
        image[..., :-SHORT] = 0
        series[..., :-SHORT] = series[..., -SHORT : 1 - SHORT]
        return super().forward(inputs._replace(image=image, series=series))


def usual(config: ATLASConfig) -> Network:
    """Build the mixture as it is."""
    return build_model(config, variant=VARIANT)


def no_base(config: ATLASConfig) -> Network:
    """Build a mixture that adds to the base rate alone, not to the best simple rival."""
    model = usual(config)
    widths = {m: len(model.base.weight(m)) for m in model.modalities}
    model.base = Unaided(len(model.markets), widths)
    return model


def no_skip(config: ATLASConfig) -> Network:
    """Build a mixture whose body sees no skip inputs; its base does."""
    model = usual(config)
    body = model.trunk.body
    width = body.deepen.in_features
    body.skip = nn.ModuleDict({modality: Blind(width) for modality in model.modalities})
    return model


def market_heads(config: ATLASConfig) -> Network:
    """Build a mixture with heads of the markets' own."""
    return _rebuilt(MarketHeads, usual(config))


def short_sighted(config: ATLASConfig) -> Network:
    """Build a mixture that sees few bars."""
    return _rebuilt(ShortSighted, usual(config))


def random_kernels(config: ATLASConfig) -> Network:
    """Build a mixture whose kernels start from noise of the templates' norms."""
    model = usual(config)
    randomize(model)
    return model


@torch.no_grad()
def randomize(model: Network) -> None:
    """Draw every kernel of stem and dictionary at random: same place, length and norm.

    A kernel that detects stays zero-mean, one that is read around a line stays free of a line, and
    each still answers a random walk with unit variance: what is lost is the template's shape alone.
    """
    for bank in model.trunk.modules():
        if isinstance(bank, KernelBank):
            before = _norms(bank)
            bank.weight.copy_(torch.randn_like(bank.weight))
            many = (len(bank.weight), *(1,) * (bank.weight.ndim - 1))
            bank.weight.mul_((before / _norms(bank)).view(many))
        if isinstance(bank, SeriesBank):
            bank.gain[: bank.plain] = _gains(bank)[: bank.plain]
    if model.trunk.is_drawn:
        weight = model.trunk.stem.convolution.weight  # (D, C, 5, 5), each on one channel
        lives = (weight != 0).any(-1).any(-1)[..., None, None]
        drawn = torch.randn_like(weight) * lives
        norms = [one.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for one in (weight, drawn)]
        weight.copy_(drawn * norms[0] / norms[1])


def _norms(bank: KernelBank) -> Tensor:
    """Return the norms (D,) of what is learned of the kernels in use."""
    kernels = bank.kernels()
    if isinstance(bank, SeriesBank):
        kernels = kernels + bank.newest
    norms: Tensor = kernels.flatten(1).norm(dim=1)
    return norms


def _gains(bank: SeriesBank) -> Tensor:
    """Return the gains (D,); lines reach a bank less their newest value, so its tap is free."""
    kernels = bank.kernels().double().numpy().copy()
    kernels[:, -1] -= kernels.sum(1)
    return torch.from_numpy(random_walk_gain(kernels)).float()


def _rebuilt(kind: type[AtlasMoE], built: Network) -> AtlasMoE:
    assert isinstance(built, AtlasMoE)
    experts: Mapping[str, Expert] = {
        name: expert for name, expert in built.experts.items() if isinstance(expert, Expert)
    }
    return kind(
        built.trunk,
        experts,
        built.gate,
        built.markets,
        modality_of={name: expert_spec(name).modality for name in experts},
        balance=(built.balance_kind, built.balance_weight),
    )
