"""Learnable banks of kernels that start from the templates.

What they decide:

- A bank is one parameter, every kernel at its template's place in a common frame, and a mask of
  where each kernel lives; taps outside the mask stay zero. A kernel that detects is zero-mean
  whatever training does to it: its mean is taken out when it is used.
- The 1×K kernels run on the price line of the *series*: on a raster a box filter smears occupancy,
  on a series it averages. A smoothing kernel answers with its mean less the newest value, so that
  no level of price is ever a feature.
- Trend fits and patterns answer with a correlation: the inner product over the norms of the kernel
  and of the input around its own mean (trends) or line (patterns). This is the matched filter when
  neither the size nor the tilt of a pattern matters. A pattern's goes through Fisher's (1915)
  z = artanh, because a random walk's correlations crowd at ±½ and a good likeness, above .9, would
  be no rarer than a strong day.
- Responses are scaled to unit variance on a random walk of the window's volatility, so each reads
  in standard deviations of chance: exactly for plain ones, as measured on 20,000 walks for others.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.errors import ConfigError
from atlas.kernels.registry import Template
from atlas.kernels.templates import detector

__all__ = ["EDGE", "KernelBank", "SeriesBank", "place", "random_walk_gain"]

EDGE = 8  # newest bars at which a series bank answers
TREND_GAIN = 1.5  # 1 / sd of a trend's correlation on random walks, alike for all lengths
PATTERN_GAIN = 2.5  # the same for Fisher's z of a pattern's
_CLOSEST = 0.97  # Fisher's z of a perfect likeness stays finite
SERIES_UNIT = 8.0**0.5  # a series row is in units of √8 standard deviations of a return
_FLOOR = 1e-3  # sum of squares under which an input counts as flat; a return's is about 1/8

Weights = npt.NDArray[np.float64]


def place(templates: Sequence[Template], shape: tuple[int, ...]) -> tuple[Weights, Weights]:
    """Lay templates in a common frame.

    Args:
        templates: D kernels, their last axis along time.
        shape: of the frame. The last axis is aligned at its end (the newest bar), others centered.

    Returns:
        Weights and masks, both (D, *shape): zero-mean, unit-norm where a kernel detects, and 1
        where it lives.

    Raises:
        ConfigError: naming a template that does not fit.
    """
    weights = np.zeros((len(templates), *shape))
    masks = np.zeros_like(weights)
    for index, template in enumerate(templates):
        kernel = template.weights()
        if kernel.ndim != len(shape) or any(
            k > n for k, n in zip(kernel.shape, shape, strict=True)
        ):
            raise ConfigError(
                f"template {template.name}: expected a kernel within {shape}, got {kernel.shape}"
            )
        starts = [(n - k) // 2 for k, n in zip(kernel.shape, shape, strict=True)]
        starts[-1] = shape[-1] - kernel.shape[-1]
        where = tuple(slice(s, s + k) for s, k in zip(starts, kernel.shape, strict=True))
        weights[index][where] = detector(kernel) if template.detects else kernel
        masks[index][where] = 1.0
    return weights, masks


class KernelBank(nn.Module):
    """D learnable kernels in a common frame, started from templates.

    `kernels()` is what a layer applies: masked, and zero-mean where a kernel detects.
    """

    mask: Tensor
    constant: Tensor

    def __init__(self, templates: Sequence[Template], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.names = tuple(template.name for template in templates)
        self.owners = tuple(template.owner for template in templates)
        weights, masks = place(templates, shape)
        detects = np.array([template.detects for template in templates])
        flat = masks.reshape(len(templates), -1)
        constant = flat / np.linalg.norm(flat, axis=1, keepdims=True) * detects[:, None]
        self.weight = nn.Parameter(torch.tensor(weights, dtype=torch.float32))  # (D, *shape)
        self.register_buffer("mask", torch.tensor(masks, dtype=torch.float32))
        self.register_buffer("constant", torch.tensor(constant, dtype=torch.float32))  # (D, taps)

    def kernels(self) -> Tensor:
        """Return the kernels in use, (D, *shape)."""
        flat = (self.weight * self.mask).flatten(1)  # (D, taps)
        flat = flat - self.constant * (self.constant * flat).sum(1, keepdim=True)
        return flat.view_as(self.weight)


class SeriesBank(KernelBank):
    """The 1-D kernels on a price line, answering at its newest `EDGE` bars in both polarities.

    Rows come as D responses followed by the same D negated, because a ReLU follows: a bottom and a
    top are told apart by the row's scale and shift.
    """

    line: Tensor
    newest: Tensor
    gain: Tensor
    bars: Tensor

    def __init__(self, templates: Sequence[Template], edge: int = EDGE) -> None:
        length = max(len(template.weights()) for template in templates)
        # Correlations last, patterns at the very end, so that each treatment is one slice.
        ordered = sorted(
            templates, key=lambda template: ("none", "mean", "line").index(template.relative)
        )
        super().__init__(ordered, (length,))
        self.edge, self.length = edge, length
        self.plain = sum(template.relative == "none" for template in ordered)
        self.patterns = sum(template.relative == "line" for template in ordered)
        bars = torch.arange(edge)[:, None] + torch.arange(length)
        self.register_buffer("bars", bars, persistent=False)  # (P, L)
        newest = np.zeros((len(ordered), length))
        newest[[not template.detects for template in ordered], -1] = 1.0
        lines = [
            _unit_line(self.mask[i], template.relative == "line")
            for i, template in enumerate(ordered)
        ]
        self.register_buffer("line", torch.stack(lines))  # (D, L)
        self.register_buffer("newest", torch.tensor(newest, dtype=torch.float32))
        gain = random_walk_gain(self.weight.detach().numpy().astype(np.float64) - newest)
        gain[self.plain :] = TREND_GAIN
        gain[len(ordered) - self.patterns :] = PATTERN_GAIN
        self.register_buffer("gain", torch.tensor(gain, dtype=torch.float32))

    def kernels(self) -> Tensor:
        """Return the kernels in use, (D, L): also free of a line where a pattern is detrended."""
        flat = super().kernels()
        return flat - self.line * (self.line * flat).sum(1, keepdim=True) - self.newest

    def forward(self, path: Tensor, kernels: Tensor | None = None) -> Tensor:
        """Answer at the newest bars of a price line.

        Args:
            path: (B, T) in units of √8 standard deviations of a return, T ≥ L + edge − 1.
            kernels: others than the bank's own, (D, L), or (B, D, L) for each window its own.

        Returns:
            Responses (B, 2D, edge) in the order of `names`, the newest bar last; 0 on a flat line.
        """
        windows = path[:, -(self.length + self.edge - 1) :][:, self.bars]  # (B, P, L)
        windows = windows - windows[..., -1:]  # float32: take the level out before squaring
        plain = self.plain
        kernels = self.kernels() if kernels is None else kernels
        sums = windows @ kernels.transpose(-1, -2)  # (B, P, D)
        lengths = kernels[..., plain:, :].norm(dim=-1).unsqueeze(-2)  # (1, M) or (B, 1, M)
        likeness = sums[..., plain:] / (lengths * self._spread(windows))  # (B, P, M)
        fits = len(self.mask) - plain - self.patterns
        patterns = (_CLOSEST * likeness[..., fits:]).atanh()
        response = torch.cat([sums[..., :plain], likeness[..., :fits], patterns], -1)
        response = response * self.gain
        return torch.cat([response, -response], -1).transpose(1, 2)  # (B, 2D, P)

    def _spread(self, windows: Tensor) -> Tensor:
        """Return the norms (B, P, M) of windows around mean or line, on each kernel's bars."""
        many = len(self.mask) - self.plain
        basis = torch.cat([self.constant[self.plain :], self.line[self.plain :]])
        fitted = functional.linear(windows, basis).square()  # (B, P, 2M): of mean and of line
        total = functional.linear(windows.square(), self.mask[self.plain :])
        left = total - fitted[..., :many] - fitted[..., many:]
        return (left.clamp_min(0) + _FLOOR).sqrt()


def random_walk_gain(kernels: Weights) -> Weights:
    """Return the factor (D,) that gives each response variance 1 on a random walk.

    Args:
        kernels: (D, L), zero-sum, applied to a line whose steps have standard deviation 1/√8. The
            response is a sum of steps, each weighted by the kernel summed from that step on.
    """
    tails = np.cumsum(kernels[:, ::-1], axis=1)[:, ::-1][:, 1:]  # (D, L − 1)
    spread = np.sqrt((tails**2).sum(axis=1))
    return np.asarray(SERIES_UNIT / np.maximum(spread, 1e-12), np.float64)


def _unit_line(mask: Tensor, wanted: bool) -> Tensor:
    # The unit ramp on a kernel's own bars, orthogonal to the constant; zero where none is wanted.
    ramp = torch.zeros_like(mask)
    inside = mask > 0
    if wanted:
        count = int(inside.sum())
        steps = torch.arange(count, dtype=mask.dtype) - (count - 1) / 2
        ramp[inside] = steps / steps.norm()
    return ramp
