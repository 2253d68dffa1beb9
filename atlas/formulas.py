"""The formulas of the fingerprint over plain arrays: one compiled function each, causal, no state.

Row t of a result reads rows up to t and no further back than its window, so that the end of a
short tail equals the same rows of a long history bit for bit. A row with less than a full window
or with a NaN or an infinity in its window is NaN; so is a ratio of two zeros, such as the R² of a
constant. `x` is always the log of a price, taken by the caller in NumPy.
"""

import math

import numpy as np

from atlas.rolling import Floats, compiled, window_moments, window_sum, window_trend

__all__ = [
    "corwin_schultz",
    "differences",
    "mean_spread",
    "pearson_kurtosis",
    "r_squared",
    "relative_spread",
    "rescaled",
    "root_mean_square",
    "true_range",
    "variance_ratio",
]

LAGS = 4  # bars in the longer return of the variance ratio
_CURVE = 3.0 - 2.0 * math.sqrt(2.0)  # Corwin and Schultz's constant


@compiled
def differences(x: Floats) -> Floats:
    """Return x[t] − x[t−1], NaN in the first row: (N,) to (N,)."""
    out = np.empty(x.size)
    out[:1] = np.nan
    new, old, rest = x[1:], x[:-1], out[1:]
    for i in range(rest.size):
        rest[i] = new[i] - old[i]
    return out


@compiled
def root_mean_square(values: Floats, window: int) -> Floats:
    """Return √mean(values²) of the last `window` values: (N,) to (N,)."""
    return np.sqrt(window_sum(values * values, window) / window)


@compiled
def r_squared(x: Floats, window: int) -> Floats:
    """Return R² of the least-squares line of x on time, in [0, 1]: (N,) to (N,)."""
    square, cross = window_trend(x, window)
    times = window * (window * window - 1.0) / 12.0
    out = np.empty(x.size)
    for i in range(x.size):
        share = cross[i] * cross[i] / (square[i] * times)
        out[i] = 1.0 if share > 1.0 else share
    return out


@compiled
def rescaled(values: Floats, window: int) -> Floats:
    """Return (newest − mean)/sd of the last `window` values, sd without correction: (N,)."""
    mean, square = window_moments(values, window)
    out = np.empty(values.size)
    for i in range(values.size):
        out[i] = (values[i] - mean[i]) / np.sqrt(square[i] / window)
    return out


@compiled
def pearson_kurtosis(returns: Floats, window: int) -> Floats:
    """Return Pearson's kurtosis (normal = 3) of the last `window` returns: (N,) to (N,).

    From sums of powers, as returns lie about zero. Where their variance is under a millionth of
    their mean square (a price growing at one rate) the powers cancel and the answer is NaN.
    """
    power = returns * returns
    first = window_sum(returns, window)
    second = window_sum(power, window)
    third = window_sum(power * returns, window)
    fourth = window_sum(power * power, window)
    out = np.empty(returns.size)
    scale = 1.0 / window
    for i in range(returns.size):
        m1, m2, m3, m4 = first[i] * scale, second[i] * scale, third[i] * scale, fourth[i] * scale
        variance = m2 - m1 * m1
        central = m4 - m1 * (4.0 * m3 - m1 * (6.0 * m2 - 3.0 * m1 * m1))
        out[i] = central / (variance * variance) if variance > 1e-6 * m2 else np.nan
    return out


@compiled
def variance_ratio(x: Floats, window: int) -> tuple[Floats, Floats]:
    """Return mean d4²/mean d1² of `window` returns, and the standard error of a quarter of it.

    d1 are the window's returns and d4 its window − 3 returns over four bars; a quarter of the ratio
    is the variance ratio VR(4), 1 for a random walk. Its standard error √θ is robust to
    heteroskedasticity: θ = Σⱼ (2(4−j)/4)²·Σ d²ₜd²ₜ₋ⱼ/(Σ d²)² over j = 1, 2, 3, without drift (no
    mean removed); Lo and MacKinlay (1988).
    """
    n, span = x.size, window - LAGS + 1
    ratio, error = np.full(n, np.nan), np.full(n, np.nan)
    if n <= window or span < 1:
        return ratio, error
    single = differences(x)
    power, four, pair = single * single, np.full(n, np.nan), np.full(n, np.nan)
    p0, p1, p2, p3 = power[4:], power[3:-1], power[2:-2], power[1:-3]
    new, old, f4, pr = x[4:], x[:-4], four[4:], pair[4:]
    for i in range(new.size):
        gap = new[i] - old[i]
        f4[i] = gap * gap
        pr[i] = p0[i] * (2.25 * p1[i] + p2[i] + 0.25 * p3[i])
    ones, fours, pairs = window_sum(power, span), window_sum(four, span), window_sum(pair, span)
    # the sums above cover the window but for its first three returns, added here
    one, two, three = power[1 : -window + 1], power[2 : -window + 2], power[3 : -window + 3]
    s1, s4, sp = ones[window:], fours[window:], pairs[window:]
    r, e = ratio[window:], error[window:]
    for i in range(r.size):
        total = s1[i] + (one[i] + two[i] + three[i])
        cross = sp[i] + 2.25 * two[i] * one[i] + three[i] * (2.25 * two[i] + one[i])
        r[i] = (s4[i] / span) / (total / window)
        e[i] = np.sqrt(cross) / total
    return ratio, error


@compiled
def mean_spread(bid: Floats, ask: Floats, window: int) -> Floats:
    """Return the mean of (ask − bid)/mid over the last `window` quotes: (N,) to (N,)."""
    return window_sum(relative_spread(bid, ask), window) / window


@compiled
def relative_spread(bid: Floats, ask: Floats) -> Floats:
    """Return (ask − bid)/mid of every quote, NaN where one is missing: (N,) to (N,)."""
    out = np.empty(bid.size)
    for i in range(bid.size):
        out[i] = (ask[i] - bid[i]) / (0.5 * (ask[i] + bid[i]))
    return out


@compiled
def true_range(high: Floats, low: Floats, close: Floats) -> Floats:
    """Return max(high, close₋₁) − min(low, close₋₁), NaN in the first row: (N,)."""
    out = np.empty(high.size)
    out[:1] = np.nan
    h, w, c, rest = high[1:], low[1:], close[:-1], out[1:]
    for i in range(rest.size):
        top = h[i] if h[i] > c[i] else c[i]
        bottom = w[i] if w[i] < c[i] else c[i]
        # a NaN is lost in comparisons, so the bar's own range and its gap are added as zeros
        rest[i] = top - bottom + 0.0 * (h[i] - w[i] + c[i])
    return out


@compiled
def corwin_schultz(high: Floats, low: Floats, x: Floats) -> Floats:
    """Estimate the spread of each bar from two bars' ranges, as a fraction of price: (N,).

    Args:
        high: log of the bars' highs; low: log of their lows; x: log of their closes.

    A range holds one spread whatever its length, and variance in proportion to it: Corwin and
    Schultz (2012), with their correction for a gap between the bars, negative estimates set to 0.
    """
    out = np.empty(high.size)
    out[:1] = np.nan
    h1, l1, c1, h2, l2, rest = high[:-1], low[:-1], x[:-1], high[1:], low[1:], out[1:]
    for i in range(rest.size):
        up, down = l2[i] - c1[i], h2[i] - c1[i]
        gap = (up if up > 0.0 else 0.0) + (down if down < 0.0 else 0.0)
        top, bottom = h2[i] - gap, l2[i] - gap
        one, two = h1[i] - l1[i], h2[i] - l2[i]
        both = (top if top > h1[i] else h1[i]) - (bottom if bottom < l1[i] else l1[i])
        beta = one * one + two * two
        alpha = (math.sqrt(2.0 * beta) - math.sqrt(beta)) / _CURVE - both / math.sqrt(_CURVE)
        alpha = alpha if alpha > 0.0 else 0.0 * (alpha + c1[i])
        rest[i] = 2.0 * math.tanh(0.5 * alpha)
    return out
