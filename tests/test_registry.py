"""The numbers of the seed's kernels: which lengths, widths and directions each bank starts from."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from atlas.kernels.registry import TEMPLATES, templates_of
from atlas.kernels.templates import (
    diagonal,
    dog,
    double_bottom,
    double_bottom_chart,
    ema,
    gap,
    gaussian,
    head_and_shoulders,
    head_and_shoulders_chart,
    ramp,
    sma,
    sobel,
    trend,
)


def wide(kernel: np.ndarray) -> np.ndarray:
    """Five columns stretched to nine, zeros between them."""
    out = np.zeros((5, 9))
    out[:, [0, 2, 4, 6, 8]] = kernel
    return out


EXPECTED = {
    **{f"sma_{k}": sma(k) for k in (5, 20, 50)},
    **{f"ema_{k}": ema(k) for k in (5, 20, 50)},
    "gaussian_5_1": gaussian(5, 1.0),
    "gaussian_5_2": gaussian(5, 2.0),
    "gaussian_11": gaussian(11, 4.0),
    "trend_7": trend(7),
    **{f"trend_fit_{k}": trend(k) for k in (7, 15, 30, 50)},
    **{f"head_and_shoulders_{k}": head_and_shoulders(k) for k in (24, 28, 32, 36, 40)},
    **{f"double_bottom_{k}": double_bottom(k) for k in (24, 28, 32, 36, 40)},
    "sobel_price": sobel("price"),
    "sobel_time": sobel("time"),
    "gap_chart": gap()[None],
    "gaussian_1_chart": gaussian(5, 1.0)[None],
    "gaussian_2_chart": gaussian(5, 2.0)[None],
    "sma_5_chart": sma(5)[None],
    "ema_5_chart": ema(5)[None],
    "dog": dog(5, 1.0, 3.0),
    "dog_wide": wide(dog(5, 1.0, 3.0)),
    "ramp_ascending": ramp(ascending=True),
    "ramp_descending": ramp(ascending=False),
    "head_and_shoulders_chart": wide(head_and_shoulders_chart()),
    "double_bottom_chart": wide(double_bottom_chart()),
    "trend_chart": trend(7)[None],
    "trend_price": trend(7)[:, None],
    "diagonal_up": diagonal(up=True),
    "diagonal_down": diagonal(up=False),
}
SMOOTH = ("sma", "ema", "gaussian")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_template_has_the_seeds_numbers(name: str) -> None:
    """Length, width, direction and place along time or price are those of its name."""
    np.testing.assert_array_equal(TEMPLATES[name].weights(), EXPECTED[name])


def test_a_row_is_not_changed_in_place() -> None:
    """All banks start from the same rows, whoever read them before."""
    with pytest.raises(FrozenInstanceError):
        TEMPLATES["sma_5"].detects = True  # type: ignore[misc]


def test_means_smooth_and_all_others_detect() -> None:
    """Only moving averages keep their sum."""
    smooth = {name for name, template in TEMPLATES.items() if not template.detects}
    assert smooth == {name for name in TEMPLATES if name.startswith(SMOOTH)}


def test_fits_and_patterns_are_relative() -> None:
    """Trend fits around their mean, patterns on the series around their line, others plain."""
    by = {
        kind: {n for n, t in TEMPLATES.items() if t.relative == kind} for kind in ("mean", "line")
    }
    assert by["mean"] == {name for name in TEMPLATES if name.startswith("trend_fit")}
    shapes = ("head_and_shoulders_", "double_bottom_")
    assert by["line"] == {n for n in EXPECTED if n.startswith(shapes) and n[-1].isdigit()}


def test_blocks_and_specialised_templates_part_a_place() -> None:
    """`blocks` True and False split a place; None is both, in order."""
    every = templates_of("chart")
    blocks, own = templates_of("chart", blocks=True), templates_of("chart", blocks=False)
    assert every == (*blocks, *own)
    assert {row.owner for row in blocks} == {"sobel", "gap", "gaussian", "sma", "ema"}
    assert not {row.owner for row in blocks} & {row.owner for row in own}
