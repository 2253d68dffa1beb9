"""The statistics of a series: by hand, against references, on known processes, on bad input."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm

from atlas import stats
from atlas.errors import BarsError, DataError
from atlas.rolling import window_moments, window_sum, window_trend

RNG_SEED = 20261120


def walk(n: int, seed: int = RNG_SEED, scale: float = 0.01) -> pd.Series:
    rng = np.random.default_rng(seed)
    return pd.Series(100.0 * np.exp(np.cumsum(scale * rng.standard_normal(n))))


def bars_of(close: pd.Series, seed: int = RNG_SEED) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    opened = close.shift(1).fillna(close.iloc[0])
    high = np.maximum(opened, close) * (1 + 0.004 * rng.random(len(close)))
    low = np.minimum(opened, close) * (1 - 0.004 * rng.random(len(close)))
    volume = np.exp(8 + 0.4 * rng.standard_normal(len(close)))
    frame = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return pd.DataFrame(frame, index=close.index)


def fractional_noise(n: int, hurst: float, paths: int, seed: int) -> np.ndarray:
    """Draw exact fractional Gaussian noise by circulant embedding (Davies and Harte, 1987)."""
    k = np.arange(n + 1, dtype=float)
    cov = 0.5 * ((k + 1) ** (2 * hurst) - 2 * k ** (2 * hurst) + np.abs(k - 1) ** (2 * hurst))
    eigen = np.fft.fft(np.concatenate([cov, cov[-2:0:-1]])).real  # (2n,)
    assert eigen.min() > -1e-9, "the embedding of fractional noise is positive"
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((paths, 2 * n)) + 1j * rng.standard_normal((paths, 2 * n))
    return np.fft.fft(z * np.sqrt(np.maximum(eigen, 0) / (2 * n)), axis=1).real[:, :n]


def windows(values: np.ndarray, window: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(values, window)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 30, 253, 256])
def test_window_sums_moments_and_trends_match_brute_force(window: int) -> None:
    """For every size of window, merged halves give the sums that NumPy gives window by window."""
    x = np.log(walk(1_500).to_numpy())
    view = windows(x, window)
    time = np.arange(window) - 0.5 * (window - 1)
    mean, square = window_moments(x, window)
    trend_square, cross = window_trend(x, window)
    centered = view - view.mean(axis=1, keepdims=True)
    for ours, expected in (
        (window_sum(x, window), view.sum(axis=1)),
        (mean, view.mean(axis=1)),
        (square, (centered**2).sum(axis=1)),
        (trend_square, (centered**2).sum(axis=1)),
        (cross, centered @ time),
    ):
        assert np.isnan(ours[: window - 1]).all()
        np.testing.assert_allclose(ours[window - 1 :], expected, rtol=1e-11, atol=1e-12)


def test_long_window_sums_do_not_drift() -> None:
    """After ten million bars with a spike among them, a month of minutes sums to 1e-12 of fsum."""
    rng = np.random.default_rng(1)
    values = 1e-8 * rng.random(10_000_000)
    values[500_000] = 1e4
    window = 43_200
    ours = window_sum(values, window)
    for t in (window - 1, 600_000, 9_999_999):
        exact = float(np.sum(values[t - window + 1 : t + 1].astype(np.longdouble)))
        assert ours[t] == pytest.approx(exact, rel=1e-12)


def test_realised_vol_by_hand() -> None:
    """Two returns of +10 % and −10 % have the root mean square written in the docstring."""
    close = pd.Series([100.0, 110.0, 99.0])
    expected = np.sqrt((np.log(1.1) ** 2 + np.log(0.9) ** 2) / 2)
    vol = stats.realised_vol(close, window=2)
    assert vol.isna().tolist() == [True, True, False]
    assert vol.iloc[-1] == pytest.approx(expected, rel=1e-12) == pytest.approx(0.1005, abs=5e-5)
    minutes = stats.realised_vol(close, window=2, bars_per_day=1_440)
    assert minutes.iloc[-1] == pytest.approx(expected * np.sqrt(1_440))


def test_linreg_r2_matches_scipy_and_statsmodels() -> None:
    """R² is that of scipy's linregress and statsmodels' OLS of log close on time."""
    close = walk(200)
    ours = stats.linreg_r2(close, 30)
    for t in (29, 77, 199):
        y = np.log(close.to_numpy()[t - 29 : t + 1])
        r = scipy.stats.linregress(np.arange(30), y).rvalue
        ols = sm.OLS(y, sm.add_constant(np.arange(30.0))).fit()
        assert ours.iloc[t] == pytest.approx(r**2, rel=1e-10)
        assert ours.iloc[t] == pytest.approx(ols.rsquared, rel=1e-10)


def test_zscore_matches_scipy() -> None:
    """The newest value's z is scipy.stats.zscore's last, and never passes √(window − 1)."""
    values = np.log(bars_of(walk(300))["volume"])
    ours = stats.zscore(values)
    expected = [scipy.stats.zscore(values.to_numpy()[t - 29 : t + 1])[-1] for t in range(29, 300)]
    np.testing.assert_allclose(ours.to_numpy()[29:], expected, rtol=1e-10)
    spike = stats.zscore(pd.Series([1.0] * 29 + [1e9]))
    assert spike.iloc[-1] == pytest.approx(np.sqrt(29))


def test_kurtosis_matches_scipy() -> None:
    """Kurtosis is scipy's Pearson kurtosis, biased, also where returns have a mean far from 0."""
    rng = np.random.default_rng(3)
    values = pd.Series(0.05 + 0.01 * rng.standard_t(4, 400))
    expected = scipy.stats.kurtosis(windows(values.to_numpy(), 30), axis=1, fisher=False)
    np.testing.assert_allclose(stats.kurtosis(values).to_numpy()[29:], expected, rtol=1e-8)


def test_average_true_range_by_hand() -> None:
    """A gap up counts from the close before; the mean is simple."""
    bars = pd.DataFrame(
        {"high": [10.0, 14.0, 13.0], "low": [9.0, 13.0, 9.0], "close": [9.5, 13.5, 10.0]}
    )
    ranges = stats.average_true_range(bars, window=2)
    assert ranges.isna().tolist() == [True, True, False]
    assert ranges.iloc[-1] == pytest.approx(((14 - 9.5) + (13.5 - 9)) / 2)


def test_tick_spread_reads_quotes_where_there_are_any() -> None:
    """With bid and ask the spread is their mean gap over mid, not an estimate."""
    bars = bars_of(walk(100))
    quoted = bars.assign(bid=bars["close"] - 0.05, ask=bars["close"] + 0.05)
    expected = (0.1 / bars["close"]).rolling(30).mean()
    np.testing.assert_allclose(stats.tick_spread(quoted), expected, rtol=1e-9)
    missing = quoted.assign(bid=np.nan)
    pd.testing.assert_series_equal(stats.tick_spread(missing), stats.tick_spread(bars))


def test_corwin_schultz_matches_the_paper_formula() -> None:
    """The estimate follows equations 14 and 18 of Corwin and Schultz (2012), zero if negative."""
    bars = bars_of(walk(120))
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
    expected = [np.nan]
    for t in range(1, len(bars)):
        gap = max(low[t] - close[t - 1], 0) + min(high[t] - close[t - 1], 0)
        assert gap == 0, "these bars open at the close before"
        beta = np.log(high[t - 1] / low[t - 1]) ** 2 + np.log(high[t] / low[t]) ** 2
        gamma = np.log(max(high[t - 1 : t + 1]) / min(low[t - 1 : t + 1])) ** 2
        k = 3 - 2 * np.sqrt(2)
        alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
        expected.append(max(0.0, 2 * (np.exp(alpha) - 1) / (1 + np.exp(alpha))))
    reference = pd.Series(expected).rolling(30).mean()
    assert reference.max() > 0
    np.testing.assert_allclose(stats.tick_spread(bars), reference, rtol=1e-9, atol=1e-15)


def test_corwin_schultz_finds_a_known_spread() -> None:
    """On bars made of many ticks that bounce between bid and ask, the estimate finds the spread."""
    rng = np.random.default_rng(11)
    spread, ticks, n = 0.01, 390, 3_000
    mid = np.exp(np.cumsum(0.01 / np.sqrt(ticks) * rng.standard_normal(n * ticks)))
    price = (mid * (1 + 0.5 * spread * rng.choice([-1, 1], mid.size))).reshape(n, ticks)
    bars = pd.DataFrame(
        {"high": price.max(axis=1), "low": price.min(axis=1), "close": price[:, -1]}
    )
    assert stats.tick_spread(bars, 30).mean() == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.7])
def test_hurst_exp_finds_the_exponent_of_fractional_noise(hurst: float) -> None:
    """On exact fractional Gaussian noise the mean estimate is within .02 of H, its sd under .06."""
    noise = fractional_noise(256, hurst, paths=600, seed=5)
    closes = np.exp(0.01 * np.cumsum(np.pad(noise, ((0, 0), (1, 0))), axis=1))
    found = np.array([stats.hurst_exp(pd.Series(row)).iloc[-1] for row in closes])
    assert found.mean() == pytest.approx(hurst, abs=0.02)
    assert found.std() < 0.06


def test_hurst_exp_and_variance_ratio_match_brute_force() -> None:
    """Both follow their formulas over the last 256 returns, term by term."""
    close = walk(600, seed=8)
    hurst, z = stats.hurst_exp(close), stats.variance_ratio_z(close)
    assert hurst.isna().sum() == z.isna().sum() == 256
    for t in (256, 400, 599):
        x = np.log(close.to_numpy()[t - 256 : t + 1])
        d1, d4 = np.diff(x), x[4:] - x[:-4]
        ratio = (d4**2).mean() / (d1**2).mean()
        theta = sum(
            (2 * (4 - j) / 4) ** 2 * (d1[j:] ** 2 * d1[:-j] ** 2).sum() / (d1**2).sum() ** 2
            for j in (1, 2, 3)
        )
        assert hurst.iloc[t] == pytest.approx(0.25 * np.log2(ratio), rel=1e-10)
        assert z.iloc[t] == pytest.approx((ratio / 4 - 1) / np.sqrt(theta), rel=1e-8)


STATISTICS = {
    "realised_vol": lambda close: stats.realised_vol(close, window=30),
    "linreg_r2": lambda close: stats.linreg_r2(close, 30),
    "hurst_exp": stats.hurst_exp,
    "variance_ratio_z": stats.variance_ratio_z,
    "zscore": stats.zscore,
    "kurtosis": lambda close: stats.kurtosis(np.log(close).diff()),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_missing_price_spoils_its_own_windows_and_no_later_row(name: str) -> None:
    """Rows whose window holds the gap are NaN; every other row keeps its bits."""
    close, gap = walk(1_200), 500
    whole = STATISTICS[name](close)
    for hole in (np.nan, np.inf):
        holed = STATISTICS[name](close.where(close.index != gap, hole))
        reach = 256 if "hurst" in name or "ratio" in name else 29 if name != "realised_vol" else 30
        reach += name == "kurtosis"
        assert holed.iloc[gap : gap + reach + 1].isna().all()
        pd.testing.assert_series_equal(holed[:gap], whole[:gap], check_exact=True)
        after = slice(gap + reach + 1, None)
        pd.testing.assert_series_equal(holed[after], whole[after], check_exact=True)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_short_tail_ends_with_the_same_bits_as_the_history(name: str) -> None:
    """The last row depends on the values of its window alone, not on where the series begins."""
    close = walk(5_000)
    whole = STATISTICS[name](close).iloc[-1]
    for length in (257, 300, 4_999):
        assert STATISTICS[name](close.iloc[-length:]).iloc[-1] == whole


def test_degenerate_input_has_a_stated_answer() -> None:
    """A constant price has no volatility and no R², Hurst, z or kurtosis; short input is NaN."""
    constant = pd.Series(np.full(400, 123.456))
    assert stats.realised_vol(constant).iloc[-1] == 0.0
    for name in ("linreg_r2", "hurst_exp", "variance_ratio_z", "zscore", "kurtosis"):
        assert STATISTICS[name](constant).isna().all(), name
        assert STATISTICS[name](constant[:20]).isna().all(), name
        assert STATISTICS[name](constant[:1]).isna().all(), name
        assert STATISTICS[name](constant[:0]).empty, name
    line = pd.Series(100 * 1.01 ** np.arange(400.0))
    assert stats.linreg_r2(line).iloc[-1] == pytest.approx(1.0)
    assert stats.hurst_exp(line).iloc[-1] == pytest.approx(1.0), "d₄ = 4·d₁, so ¼·log₂ 16 = 1"
    assert np.isnan(STATISTICS["kurtosis"](line).iloc[-1])
    zero = walk(400)
    zero[300] = 0.0
    assert stats.linreg_r2(zero).iloc[300:330].isna().all()
    assert stats.realised_vol(zero).iloc[331:].notna().all()


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_statistics_have_no_scale(scale: float) -> None:
    """Prices of 1e-9 or 1e9 give what prices of 100 give."""
    close = walk(400)
    for name in ("realised_vol", "linreg_r2", "hurst_exp", "zscore", "kurtosis"):
        ours, scaled = STATISTICS[name](close), STATISTICS[name](close * scale)
        np.testing.assert_allclose(scaled, ours, rtol=1e-6, err_msg=name)


def test_what_is_no_series_and_no_window_is_named() -> None:
    """Lists, frames, text, windows of no rows and missing columns are errors that say so."""
    close = walk(40)
    for wrong in ([1.0, 2.0], close.to_frame()):
        with pytest.raises(DataError, match="expected a pandas Series of numbers"):
            stats.zscore(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="series 'close': expected numbers"):
        stats.realised_vol(pd.Series(["a"], name="close"))
    for window in (0, -1, 2.5):
        with pytest.raises(DataError, match="window: expected a whole number"):
            stats.linreg_r2(close, window)  # type: ignore[arg-type]
    with pytest.raises(BarsError, match="with the column 'high'; got \\['close'\\]"):
        stats.tick_spread(close.to_frame("close"))
