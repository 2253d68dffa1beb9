"""The ideas for direction, as rows of data: what is changed of the usual mixture, all else equal.

A row changes one thing: the network, the second target, what is shown, what is asked, or settings
of training. `BLENDS` and `REREADINGS` train nothing: the first are means of probabilities of what
was trained, the second take the usual mixture's weights and read its answers another way.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from atlas.config import ATLASConfig
from atlas.moe import Network, build_model
from atlas.windows import MarketData
from benchmarks import idea_networks as networks
from benchmarks.idea_data import COARSE, LONGER, coarser, longer, next_bar, price_range, relative
from benchmarks.idea_networks import SHORT

__all__ = ["BLENDS", "ENSEMBLE", "IDEAS", "REREADINGS", "USUAL", "Blend", "Idea", "Rereading"]

USUAL = "usual"
ENSEMBLE = (1, 2, 3)  # seeds of the usual mixture
Member = tuple[str, int | None]  # a model and its seed; None is the blend's own


class Idea(NamedTuple):
    """One thing changed.

    Attributes:
        said: what is changed, for the page.
        network: builds it.
        training: fields of `TrainingConfig` that change.
        asks: changes the questions of a configuration; None leaves them.
        shows: changes a market's data, given the bars of its second target; None leaves them.
    """

    said: str
    network: Callable[[ATLASConfig], Network] = networks.usual
    training: Mapping[str, Any] = {}
    asks: Callable[[ATLASConfig], ATLASConfig] | None = None
    shows: Callable[[MarketData, int], MarketData] | None = None


class Blend(NamedTuple):
    """A mean of probabilities of members, and for which seeds there is one; None is each."""

    said: str
    members: tuple[Member, ...]
    seeds: tuple[int, ...] | None = None


class Rereading(NamedTuple):
    """The usual mixture with other numbers of calibration."""

    said: str
    change: Callable[[Network], None]


def _unmapped(model: Network) -> None:
    """Take Platt's slope and intercept out; α stays as it was fitted."""
    model.calibration.platt.copy_(torch.tensor([1.0, 0.0]))


def _uncalibrated(model: Network) -> None:
    """Take out α as well: what the network adds counts in full."""
    _unmapped(model)
    model.calibration.alpha.fill_(1.0)


def _series(config: ATLASConfig) -> Network:
    return build_model(config, variant="cnn_1d")


IDEAS: dict[str, Idea] = {
    USUAL: Idea("the mixture as params.yaml says: residual heads, skip inputs, charts and series"),
    "no_base": Idea("no residual heads: it adds to the base rate alone", networks.no_base),
    "no_skip": Idea("no skip inputs in the network; its base keeps them", networks.no_skip),
    "series": Idea("series view: the 1-D network, no chart, no experts", _series),
    "market_heads": Idea("each market adds a head of its own", networks.market_heads),
    "no_volatility": Idea("no auxiliary target", training={"volatility_weight": 0.0}),
    "much_volatility": Idea(
        "auxiliary target: volatility, ten times its weight", training={"volatility_weight": 1.0}
    ),
    "range": Idea("auxiliary target: the coming range instead of volatility", shows=price_range),
    "next_bar": Idea("auxiliary target: the next bar's move instead of volatility", shows=next_bar),
    "relative": Idea("direction relative to the median symbol (charts)", asks=relative),
    "horizon_long": Idea(f"{LONGER} times the horizon", asks=longer),
    "random_kernels": Idea("kernels begin as noise, not as templates", networks.random_kernels),
    "window_long": Idea(f"window of {64 * COARSE} bars, {COARSE} to a column", shows=coarser),
    "window_short": Idea(f"window of {SHORT} bars, not 64", networks.short_sighted),
}
BLENDS: dict[str, Blend] = {
    "windows": Blend(
        "mean over windows: short, usual and long",
        ((USUAL, None), ("window_short", None), ("window_long", None)),
    ),
    "views": Blend("mean of charts and series view", ((USUAL, None), ("series", None))),
    "with_rivals": Blend(
        "mean with logistic regression and LightGBM",
        ((USUAL, None), ("logistic", None), ("lightgbm", None)),
    ),
    "ensemble": Blend(
        "ensemble over three seeds", tuple((USUAL, seed) for seed in ENSEMBLE), seeds=(1,)
    ),
}
REREADINGS: dict[str, Rereading] = {
    "no_platt": Rereading("no Platt scaling: only α is fitted on the tuned sessions", _unmapped),
    "no_calibration": Rereading("neither α nor Platt scaling", _uncalibrated),
}
