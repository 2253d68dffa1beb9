"""The trunk that all experts share: stem, adapter, body.

- The *stem* lets raw channels pass, sign and all, beside its rectified building blocks, or a
  template would act on a mixture and mean nothing.
- Surfaces enter by an *adapter* that ends in the shape of the stem's output; the body is shared.
- The *body* reads the newest bars of the series and all of a strided chart: averaging over time
  would throw away where the next move is decided.
- The 1-D network is the same trunk without the planes: no stem, no adapter, series alone.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.charts import CHART_SHAPE, WINDOW
from atlas.experts import Dictionary, Mixture
from atlas.inputs import SKIP, SKIP_SURFACE, Inputs
from atlas.kernels.bank import EDGE, KernelBank
from atlas.kernels.registry import templates_of
from atlas.surfaces import STRIKES, TENORS

__all__ = ["SKIPS", "Body", "Stem", "SurfaceAdapter", "Trunk"]

SKIPS = {"chart": len(SKIP), "surface": len(SKIP_SURFACE)}
CLOSE_LINE = 2  # the chart's channel that kernels of shape act on
_RANGE = 0
_EDGE_COLUMNS = 4  # of the series' convolution that the body reads
_LEVELS, _COLUMNS = CHART_SHAPE[1] // 2, WINDOW // 2  # the stem's output


class Stem(nn.Module):
    """The shared first convolution of a chart: half the size, raw channels beside blocks.

    The blocks are 5×5 kernels started from Sobel (on the bars' range, whose edges are wicks), gap,
    Gaussians and 5-bar means (on the close line). The longer means run on the series.
    """

    def __init__(self) -> None:
        super().__init__()
        templates = templates_of("chart", blocks=True)
        bank = KernelBank(templates, (5, 5))
        self.convolution = nn.Conv2d(CHART_SHAPE[0], len(templates), 5, stride=2)
        self.channels = CHART_SHAPE[0] + len(templates)
        with torch.no_grad():
            self.convolution.weight.zero_()
            for index, template in enumerate(templates):
                channel = _RANGE if template.owner == "sobel" else CLOSE_LINE
                self.convolution.weight[index, channel] = bank.weight[index]

    def forward(self, image: Tensor) -> Tensor:
        """Return planes (B, C', 16, 32) of charts (B, 4, 32, 64); time is padded causally."""
        blocks = self.convolution(functional.pad(image, (3, 0, 1, 2)))
        return torch.cat([functional.avg_pool2d(image, 2), functional.relu(blocks)], 1)


class SurfaceAdapter(nn.Module):
    """Brings surfaces into the shape of the stem's output."""

    resize: Tensor

    def __init__(self, channels: int, responses: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(TENORS * (2 + responses), channels, 1)
        # Strikes become price levels by linear interpolation.
        places = torch.linspace(0, STRIKES - 1, _LEVELS)
        strikes = torch.arange(STRIKES, dtype=places.dtype)
        weights = (1 - (places[:, None] - strikes).abs()).clamp_min(0)
        self.register_buffer("resize", weights, persistent=False)  # (16, 9)

    def forward(self, image: Tensor, responses: Tensor) -> Tensor:
        """Return planes (B, C', 16, 32) of surfaces (B, 2, 3, 9, T) and responses (B, D, …)."""
        stack = torch.cat([image, responses], 1).flatten(1, 2)  # (B, 3·(2 + D), 9, T)
        halved = functional.avg_pool2d(stack, (1, 2))
        return self.resize @ functional.relu(self.mix(halved))


class Body(nn.Module):
    """Shared by all experts: reads responses, series and planes into a hidden vector.

    Args:
        owners: template families by place, for their numbers.
        channels: planes of the stem, 0 where nothing is drawn.
        skips: numbers beside the window, by modality.
        features: width of the fingerprint's features if the body sees them, else 0.
        chart_width, series_width, hidden: widths.
    """

    def __init__(
        self,
        owners: Mapping[str, tuple[str, ...]],
        channels: int,
        skips: Mapping[str, int],
        *,
        edge: int,
        features: int,
        chart_width: int,
        series_width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        if channels:
            inner = channels + len(owners["chart"])
            self.chart = nn.Conv2d(inner, chart_width, 3, stride=2, padding=1)
        self.series = nn.Sequential(
            nn.Conv1d(6, series_width, 5, stride=2),
            nn.ReLU(),
            nn.Conv1d(series_width, series_width, 3, stride=2),
            nn.ReLU(),
        )
        flat = len(owners["series"]) * edge + _EDGE_COLUMNS * series_width
        flat += chart_width * (_LEVELS // 4) * (_COLUMNS // 4) * (channels > 0) + features
        self.join = nn.Linear(flat, hidden)
        self.skip = nn.ModuleDict({m: nn.Linear(width, hidden) for m, width in skips.items()})
        self.deepen = nn.Linear(hidden, hidden)

    def forward(
        self,
        line: Tensor,
        series: Tensor,
        plane: Tensor | None,
        skip: Tensor,
        modality: str,
        features: Tensor | None,
    ) -> Tensor:
        """Return hidden vectors (B, hidden).

        Args:
            line: mixed and rectified responses of the price line (B, D, edge).
            series: (B, 6, T), the rows and the price line's differences.
            plane: stem and mixed, rectified chart responses (B, C'', 8, 16), if anything is drawn.
            skip: (B, D').
            modality: of the batch.
            features: (B, 2G), for a body that sees the fingerprint.
        """
        recent = self.series(functional.pad(series, (5, 0)))[..., -_EDGE_COLUMNS:]
        parts = [line.flatten(1), recent.flatten(1)]
        if plane is not None:
            parts.append(functional.relu(self.chart(plane)).flatten(1))  # (B, W·4·8)
        joined = torch.cat(parts if features is None else [*parts, features], 1)
        hidden = functional.relu(self.join(joined) + self.skip[modality](skip))
        return functional.relu(self.deepen(hidden))


class Trunk(nn.Module):
    """Stem, shared dictionary, adapter and body: everything between inputs and head rows.

    Args:
        modalities: served.
        rows: the series row that 1-D kernels act on, by modality.
        features: width of the features if the body sees them, else 0.
        is_drawn: whether windows are seen as planes too; else the series is all there is.

    Attributes:
        reader: adds to the hidden vectors of charts what a basket of other series shows, called
            with them, inputs and mixture (`atlas.hedge`); None, the default, adds nothing.
    """

    reader: nn.Module | None

    def __init__(
        self,
        modalities: Sequence[str],
        rows: Mapping[str, int],
        *,
        features: int,
        is_drawn: bool = True,
        chart_width: int,
        series_width: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.rows, self.reader = dict(rows), None
        self.sees_features, self.is_drawn = features > 0, is_drawn
        channels = 0
        if is_drawn:
            self.stem = Stem()
            channels = self.stem.channels
        self.dictionary = Dictionary(modalities, has_planes=is_drawn)
        owners = self.dictionary.owners
        if is_drawn and "surface" in modalities:
            self.adapter = SurfaceAdapter(channels, len(owners["surface"]))
        self.body = Body(
            owners,
            channels,
            {modality: SKIPS[modality] for modality in modalities},
            edge=EDGE,
            features=features,
            chart_width=chart_width,
            series_width=series_width,
            hidden=hidden,
        )

    def forward(self, inputs: Inputs, mixture: Mixture, features: Tensor) -> Tensor:
        """Return hidden vectors (B, hidden) of a batch under mixed rows."""
        line, plane = self.responses(inputs, mixture)
        path = inputs.series[:, self.rows[inputs.modality]]  # (B, T)
        moves = functional.pad(path[:, 1:] - path[:, :-1], (1, 0))
        series = torch.cat([inputs.series, moves[:, None]], 1)  # (B, 6, T)
        seen = features if self.sees_features else None
        hidden: Tensor = self.body(line, series, plane, inputs.skip, inputs.modality, seen)
        if self.reader is not None and inputs.modality == "chart":
            hidden = self.reader(hidden, inputs, mixture)
        return hidden

    def responses(self, inputs: Inputs, mixture: Mixture) -> tuple[Tensor, Tensor | None]:
        """Return what stem and kernels say of a batch, rectified: all that is drawn from them.

        Returns:
            The price line's responses (B, D, edge), and the planes (B, C'', 8, 16), None where
            nothing is drawn.
        """
        path = inputs.series[:, self.rows[inputs.modality]]  # (B, T)
        line = functional.relu(mixture.respond("series", path))
        return line, self._drawn(inputs, mixture) if self.is_drawn else None

    def _drawn(self, inputs: Inputs, mixture: Mixture) -> Tensor:
        """Return the pooled planes and the rectified responses to their close line."""
        pooled = functional.avg_pool2d(self._planes(inputs, mixture), 2)  # (B, C', 8, 16)
        close_line = pooled[:, CLOSE_LINE : CLOSE_LINE + 1]  # (B, 1, 8, 16)
        kernels = functional.relu(mixture.respond("chart", close_line))
        return torch.cat([pooled, kernels], 1)

    def _planes(self, inputs: Inputs, mixture: Mixture) -> Tensor:
        image: Tensor = inputs.image
        if inputs.modality == "chart":
            planes: Tensor = self.stem(image)
            return planes
        responses = functional.relu(mixture.respond("surface", image[:, 0]))
        adapted: Tensor = self.adapter(image, responses)
        return adapted
