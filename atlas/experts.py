"""Experts, the dictionary of kernels that they weigh, and how their rows are mixed.

An `Expert` owns a row of scales and shifts over the dictionary and its head rows. A gate mixes rows
*before* the nonlinearity, which is exact,

    Σ gₑ(sₑ·(W∗x) + bₑ) = (Σ gₑsₑ)·(W∗x) + Σ gₑbₑ,

and costs no second convolution. With `moe.bank: expert` each expert owns a whole dictionary, as the
seed says literally; all of them then answer, and their answers are mixed.

Places of a dictionary: `series` (the price line), `chart` (the close line, one pixel being four
bars by four price levels), `surface`, and `basket` where an expert sees other series.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.kernels.bank import KernelBank, SeriesBank
from atlas.kernels.registry import BLOCKS, templates_of
from atlas.surfaces import STRIKES

__all__ = ["KERNEL_GAIN", "Dictionary", "Expert", "Mixture", "one_mixture"]

DictionaryPlace = Literal["series", "chart", "surface", "basket"]

KERNEL_GAIN = 3.0  # a unit-norm kernel on an image answers with about a third of a unit
_ELSEWHERE = 0.1  # an expert's first scale on kernels that are not its own


class SurfaceKernels(nn.Module):
    """The kernels of a surface, in both polarities: Laplacian and smile curvature."""

    names = ("laplacian_3d", "smile_curvature")
    owners = names

    def __init__(self) -> None:
        super().__init__()
        self.laplacian = KernelBank(templates_of("surface"), (3, 3, 3))
        self.smile = KernelBank(templates_of("smile"), (STRIKES,))

    def forward(self, iv: Tensor) -> Tensor:
        """Return responses (B, 4, 3, 9, T) of iv (B, 3, 9, T); time is padded causally."""
        kernel = self.laplacian.kernels().permute(0, 3, 2, 1)[:, None]  # (1, 1, tenor, strike, T)
        padded = functional.pad(iv[:, None], (2, 0, 1, 1, 1, 1), mode="replicate")
        laplacian = functional.conv3d(padded, kernel)  # (B, 1, 3, 9, T)
        curvature = torch.einsum("ds,bnst->bdnt", self.smile.kernels(), iv)
        curvature = curvature[:, :, :, None].expand_as(laplacian)
        rows = KERNEL_GAIN * torch.cat([laplacian, curvature], 1)
        return torch.cat([rows, -rows], 1)


class ChartKernels(KernelBank):
    """The specialised 2-D kernels, on the close line at a quarter of its size."""

    def __init__(self) -> None:
        super().__init__(templates_of("chart", blocks=False), (7, 9))

    def forward(self, plane: Tensor) -> Tensor:
        """Return responses (B, D, 8, 16) of a plane (B, 1, 8, 16); time is padded causally."""
        padded = functional.pad(plane, (8, 0, 3, 3))
        return KERNEL_GAIN * functional.conv2d(padded, self.kernels()[:, None])


class Dictionary(nn.Module):
    """Every kernel that an expert's row weighs, by place.

    `owners[place]` names the template family of each response, in order.

    Args:
        modalities: served.
        has_planes: False leaves the kernels of the series alone (the 1-D network).
    """

    def __init__(self, modalities: Sequence[str], *, has_planes: bool = True) -> None:
        super().__init__()
        self.series = SeriesBank(templates_of("series"))
        self.owners: dict[str, tuple[str, ...]] = {"series": 2 * self.series.owners}
        if not has_planes:
            return
        self.chart = ChartKernels()
        self.owners["chart"] = self.chart.owners
        if "surface" in modalities:
            self.surface = SurfaceKernels()
            self.owners["surface"] = 2 * self.surface.owners

    def places(self, modality: str) -> tuple[str, ...]:
        """Return the places that windows of a modality pass."""
        passed = ("series", "chart", "surface") if modality == "surface" else ("series", "chart")
        return tuple(place for place in passed if place in self.owners)


class Expert(nn.Module):
    """One expert: a row of scales and shifts over the dictionary, and two head rows.

    Scales start at one on its own templates and on shared blocks, near zero on the others; the
    head starts at zero, so that a network starts as its base.

    Args:
        owners: template families by place, for the places its modality passes.
        hidden: width of the body's output.
        kernels: families it starts with; None is all of them (the plain network's row).
        dictionary: kernels of its own (`moe.bank: expert`), else the network's are shared.
    """

    def __init__(
        self,
        owners: Mapping[str, tuple[str, ...]],
        hidden: int,
        kernels: Sequence[str] | None = None,
        dictionary: Dictionary | None = None,
    ) -> None:
        super().__init__()
        own = None if kernels is None else {*kernels, *BLOCKS}
        self.scale, self.shift = nn.ParameterDict(), nn.ParameterDict()
        for place, names in owners.items():
            start = [1.0 if own is None or name in own else _ELSEWHERE for name in names]
            self.scale[place] = nn.Parameter(torch.tensor(start))
            self.shift[place] = nn.Parameter(torch.zeros(len(names)))
        self.head = nn.Linear(hidden, 2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.dictionary = dictionary


class Mixture(NamedTuple):
    """Dictionaries with the rows that weigh them, ready to answer.

    Attributes:
        dictionaries: one that is shared, or one an expert.
        scales: for each dictionary, by place, (B or 1, D).
        shift: by place, (B or 1, D).
    """

    dictionaries: Sequence[Dictionary]
    scales: Sequence[Mapping[str, Tensor]]
    shift: Mapping[str, Tensor]

    def respond(self, place: DictionaryPlace, x: Tensor) -> Tensor:
        """Return the mixed responses (B, D, …) to an input of that place, before any ReLU."""
        total: Tensor | None = None
        for dictionary, scale in zip(self.dictionaries, self.scales, strict=True):
            response = dictionary.get_submodule(place)(x)  # (B, D, …)
            spread = scale[place].view(*scale[place].shape, *(1,) * (response.ndim - 2))
            own = response * spread
            total = own if total is None else total + own
        assert total is not None
        shift = self.shift[place]
        return total + shift.view(*shift.shape, *(1,) * (total.ndim - 2))


def one_mixture(dictionary: Dictionary, expert: Expert) -> Mixture:
    """Return the mixture of a single expert, the same for every window."""
    scale = {place: row[None] for place, row in expert.scale.items()}
    shift = {place: row[None] for place, row in expert.shift.items()}
    return Mixture([expert.dictionary or dictionary], [scale], shift)
