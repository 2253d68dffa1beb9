"""The statistics of a series, by name: a Series (or a frame) in, a Series aligned to it out.

These are the functions of the fingerprint, for one column at a time. Every one is causal: row t
reads rows up to t. A row with less than a full window, or with a missing, zero or negative price in
its window, is NaN and no later row suffers; so is a ratio of two zeros, as the R² of a constant.
"""

import numpy as np
import pandas as pd

from atlas import formulas
from atlas.errors import BarsError, DataError
from atlas.rolling import Floats, window_sum

__all__ = [
    "HURST_WINDOW",
    "average_true_range",
    "hurst_exp",
    "kurtosis",
    "linreg_r2",
    "log_price",
    "realised_vol",
    "tick_spread",
    "variance_ratio_z",
    "zscore",
]

HURST_WINDOW = 256  # returns: the estimator's RMSE is .04 on a random walk of this length


def realised_vol(close: pd.Series, window: int = 30, *, bars_per_day: float = 1.0) -> pd.Series:
    """Return the root mean of the last `window` squared log returns, no mean removed, per day.

    Args:
        close: prices, (N,).
        window: returns, of `window` + 1 prices.
        bars_per_day: scales a bar's volatility to a day's; 1 for daily bars.

    Returns:
        Fraction per day, (N,); 0 for a constant price.

    Example:
        Closes 100, 110, 99 with window 2 give √((ln² 1.1 + ln² .9)/2) = .1005.
    """
    root = formulas.root_mean_square(formulas.differences(_log(close)), _window(window))
    return _like(close, root * np.sqrt(bars_per_day))


def linreg_r2(close: pd.Series, window: int = 30) -> pd.Series:
    """Return R² of the line through the last `window` log closes, in [0, 1].

    A constant price is NaN. Mind that 36 % of the 30-bar windows of a random walk reach .6: see
    `trend_r2_null` in the fingerprint.
    """
    return _like(close, formulas.r_squared(_log(close), _window(window)))


def hurst_exp(close: pd.Series, window: int = HURST_WINDOW) -> pd.Series:
    """Return the Hurst exponent ¼·log₂(mean d₄²/mean d₁²) of the last `window` log returns.

    d₁ and d₄ are log returns over one and four bars, no mean removed. Clipped to [0, 1]; about ½ on
    a random walk. A constant price is NaN.
    """
    ratio, _ = formulas.variance_ratio(_log(close), _window(window))
    with np.errstate(divide="ignore"):
        return _like(close, np.clip(0.25 * np.log2(ratio), 0.0, 1.0))


def variance_ratio_z(close: pd.Series, window: int = HURST_WINDOW) -> pd.Series:
    """Return the z of the variance ratio VR(4) of the last `window` log returns.

    About standard normal on a random walk, whatever its heteroskedasticity; above 0 when returns
    persist. Lo and MacKinlay (1988), without drift. NaN where no two returns near each other move.
    """
    ratio, error = formulas.variance_ratio(_log(close), _window(window))
    return _like(close, (0.25 * ratio - 1.0) / error)


def kurtosis(values: pd.Series, window: int = 30) -> pd.Series:
    """Return Pearson's kurtosis (normal = 3) of the last `window` values, say log returns.

    Between 1 and `window`; NaN where the values do not vary.
    """
    return _like(values, formulas.pearson_kurtosis(_floats(values), _window(window)))


def zscore(values: pd.Series, window: int = 30) -> pd.Series:
    """Return (newest − mean)/sd of the last `window` values, the newest among them.

    sd is the population's, so that no value passes ±√(window − 1). A constant is NaN.
    """
    return _like(values, formulas.rescaled(_floats(values), _window(window)))


def average_true_range(bars: pd.DataFrame, window: int = 14) -> pd.Series:
    """Return the simple mean of the last `window` true ranges, in units of price.

    The true range of a bar is max(high, close₋₁) − min(low, close₋₁) (Wilder, 1978).
    """
    ranges = formulas.true_range(*(_column(bars, name) for name in ("high", "low", "close")))
    return _like(bars["close"], window_sum(ranges, _window(window)) / window)


def tick_spread(bars: pd.DataFrame, window: int = 30) -> pd.Series:
    """Return the mean over `window` bars of the spread, (ask − bid)/mid, as a fraction.

    A row without a full window of `bid` and `ask` holds an estimate from the bars' ranges instead:
    the mean of Corwin and Schultz's (2012), from `high`, `low` and `close`, over `window` pairs of
    bars. It is rough: use it to tell a market of .05 % from one of .5 %.
    """
    estimated = formulas.corwin_schultz(
        *(_logs(_column(bars, name)) for name in ("high", "low", "close"))
    )
    spread = window_sum(estimated, _window(window)) / window
    if "bid" in bars and "ask" in bars:
        quoted = formulas.mean_spread(_floats(bars["bid"]), _floats(bars["ask"]), window)
        spread = np.where(np.isfinite(quoted), quoted, spread)
    return _like(bars["close"], spread)


def log_price(values: Floats) -> Floats:
    """Return the natural log, quietly: what is not above 0 becomes −inf or NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Floats = np.log(values)
    return out


def _window(window: int) -> int:
    if not isinstance(window, int | np.integer) or window < 1:
        raise DataError(f"window: expected a whole number of rows, at least 1; got {window!r}")
    return int(window)


def _column(bars: pd.DataFrame, name: str) -> Floats:
    if not isinstance(bars, pd.DataFrame) or name not in bars:
        came = list(bars) if isinstance(bars, pd.DataFrame) else type(bars).__name__
        raise BarsError(f"expected a pandas DataFrame with the column {name!r}; got {came}")
    return _floats(bars[name])


def _log(values: pd.Series) -> Floats:
    return _logs(_floats(values))


def _logs(values: Floats) -> Floats:
    out = log_price(values)
    return np.where(np.isfinite(out), out, np.nan)


def _floats(values: pd.Series) -> Floats:
    if not isinstance(values, pd.Series):
        raise DataError(f"expected a pandas Series of numbers, got {type(values).__name__}")
    try:
        return _numbers(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"series {values.name!r}: expected numbers; {error}") from None


def _numbers(values: pd.Series) -> Floats:
    return np.ascontiguousarray(values.to_numpy(dtype=np.float64, na_value=np.nan))


def _like(values: pd.Series, result: Floats) -> pd.Series:
    return pd.Series(result, index=values.index)
