"""The templates' weights: exact numbers once, and what holds at every size."""

import numpy as np
import pytest

from atlas.errors import ConfigError
from atlas.kernels import templates as t
from atlas.kernels.registry import BLOCKS, TEMPLATES, templates_of

EXACT = {
    "sma": (t.sma(5), [0.2] * 5),
    "ema": (t.ema(2), [0.25, 0.75]),
    "gaussian": (t.gaussian(5, 1.0), [0.05448868, 0.24420134, 0.40261995, 0.24420134, 0.05448868]),
    "gaussian_wide": (t.gaussian(3, 2.0), [0.31916777, 0.36166447, 0.31916777]),
    "gap": (t.gap(), [1 / 12, -8 / 12, 0, 8 / 12, -1 / 12]),
    "last_return": (t.last_return(), [-1, 1]),
    "mean_reversion": (t.mean_reversion(4), [-2 / 11, -3 / 11, -6 / 11, 1]),
    "delta_4": (t.delta_4(), [1, -4, 6, -4, 1]),
    "momentum_comb": (t.momentum_comb(), [-1, -2, 0, 2, 1]),
    "trend": (t.trend(), [-3, -2, -1, 0, 1, 2, 3]),
    "pattern": (t.pattern((1, -1, 1), 5), [0.8, -0.2, -1.2, -0.2, 0.8]),
    "smile_curvature": (3 * t.smile_curvature(), [28, 7, -8, -17, -20, -17, -8, 7, 28]),
    "sobel_time": (t.sobel("time"), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "sobel_price": (t.sobel("price"), [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "ramp_up": (t.ramp(ascending=True, size=3), [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]),
    "ramp_down": (t.ramp(ascending=False, size=3), [[1, 1, 0], [1, 0, -1], [0, -1, -1]]),
    "diagonal_up": (t.diagonal(up=True, size=3), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "diagonal_down": (t.diagonal(up=False, size=3), [[0, 0, 1], [0, 1, 0], [1, 0, 0]]),
    "dog": (t.dog(3, 1.0, 3.0)[1], [0.01073, 0.08461, 0.01073]),
    "laplacian_now": (
        t.laplacian_3d()[1],
        [[0.125, -0.25, 0.125], [-0.25, -1.5, -0.25], [0.125, -0.25, 0.125]],
    ),
    "laplacian_before": (t.laplacian_3d()[0, 1], [0.125, -0.25, 0.125]),
}


@pytest.mark.parametrize("name", EXACT)
def test_weights_are_exactly_these(name: str) -> None:
    """Each template is the kernel people know by its name, number by number."""
    weights, expected = EXACT[name]
    np.testing.assert_allclose(weights, expected, atol=1e-4)


@pytest.mark.parametrize("k", [1, 5, 20, 50])
def test_smoothing_kernels_sum_to_one(k: int) -> None:
    """A mean of equal prices is that price."""
    assert t.sma(k).sum() == pytest.approx(1)
    assert t.ema(k).sum() == pytest.approx(1)
    assert t.gaussian(2 * k + 1, 1.5).sum() == pytest.approx(1)


@pytest.mark.parametrize("k", [3, 8, 20])
def test_an_ema_forgets_at_the_rate_of_its_span(k: int) -> None:
    """Each bar further back weighs 1 − 2 / (k + 1) times as much."""
    weights = t.ema(k)
    np.testing.assert_allclose(weights[:-1] / weights[1:], 1 - 2 / (k + 1))


@pytest.mark.parametrize("taps", [1, 3, 5, 11])
def test_a_gaussian_is_symmetric_around_its_peak(taps: int) -> None:
    """Neither side of the middle tap is preferred."""
    weights = t.gaussian(taps, 2.0)
    np.testing.assert_allclose(weights, weights[::-1])
    assert weights.argmax() == taps // 2


@pytest.mark.parametrize("k", [2, 7, 11, 30, 50])
def test_derivatives_do_not_see_a_level(k: int) -> None:
    """Whatever detects moves answers nothing to a constant price."""
    assert t.trend(k).sum() == pytest.approx(0, abs=1e-9)
    assert t.mean_reversion(k).sum() == pytest.approx(0, abs=1e-9)
    assert t.mean_crossover(k + 11).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_fourth_difference_cancels_cubics(degree: int) -> None:
    """Smooth curves up to the third degree leave nothing."""
    assert t.delta_4() @ np.arange(5.0) ** degree == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_the_gap_kernel_is_the_derivative_of_cubics(degree: int) -> None:
    """It is exact in the middle of its five taps."""
    x = np.arange(5.0)
    assert t.gap() @ x**degree == pytest.approx(degree * 2.0 ** (degree - 1))


def test_the_comb_weighs_returns_one_three_three_one() -> None:
    """On prices it is the burst 1, 3, 3, 1 of the last four returns."""
    returns = np.array([0.3, -1.2, 0.7, 2.0])
    prices = np.concatenate([[0.0], returns.cumsum()])
    assert t.momentum_comb() @ prices == pytest.approx(returns @ [1, 3, 3, 1])


@pytest.mark.parametrize("length", [24, 32, 40])
def test_patterns_are_blind_to_tilt_and_symmetric(length: int) -> None:
    """A pattern has neither level nor trend and reads the same backwards."""
    for weights in (t.head_and_shoulders(length), t.double_bottom(length)):
        assert weights.shape == (length,)
        assert weights.sum() == pytest.approx(0, abs=1e-9)
        assert weights @ np.arange(length) == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(weights, weights[::-1], atol=1e-9)


def test_the_head_is_highest_and_the_bottoms_are_lowest() -> None:
    """A head and shoulders peaks in its middle; a double bottom has two equal lows."""
    shoulders, bottom = t.head_and_shoulders(31), t.double_bottom(25)
    assert shoulders.argmax() == 15
    assert set(np.flatnonzero(np.isclose(bottom, bottom.min()))) == {6, 18}


def test_chart_patterns_put_the_same_shapes_on_five_columns() -> None:
    """Each column of the hand-crafted kernels has one filled row, row 0 the lowest price."""
    assert t.head_and_shoulders_chart().argmax(axis=0).tolist() == [2, 1, 4, 1, 2]
    assert t.double_bottom_chart().argmax(axis=0).tolist() == [4, 0, 3, 0, 4]
    for weights in (t.head_and_shoulders_chart(), t.double_bottom_chart()):
        assert weights.sum(axis=0).tolist() == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("size", [3, 5, 7])
def test_up_and_down_are_mirrors_in_time(size: int) -> None:
    """The descending detectors are the ascending ones read from right to left."""
    np.testing.assert_array_equal(
        t.ramp(ascending=False, size=size), t.ramp(ascending=True, size=size)[:, ::-1]
    )
    np.testing.assert_array_equal(
        t.diagonal(up=False, size=size), t.diagonal(up=True, size=size)[:, ::-1]
    )


def test_a_difference_of_gaussians_likes_a_spot() -> None:
    """Positive in the center, negative around it, nothing to a flat patch."""
    weights = t.dog(5, 1.0, 3.0)
    assert weights.sum() == pytest.approx(0, abs=1e-12)
    assert weights[2, 2] == weights.max()
    assert weights[0, 0] < 0
    np.testing.assert_allclose(weights, weights.T)


def test_the_laplacian_sees_curvature_along_every_axis_and_nothing_flat() -> None:
    """A plane gives 0, a parabola along any axis 2."""
    weights = t.laplacian_3d()
    axes = np.mgrid[-1:2, -1:2, -1:2].astype(float)
    assert weights.sum() == pytest.approx(0, abs=1e-12)
    for x in axes:
        assert (weights * x).sum() == pytest.approx(0, abs=1e-12)
        assert (weights * x**2).sum() == pytest.approx(2)


def test_smile_curvature_is_blind_to_level_and_skew() -> None:
    """Raising or tilting a smile changes nothing; lifting its wings raises the answer."""
    weights, x = t.smile_curvature(), np.arange(9.0) - 4
    assert weights.sum() == pytest.approx(0, abs=1e-9)
    assert weights @ x == pytest.approx(0, abs=1e-9)
    assert weights @ x**2 > 0


def test_the_crossover_is_the_short_mean_less_the_long_one() -> None:
    """Both means end at the newest bar."""
    prices = np.random.default_rng(1).standard_normal(50).cumsum()
    expected = prices[-11:] @ t.gaussian(11, 4.0) - prices.mean()
    assert t.mean_crossover() @ prices == pytest.approx(expected)


@pytest.mark.parametrize("name", [n for n, row in TEMPLATES.items() if row.detects])
def test_detectors_have_mean_zero_and_norm_one(name: str) -> None:
    """What a bank starts from answers nothing to a constant, and in one unit."""
    weights = t.detector(TEMPLATES[name].weights())
    assert weights.mean() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(weights) == pytest.approx(1)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_registered_kernel_is_finite_float64(name: str) -> None:
    """A registry row builds without arguments; smoothing ones sum to 1."""
    weights = TEMPLATES[name].weights()
    assert weights.dtype == np.float64
    assert np.isfinite(weights).all()
    if not TEMPLATES[name].detects:
        assert weights.sum() == pytest.approx(1)


def test_blocks_and_the_rest_make_up_a_place() -> None:
    """Asking for blocks and for the others splits the series' kernels without loss."""
    blocks, rest = templates_of("series", blocks=True), templates_of("series", blocks=False)
    assert {row.owner for row in blocks} == BLOCKS - {"sobel"}
    assert {row.name for row in (*blocks, *rest)} == {row.name for row in templates_of("series")}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t.gaussian(4, 1.0), "odd number of taps"),
        (lambda: t.gaussian(5, 0.0), "sigma > 0"),
        (lambda: t.gaussian(-1, 1.0), "odd number of taps"),
        (lambda: t.sma(0), "k: expected at least 1, got 0"),
        (lambda: t.ema(0), "k: expected at least 1, got 0"),
        (lambda: t.mean_reversion(1), "at least 2, got 1"),
        (lambda: t.trend(1), "at least 2, got 1"),
        (lambda: t.ramp(ascending=True, size=1), "size: expected at least 2"),
        (lambda: t.diagonal(up=True, size=1), "size: expected at least 2"),
        (lambda: t.smile_curvature(2), "at least 3, got 2"),
        (lambda: t.mean_crossover(10), "at least 11, got 10"),
        (lambda: t.pattern((0, 1, 0), 2), "length: expected at least 3, got 2"),
        (lambda: t.detector(np.ones(4)), "constant kernel"),
    ],
)
def test_impossible_sizes_are_refused(call: object, message: str) -> None:
    """A size that leaves no kernel is named."""
    with pytest.raises(ConfigError, match=message):
        call()  # type: ignore[operator]
