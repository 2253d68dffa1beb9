"""Learnable banks: at the start they are their templates, and they stay detectors."""

import numpy as np
import pytest
import torch

from atlas.errors import ConfigError
from atlas.kernels.bank import EDGE, KernelBank, SeriesBank, place
from atlas.kernels.registry import TEMPLATES, templates_of
from atlas.kernels.templates import detector

T = 64


@pytest.fixture(scope="module")
def bank() -> SeriesBank:
    return SeriesBank(templates_of("series"))


def scaled(lines: np.ndarray) -> torch.Tensor:
    """Scale price lines (B, T) as the series of `atlas.charts` are."""
    moves = np.sqrt((np.diff(lines, axis=1) ** 2).mean(axis=1, keepdims=True))
    return torch.tensor((lines - lines[:, -1:]) / (moves * 8**0.5), dtype=torch.float32)


def walks(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, T)).cumsum(axis=1)


@pytest.mark.parametrize("where", ["chart", "surface", "smile"])
def test_a_bank_starts_from_its_templates(where: str) -> None:
    """In its frame each kernel is its template, normalized where it detects."""
    templates = templates_of(where)
    shape = {"chart": (7, 9), "surface": (3, 3, 3), "smile": (9,)}[where]
    kernels = KernelBank(templates, shape).kernels().detach().numpy()
    for template, kernel in zip(templates, kernels, strict=True):
        weights = template.weights()
        expected = detector(weights) if template.detects else weights
        start = [(n - k) // 2 for n, k in zip(shape, weights.shape, strict=True)]
        start[-1] = shape[-1] - weights.shape[-1]
        own = tuple(slice(s, s + k) for s, k in zip(start, weights.shape, strict=True))
        np.testing.assert_allclose(kernel[own], expected, atol=1e-6)
        assert np.abs(kernel).sum() == pytest.approx(np.abs(expected).sum(), abs=1e-4)


@pytest.mark.parametrize("name", [n for n, row in TEMPLATES.items() if row.place == "series"])
def test_the_layer_is_the_function(bank: SeriesBank, name: str) -> None:
    """A series response is the correlation of template and line, in sd of a random walk."""
    line = scaled(walks(1))
    with torch.no_grad():
        response = bank(line)[0, bank.names.index(name)].numpy()
    template = TEMPLATES[name]
    weights = template.weights()
    x, k = line[0].double().numpy(), len(weights)
    for back in range(EDGE):
        own = x[T - k - back : T - back]
        if template.relative == "none":
            kernel = detector(weights) if template.detects else weights - np.eye(k)[-1]
            tails = kernel[::-1].cumsum()[::-1][1:]
            expected = kernel @ own * 8**0.5 / np.linalg.norm(tails)
        else:
            degree = 0 if template.relative == "mean" else 1
            fit = np.polynomial.Polynomial.fit(np.arange(k), own, degree)(np.arange(k))
            likeness = detector(weights) @ own / np.linalg.norm(own - fit)
            expected = 1.5 * likeness if degree == 0 else 2.5 * np.arctanh(0.97 * likeness)
        assert response[EDGE - 1 - back] == pytest.approx(expected, rel=2e-2, abs=2e-3)


def test_responses_read_in_standard_deviations_of_chance(bank: SeriesBank) -> None:
    """On random walks every response has mean 0 and variance 1, within a tenth."""
    with torch.no_grad():
        newest = bank(scaled(walks(20_000)))[:, : len(bank.names), -1]
    torch.testing.assert_close(newest.mean(0), torch.zeros(newest.shape[1]), atol=0.04, rtol=0)
    torch.testing.assert_close(newest.std(0), torch.ones(newest.shape[1]), atol=0.1, rtol=0)


def test_every_response_comes_in_both_polarities(bank: SeriesBank) -> None:
    """The second half of the rows is the first, negated."""
    with torch.no_grad():
        response = bank(scaled(walks(3)))
    assert response.shape == (3, 2 * len(bank.names), EDGE)
    torch.testing.assert_close(response[:, len(bank.names) :], -response[:, : len(bank.names)])


def test_level_size_and_tilt_do_not_matter_to_a_pattern(bank: SeriesBank) -> None:
    """A pattern raised, magnified or tilted is the same pattern."""
    row = bank.names.index("double_bottom_32")
    line = torch.tensor(walks(5), dtype=torch.float32)
    moved = 3 * line + 7 + 0.2 * torch.arange(T)
    with torch.no_grad():
        torch.testing.assert_close(bank(moved)[:, row], bank(line)[:, row], atol=5e-3, rtol=1e-2)


def test_a_flat_line_answers_nothing(bank: SeriesBank) -> None:
    """No move, no response, and no NaN."""
    with torch.no_grad():
        assert bank(torch.full((2, T), 3.0)).abs().max() < 1e-4


def test_older_bars_than_a_kernel_do_not_reach_it(bank: SeriesBank) -> None:
    """A seven-bar trend at the newest bar reads seven bars."""
    line = torch.tensor(walks(1), dtype=torch.float32)
    other = line.clone()
    other[:, : T - 7] += 1.0
    row = bank.names.index("trend_7")
    with torch.no_grad():
        assert bank(line)[0, row, -1] == pytest.approx(float(bank(other)[0, row, -1]), abs=1e-5)
        assert bank(line)[0, row, -2] != pytest.approx(float(bank(other)[0, row, -2]), abs=1e-2)


def test_gradients_reach_every_tap_and_only_those() -> None:
    """Training moves each kernel on its own bars; other taps stay zero."""
    own = SeriesBank(templates_of("series"))
    own(scaled(walks(16))).square().sum().backward()
    assert own.weight.grad is not None
    live = own.weight.grad.abs() > 0
    assert (live <= own.mask.bool()).all()
    assert live.any(dim=1).all()


def test_training_cannot_make_a_detector_see_a_level() -> None:
    """Whatever the weights become, kernels that detect keep mean zero, patterns also no tilt."""
    own = SeriesBank(templates_of("series"))
    torch.nn.init.normal_(own.weight, generator=torch.Generator().manual_seed(2))
    kernels = own.kernels().detach()
    for name, kernel in zip(own.names, kernels, strict=True):
        if TEMPLATES[name].detects:
            assert kernel.sum() == pytest.approx(0, abs=1e-5)
        if TEMPLATES[name].relative == "line":
            assert kernel @ torch.arange(float(own.length)) == pytest.approx(0, abs=1e-3)


def test_kernels_end_at_the_newest_bar_and_center_on_price() -> None:
    """In a frame the last axis is aligned at its end, the others in the middle."""
    weights, masks = place([TEMPLATES["trend_price"], TEMPLATES["diagonal_up"]], (9, 8))
    assert np.flatnonzero(masks[0].any(axis=0)).tolist() == [7]
    assert np.flatnonzero(masks[0].any(axis=1)).tolist() == list(range(1, 8))
    assert np.flatnonzero(masks[1].any(axis=0)).tolist() == list(range(3, 8))
    assert weights[0][1:8, 7].argmax() == 6


@pytest.mark.parametrize("shape", [(40,), (9, 9)])
def test_a_frame_too_small_is_refused(shape: tuple[int, ...]) -> None:
    """The template that does not fit is named."""
    with pytest.raises(ConfigError, match="template sma_50: expected a kernel within"):
        place([TEMPLATES["sma_50"]], shape)
