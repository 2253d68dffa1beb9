"""The fingerprint's own windows: the same numbers as the formulas of any window, for any input."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas import formulas, nulls, passes
from atlas.rolling import compile_time_told, window_sum


def walk(seed: int, n: int, scale: float, holes: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = 3.0 + np.cumsum(scale * rng.standard_normal(n))
    if n:
        x[rng.integers(0, n, holes)] = rng.choice([np.nan, -np.inf, np.inf])
    return x


def rows_of(function: object, *values: object, rows: int) -> np.ndarray:
    out = np.full(rows, 7.0, np.float32)
    function(*values, out)  # type: ignore[operator]
    return out


def ratio_of(x: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    ratio, error = np.full(rows, 7.0), np.full(rows, 7.0)
    passes.ratio_256(x, ratio, error)
    return ratio, error


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 700),
    st.integers(0, 300),
    st.sampled_from([1e-6, 1e-3, 0.3]),
    st.integers(0, 3),
)
def test_passes_are_the_formulas(seed: int, n: int, back: int, scale: float, holes: int) -> None:
    """The last rows of every pass are those of the formula of its window, holes and all."""
    x = walk(seed, n, scale, holes)
    rows = max(n - back, 0)
    last = slice(n - rows, None)
    moves, price = formulas.differences(x), np.full(n, 3.0)
    r2, null = np.empty(rows, np.float32), np.empty(rows, np.float32)
    passes.trend_30(x, nulls.TREND_TABLE, r2, null)
    expected = formulas.r_squared(x, 30)
    near = {"rtol": 1e-6, "atol": 1e-7}
    np.testing.assert_allclose(r2, expected[last], **near)
    np.testing.assert_allclose(null, nulls.trend_null(expected)[last], rtol=1e-5, atol=1e-6)
    for ours, theirs in (
        (rows_of(passes.zscore_30, x, rows=rows), formulas.rescaled(x, 30)),
        (rows_of(passes.kurtosis_30, moves, rows=rows), formulas.pearson_kurtosis(moves, 30)),
        (rows_of(passes.mean_30, moves, rows=rows), window_sum(moves, 30) / 30),
        (rows_of(passes.atr_14, moves, price, rows=rows), window_sum(moves, 14) / (14 * price)),
    ):
        np.testing.assert_allclose(ours, theirs[last], **near)
    for ours, theirs in zip(ratio_of(x, rows), formulas.variance_ratio(x, 256), strict=True):
        np.testing.assert_allclose(ours, theirs[last], rtol=1e-10)


@pytest.mark.parametrize("level", [1e-9, 1.0, 1e9])
def test_a_constant_has_no_variance_at_all(level: float) -> None:
    """Equal values have a variance of exactly 0, so that their ratios are NaN and not noise."""
    x = np.full(300, level)
    r2, null = np.empty(300, np.float32), np.empty(300, np.float32)
    passes.trend_30(x, nulls.TREND_TABLE, r2, null)
    assert np.isnan(r2).all()
    assert np.isnan(null).all()
    assert np.isnan(rows_of(passes.zscore_30, x, rows=300)).all()
    assert np.isnan(rows_of(passes.kurtosis_30, x - x, rows=300)).all()
    assert np.isnan(ratio_of(x, 300)[0]).all()


def test_a_score_on_a_high_level_keeps_its_digits() -> None:
    """A billion added to every value changes z-scores by rounding of the sum alone."""
    values = np.random.default_rng(1).integers(-1_000, 1_000, 500).astype(np.float64)
    np.testing.assert_allclose(
        rows_of(passes.zscore_30, values + 1e9, rows=400),
        rows_of(passes.zscore_30, values, rows=400),
        rtol=1e-5,
        atol=1e-6,
    )


def test_sums_do_not_drift_over_ten_million_bars() -> None:
    """A 43,200-bar sum after ten million values is the exact one within 1e-9, past a huge value."""
    values = 1e-6 * np.random.default_rng(3).standard_normal(10_000_000) ** 2
    values[1_000] = 1e12
    sums = window_sum(values, 43_200)
    for end in (43_200, 50_000, 5_000_000, 10_000_000):
        exact = math.fsum(values[end - 43_200 : end])
        assert abs(sums[end - 1] - exact) <= 1e-9 * exact


def test_the_user_is_told_of_compiling_and_of_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A block in which a function was compiled says so once; one that found it on disk does not."""
    function = SimpleNamespace(stats=SimpleNamespace(cache_misses={}))
    with compile_time_told("fingerprint", function):
        pass
    assert not caplog.messages
    with compile_time_told("fingerprint", function):
        function.stats.cache_misses["signature"] = 1
    with compile_time_told("fingerprint", function):
        pass
    assert len(caplog.messages) == 1
    assert "fingerprint: compiled in 0.0 s, kept on disk" in caplog.messages[0]
