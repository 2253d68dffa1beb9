"""Which kernels there are, by name, and what a bank needs to know of each.

- `place` says what a kernel runs on: the price line of the series, the chart, the surface, or the
  smile of a surface.
- Patterns and trends come at several lengths, and chart patterns stretched to nine columns, because
  a 5×5 kernel sees five bars and a head and shoulders spans 24 to 40.
- `owner` is the family's name, by which a row of the catalogue claims all lengths of a kernel at
  once. Families in `BLOCKS` are shared by all experts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas.kernels.templates import (
    delta_4,
    diagonal,
    dog,
    double_bottom,
    double_bottom_chart,
    ema,
    gap,
    gaussian,
    head_and_shoulders,
    head_and_shoulders_chart,
    laplacian_3d,
    last_return,
    mean_crossover,
    mean_reversion,
    momentum_comb,
    ramp,
    sma,
    smile_curvature,
    sobel,
    trend,
)

__all__ = ["BLOCKS", "TEMPLATES", "Place", "Template", "templates_of"]

Weights = npt.NDArray[np.float64]
Source = Callable[[], Weights]
Place = Literal["series", "chart", "surface", "smile"]
Relative = Literal["none", "mean", "line"]

BLOCKS = frozenset({"sma", "ema", "sobel", "gap", "gaussian", "last_return"})


@dataclass(frozen=True)
class Template:
    """A kernel that a bank starts from.

    Attributes:
        name: unique.
        owner: its family.
        place: what it runs on.
        weights: the template.
        detects: whether a bank starts from it made zero-mean and unit-norm; else it smooths.
        relative: `mean` or `line`: the response is (a function of) the correlation with the input
            around its own mean or line; `none`: a plain weighted sum.
    """

    name: str
    owner: str
    place: Place
    weights: Source
    detects: bool = True
    relative: Relative = "none"


def _along_time(weights: Source) -> Weights:
    return weights()[None, :]


def _along_price(weights: Source) -> Weights:
    return weights()[:, None]


def _stretched(weights: Source) -> Weights:
    # A dilation of two along time: five columns see nine.
    rows, columns = weights().shape
    spread = np.zeros((rows, 2 * columns - 1))
    spread[:, ::2] = weights()
    return spread


def _plain(owner: str, source: Source, name: str = "", place: Place = "series") -> Template:
    return Template(name or owner, owner, place, source)


def _smooth(owner: str, name: str, source: Source, place: Place = "series") -> Template:
    return Template(name, owner, place, source, detects=False)


_MEANS = [
    _smooth(owner, f"{owner}_{k}", partial(source, k))
    for owner, source in (("sma", sma), ("ema", ema))
    for k in (5, 20, 50)
]
_SERIES = [
    *_MEANS,
    _smooth("gaussian", "gaussian_5_1", partial(gaussian, 5, 1.0)),
    _smooth("gaussian", "gaussian_5_2", partial(gaussian, 5, 2.0)),
    _plain("gap", gap),
    _plain("last_return", last_return),
    _plain("mean_reversion_11", mean_reversion),
    _plain("delta_4", delta_4),
    _plain("momentum_comb", momentum_comb),
    _plain("trend", trend, "trend_7"),
    _smooth("gaussian_11", "gaussian_11", partial(gaussian, 11, 4.0)),
    _plain("mean_crossover", mean_crossover),
    *(
        Template(f"trend_fit_{k}", "trend", "series", partial(trend, k), relative="mean")
        for k in (7, 15, 30, 50)
    ),
    *(
        Template(f"{owner}_{k}", owner, "series", partial(source, k), relative="line")
        for owner, source in (
            ("head_and_shoulders", head_and_shoulders),
            ("double_bottom", double_bottom),
        )
        for k in (24, 28, 32, 36, 40)
    ),
]
_BLOCKS_OF_CHART = [
    _plain("sobel", partial(sobel, "price"), "sobel_price", "chart"),
    _plain("sobel", partial(sobel, "time"), "sobel_time", "chart"),
    _plain("gap", partial(_along_time, gap), "gap_chart", "chart"),
    _smooth(
        "gaussian", "gaussian_1_chart", partial(_along_time, partial(gaussian, 5, 1.0)), "chart"
    ),
    _smooth(
        "gaussian", "gaussian_2_chart", partial(_along_time, partial(gaussian, 5, 2.0)), "chart"
    ),
    _smooth("sma", "sma_5_chart", partial(_along_time, partial(sma, 5)), "chart"),
    _smooth("ema", "ema_5_chart", partial(_along_time, partial(ema, 5)), "chart"),
]
_dog = partial(dog, 5, 1.0, 3.0)
_CHART = [
    _plain("dog", _dog, "dog", "chart"),
    _plain("dog", partial(_stretched, _dog), "dog_wide", "chart"),
    _plain("ramp_ascending", partial(ramp, ascending=True), place="chart"),
    _plain("ramp_descending", partial(ramp, ascending=False), place="chart"),
    _plain(
        "head_and_shoulders",
        partial(_stretched, head_and_shoulders_chart),
        "head_and_shoulders_chart",
        "chart",
    ),
    _plain(
        "double_bottom", partial(_stretched, double_bottom_chart), "double_bottom_chart", "chart"
    ),
    _plain("trend", partial(_along_time, trend), "trend_chart", "chart"),
    _plain("trend_price", partial(_along_price, trend), place="chart"),
    _plain("diagonal_up", partial(diagonal, up=True), place="chart"),
    _plain("diagonal_down", partial(diagonal, up=False), place="chart"),
]
_SURFACE = [
    _plain("laplacian_3d", laplacian_3d, place="surface"),
    _plain("smile_curvature", smile_curvature, place="smile"),
]
TEMPLATES: dict[str, Template] = {
    row.name: row for row in (*_SERIES, *_BLOCKS_OF_CHART, *_CHART, *_SURFACE)
}


def templates_of(place: Place, *, blocks: bool | None = None) -> tuple[Template, ...]:
    """Return a place's templates in order; `blocks` keeps the shared ones, or the others."""
    return tuple(
        row
        for row in TEMPLATES.values()
        if row.place == place and blocks in (None, row.owner in BLOCKS)
    )
