"""Stem, kernels of charts and surfaces, adapter: their shapes, starts and causality."""

import numpy as np
import pytest
import torch

from atlas.charts import render, render_series
from atlas.experts import ChartKernels, Dictionary, SurfaceKernels
from atlas.kernels.registry import TEMPLATES, templates_of
from atlas.kernels.templates import (
    detector,
    diagonal,
    double_bottom,
    head_and_shoulders,
    laplacian_3d,
    smile_curvature,
)
from atlas.trunk import CLOSE_LINE, Stem, SurfaceAdapter


def image(rows: int = 2) -> torch.Tensor:
    return torch.rand(rows, 4, 32, 64, generator=torch.Generator().manual_seed(1))


def test_raw_channels_pass_beside_the_building_blocks() -> None:
    """The first four planes are the chart at half its size; one more for each block."""
    stem = Stem()
    planes = stem(image())
    assert planes.shape == (2, 4 + len(templates_of("chart", blocks=True)), 16, 32)
    halved = image().unflatten(2, (16, 2)).unflatten(4, (32, 2)).mean((3, 5))
    torch.testing.assert_close(planes[:, :4], halved)


def test_the_stem_starts_from_its_templates() -> None:
    """A block answers to its own channel alone, with its template."""
    stem = Stem()
    for index, template in enumerate(templates_of("chart", blocks=True)):
        weight = stem.convolution.weight[index].detach().numpy()
        channel = 0 if template.owner == "sobel" else CLOSE_LINE
        expected = detector(template.weights()) if template.detects else template.weights()
        rows, columns = expected.shape
        framed = np.zeros((5, 5))  # centered on price, ending at the newest bar
        framed[(5 - rows) // 2 : (5 + rows) // 2, 5 - columns :] = expected
        np.testing.assert_allclose(weight[channel], framed, atol=1e-6)
        assert not np.delete(weight, channel, axis=0).any()


@pytest.mark.parametrize("bar", [20, 41, 62])
def test_no_plane_looks_ahead(bar: int) -> None:
    """What is drawn after a bar changes no column that ends before it."""
    later = image()
    later[..., bar + 1 :] = 0
    stem, kernels = Stem(), ChartKernels()
    columns = (bar + 1) // 2
    planes = stem(image()), stem(later)
    torch.testing.assert_close(planes[0][..., :columns], planes[1][..., :columns])
    pooled = [torch.nn.functional.avg_pool2d(p[:, 2:3], 2) for p in planes]
    responses = [kernels(p)[..., : (bar + 1) // 4] for p in pooled]
    torch.testing.assert_close(*responses)
    surfaces = torch.rand(2, 3, 9, 64)
    after = surfaces.clone()
    after[..., bar + 1 :] = 0
    answers = [SurfaceKernels()(s)[..., : bar + 1] for s in (surfaces, after)]
    torch.testing.assert_close(*answers)


def test_a_rising_diagonal_moves_the_rising_kernel() -> None:
    """Row 0 is the lowest price: a close line that rises with time lies on ↗, not on ↘."""
    kernels = ChartKernels()
    plane = torch.zeros(1, 1, 8, 16)
    plane[0, 0, 1:6, 11:16] = torch.tensor(diagonal(up=True), dtype=torch.float32)
    response = kernels(plane)[0, :, :, -1].amax(1)  # ends at the newest bar, at any price
    named = dict(zip(kernels.names, response.tolist(), strict=True))
    assert named["diagonal_up"] == pytest.approx(3 * np.sqrt(4), rel=1e-3)
    assert named["diagonal_up"] > 2 * named["diagonal_down"]


def charts(lines: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw log price lines (B, 64) as bars with wicks; return their images and price lines."""
    close = 100 * np.exp(lines)
    opens = np.column_stack([close[:, 0], close[:, :-1]])
    wick = 0.003 * close * np.abs(np.random.default_rng(2).standard_normal(close.shape))
    high, low = np.maximum(opens, close) + wick, np.minimum(opens, close) - wick
    bars = np.stack([opens, high, low, close, np.full_like(close, 1_000.0)]).reshape(5, -1)
    ends = 64 * np.arange(len(lines)) + 63
    return torch.from_numpy(render(bars, ends)), torch.from_numpy(render_series(bars, ends)[:, 3])


class Loudness:
    """How loud every kernel of the dictionary is, series and chart, in sd of random-walk charts."""

    def __init__(self) -> None:
        self.dictionary, self.stem = Dictionary(("chart",)), Stem()
        self.owners = (*self.dictionary.series.owners, *self.dictionary.chart.owners)
        walks = 0.01 * np.random.default_rng(1).standard_normal((1_000, 64)).cumsum(axis=1)
        answers = self.answers(walks)
        self.mean, self.spread = answers.mean(0), answers.std(0)

    @torch.no_grad()
    def answers(self, lines: np.ndarray) -> torch.Tensor:
        """Answers (B, D) at the newest bar; of a chart kernel the largest at any price."""
        image, path = charts(lines)
        pooled = torch.nn.functional.avg_pool2d(self.stem(image), 2)
        plane = pooled[:, CLOSE_LINE : CLOSE_LINE + 1]
        series = self.dictionary.series(path)[:, : len(self.dictionary.series.names), -1]
        return torch.cat([series, self.dictionary.chart(plane)[..., -1].amax(2)], 1)

    def loudest(self, lines: np.ndarray) -> tuple[str, float]:
        """The family of the kernel that answers most to one line (1, 64), and how loudly."""
        loud = (self.answers(lines) - self.mean)[0] / self.spread
        return self.owners[int(loud.argmax())], float(loud.max())


@pytest.fixture(scope="module")
def loudness() -> Loudness:
    return Loudness()


@pytest.mark.parametrize("length", [24, 28, 32, 36, 40])
@pytest.mark.parametrize("shape", [head_and_shoulders, double_bottom])
def test_a_pattern_drawn_into_a_chart_moves_its_kernel_most(
    loudness: Loudness, shape: object, length: int
) -> None:
    """Over 24 to 40 bars after a random walk: no kernel is louder, in sd of random-walk charts."""
    line = 0.01 * np.random.default_rng(length).standard_normal((1, 64)).cumsum(axis=1)
    drawn = 0.1 * shape(length)  # type: ignore[operator]
    line[0, -length:] = line[0, -length - 1] + drawn - drawn[0]
    family, sds = loudness.loudest(line)
    assert family == shape.__name__  # type: ignore[attr-defined]
    assert sds > 4


@pytest.mark.parametrize("name", [row.name for row in templates_of("chart", blocks=False)])
def test_a_chart_layer_is_its_function(name: str) -> None:
    """A response is three times the correlation of template and patch, ending at its column."""
    plane = torch.randn(1, 1, 8, 16, generator=torch.Generator().manual_seed(3))
    kernels = ChartKernels()
    weights = detector(TEMPLATES[name].weights())
    rows, columns = weights.shape
    top = 4 - rows // 2  # centered on row 4
    patch = plane[0, 0, top : top + rows, 16 - columns :].double().numpy()
    answer = kernels(plane)[0, kernels.names.index(name), 4, -1].item()
    assert answer == pytest.approx(3 * (weights * patch).sum(), abs=1e-5)


@pytest.mark.parametrize("place", ["chart", "laplacian", "smile"])
def test_gradients_reach_every_tap_of_charts_and_surfaces(place: str) -> None:
    """Training moves each 2-D and 3-D kernel on its own taps, and on no other."""
    surface = SurfaceKernels()
    bank = ChartKernels() if place == "chart" else surface.get_submodule(place)
    random = torch.Generator().manual_seed(4)
    if place == "chart":
        bank(torch.randn(4, 1, 8, 16, generator=random)).square().sum().backward()
    else:
        surface(torch.randn(2, 3, 9, 8, generator=random)).square().sum().backward()
    assert torch.equal(bank.weight.grad != 0, bank.mask.bool())


def test_surface_kernels_are_their_functions() -> None:
    """Away from the edges: the Laplacian over time, strike and tenor, and the smile's curvature."""
    iv = torch.randn(1, 3, 9, 64, generator=torch.Generator().manual_seed(2))
    response = SurfaceKernels()(iv)
    assert response.shape == (1, 4, 3, 9, 64)
    cube = iv[0, :, 3:6, 37:40].double().numpy().transpose(2, 1, 0)  # (time, strike, tenor)
    expected = 3 * (detector(laplacian_3d()) * cube).sum()
    assert response[0, 0, 1, 4, 39].item() == pytest.approx(expected, rel=1e-4)
    smile = 3 * detector(smile_curvature()) @ iv[0, 2, :, 50].double().numpy()
    assert response[0, 1, 2, 0, 50].item() == pytest.approx(smile, rel=1e-4)
    torch.testing.assert_close(response[:, 2:], -response[:, :2])


def test_the_adapter_ends_in_the_shape_of_the_stems_output() -> None:
    """Body and head do not know which modality they serve."""
    stem, kernels = Stem(), SurfaceKernels()
    adapter = SurfaceAdapter(stem.channels, 4)
    surfaces = torch.rand(2, 2, 3, 9, 64)
    planes = adapter(surfaces, kernels(surfaces[:, 0]))
    assert planes.shape == stem(image()).shape
    torch.testing.assert_close(adapter.resize.sum(1), torch.ones(16))


def test_a_dictionary_without_surfaces_has_no_kernels_for_them() -> None:
    """Charts alone carry no dead weight."""
    assert set(Dictionary(("chart",)).owners) == {"series", "chart"}
    both = Dictionary(("chart", "surface"))
    assert both.places("chart") == ("series", "chart")
    assert both.places("surface") == ("series", "chart", "surface")
