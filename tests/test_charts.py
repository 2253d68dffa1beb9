"""Charts, series and surfaces against plain loops, by hand, and on what is missing."""

import hashlib

import numpy as np
import pytest

from atlas.charts import CHART_SHAPE, WINDOW, render, render_series, render_surfaces
from atlas.errors import BarsError


def bars_of(n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(n)))
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(opened, close) * (1 + 0.004 * rng.random(n))
    low = np.minimum(opened, close) * (1 - 0.004 * rng.random(n))
    return np.stack([opened, high, low, close, np.exp(8 + 0.4 * rng.standard_normal(n))])


def naive_chart(bars: np.ndarray, end: int) -> np.ndarray:
    """Draw one window as DESIGN §5 says, element by element."""
    window = bars[:, end - WINDOW + 1 : end + 1]
    valid = np.isfinite(window[:4]).all(axis=0)
    _, height, width = CHART_SHAPE
    out = np.zeros(CHART_SHAPE)
    if not valid.any():
        return out
    low, high = window[2, valid].min(), window[1, valid].max()
    most = np.nanmax(np.where(valid, window[4], np.nan))
    for i in range(width):
        if not valid[i]:
            continue
        if high > low:
            o, h, w, c = (float(window[k, i] - low) / (high - low) * height for k in range(4))
        else:
            o = h = w = c = height / 2
        v = window[4, i] / most * height if window[4, i] > 0 else 0.0
        for y in range(height):

            def cover(x: float, row: int = y) -> float:
                return min(max(x - row, 0.0), 1.0)

            out[0, y, i] = cover(h) - cover(w)
            out[1, y, i] = cover(c) - cover(o)
            out[2, y, i] = max(0.0, 1 - abs(c - 0.5 - y))
            out[3, y, i] = cover(v)
    return out


def test_charts_match_a_naive_loop() -> None:
    """Every pixel of every channel is what the formulas give, overlapping windows included."""
    bars = bars_of(300)
    ends = np.array([63, 64, 120, 299, 120])
    images = render(bars, ends)
    assert images.shape == (5, *CHART_SHAPE)
    assert images.dtype == np.float32
    for image, end in zip(images, ends, strict=True):
        np.testing.assert_allclose(image, naive_chart(bars, end), atol=2e-5)
    assert np.array_equal(images[2], images[4])


def test_no_bit_has_changed() -> None:
    """Models were trained on these pixels; holes, flat windows and no volume among them."""
    bars = bars_of(700).round(6)
    bars[:, 100], bars[4, 200:300], bars[:4, 400:500] = np.nan, 0.0, 7.0
    images = render(bars, np.arange(63, 700, 7))
    digest = hashlib.sha256(images.tobytes()).hexdigest()[:16]
    assert digest == "653f99fd0fe95f0c"


def test_a_chart_by_hand() -> None:
    """Row 0 is the lowest price; a rising line of bars climbs, its body positive, one row a bar."""
    level = np.arange(WINDOW) / 2.0  # 0 … 31.5
    bars = np.stack([level, level + 0.5, level, level + 0.5, np.full(WINDOW, 3.0)])  # 0 … 32
    image = render(bars, np.array([WINDOW - 1]))[0]
    assert image[0, 0, :3].tolist() == [0.5, 0.5, 0.0], "the range covers half of its row"
    assert image[0, 31, -2:].tolist() == [0.5, 0.5]
    assert np.array_equal(image[1], image[0]), "an up bar without wicks is all body"
    # the first close, at .5, is centered on row 0; the second, at 1, is shared by rows 0 and 1
    assert image[2, :2, :2].tolist() == [[1.0, 0.5], [0.0, 0.5]]
    np.testing.assert_allclose(image[3], 1.0, err_msg="equal volumes fill their channel")
    falling = render(bars[[3, 1, 2, 0, 4]], np.array([WINDOW - 1]))[0]
    assert np.array_equal(falling[1], -image[1])


def test_the_range_holds_each_bars_height() -> None:
    """A channel's column sums to its level: anti-aliasing loses nothing."""
    bars = bars_of(200)
    image = render(bars, np.array([199]))[0]
    window = bars[:, 136:]
    scale = 32 / (window[1].max() - window[2].min())
    np.testing.assert_allclose(image[0].sum(axis=0), (window[1] - window[2]) * scale, atol=1e-3)
    np.testing.assert_allclose(image[1].sum(axis=0), (window[3] - window[0]) * scale, atol=1e-3)


def test_scale_and_level_do_not_show() -> None:
    """A chart is the same at another price and at another volume: only the form is drawn."""
    bars = bars_of(100)
    ends = np.array([99])
    other = bars * np.array([1e6, 1e6, 1e6, 1e6, 1e-3])[:, None]
    np.testing.assert_allclose(render(other, ends), render(bars, ends), atol=1e-4)
    np.testing.assert_allclose(render_series(other, ends), render_series(bars, ends), atol=1e-4)


def test_missing_bars_draw_nothing() -> None:
    """A bar with a missing price is an empty column; a missing volume empties its channel only."""
    bars = bars_of(100)
    bars[1, 80] = np.nan
    bars[4, 90] = np.nan
    image = render(bars, np.array([99]))[0]
    np.testing.assert_allclose(image, naive_chart(bars, 99), atol=2e-5)
    assert not image[:, :, 80 - 36].any()
    assert not image[3, :, 90 - 36].any()
    assert image[0, :, 90 - 36].any()
    assert not render(np.full((5, 64), np.nan), np.array([63])).any()
    assert not render_series(np.full((5, 64), np.nan), np.array([63])).any()


def test_a_constant_price_lies_at_mid_height() -> None:
    """Without any range there is no bar and no body, and the line is shared by two rows."""
    bars = np.full((5, 64), 7.0)
    image = render(bars, np.array([63]))[0]
    assert not image[:2].any()
    assert (image[2, 15:17] == 0.5).all()
    assert image[2].sum() == pytest.approx(64)
    assert not render_series(bars, np.array([63])).any()


def test_nothing_after_a_window_shows() -> None:
    """Poisoning every later bar leaves images and series of a window as they are."""
    bars = bars_of(200)
    poisoned = bars.copy()
    poisoned[:, 101:] *= 1_000
    ends = np.array([100])
    assert np.array_equal(render(bars, ends), render(poisoned, ends))
    assert np.array_equal(render_series(bars, ends), render_series(poisoned, ends))


def test_the_buffer_is_written_whole_and_returned() -> None:
    """A reused buffer keeps nothing of its last batch; one that does not fit is refused."""
    bars, ends = bars_of(200), np.array([70, 150])
    out = np.full((2, *CHART_SHAPE), np.nan, np.float32)
    assert render(bars, ends, out) is out
    assert np.array_equal(out, render(bars, ends))
    with pytest.raises(BarsError, match="float32 buffer of shape"):
        render(bars, ends, np.empty((2, 4, 32, 63), np.float32))
    with pytest.raises(BarsError, match="a window needs 64 bars"):
        render(bars, np.array([62]))
    with pytest.raises(BarsError, match="between 63 and 199"):
        render_series(bars, np.array([200]))
    with pytest.raises(BarsError, match=r"\(5, N\)"):
        render(bars[:4], ends)
    for odd in (ends + 0.5, ends[None]):
        with pytest.raises(BarsError, match=r"window ends as whole numbers \(B,\), got"):
            render(bars, odd)


def test_series_match_their_definition() -> None:
    """Prices are logs from the last close in units of eight bars' moves, volume a z-score."""
    bars = bars_of(120)
    series = render_series(bars, np.array([119]))[0]
    window = bars[:, 56:]
    step = np.sqrt((np.diff(np.log(window[3])) ** 2).mean())
    prices = np.log(window[:4] / window[3, -1]) / (step * np.sqrt(8))
    np.testing.assert_allclose(series[:4], np.clip(prices, -8, 8), rtol=1e-5, atol=1e-6)
    logs = np.log(window[4])
    np.testing.assert_allclose(series[4], (logs - logs.mean()) / logs.std(), rtol=1e-5, atol=1e-6)
    assert series[3, -1] == 0.0
    bars[3, 100] = np.nan
    bars[4, 110] = 0.0
    holed = render_series(bars, np.array([119]))[0]
    assert np.isfinite(holed).all()
    assert holed[3, 100 - 56] == holed[4, 110 - 56] == 0.0


def test_surfaces_match_a_naive_loop() -> None:
    """Volatility is centered on nearest at-the-money; the mask says what is there."""
    rng = np.random.default_rng(2)
    grid = 0.3 + 0.05 * rng.standard_normal((150, 3, 9))
    grid[rng.random(grid.shape) < 0.2] = np.nan
    ends = np.array([63, 149])
    images = render_surfaces(grid, ends)
    assert images.shape == (2, 2, 3, 9, WINDOW)
    for image, end in zip(images, ends, strict=True):
        window = grid[end - 63 : end + 1].transpose(1, 2, 0)
        centered = (window - np.nanmean(window[0, 4])) / 0.1
        np.testing.assert_allclose(image[0], np.nan_to_num(centered, nan=0.0), atol=1e-5)
        assert np.array_equal(image[1], np.isfinite(window))
    grid[:, 0, 4] = np.nan
    centered = (grid[86:].transpose(1, 2, 0) - np.nanmean(grid[86:])) / 0.1
    np.testing.assert_allclose(
        render_surfaces(grid, ends)[1, 0], np.nan_to_num(centered, nan=0.0), atol=1e-5
    )
    with pytest.raises(BarsError, match="tenors, strikes"):
        render_surfaces(grid[:, 0], ends)
