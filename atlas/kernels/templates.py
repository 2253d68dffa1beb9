"""Every kernel of the seed (§3.1, §3.2) as a pure function that returns its weights.

Conventions:

- weights are float64, to be *correlated* with their input (as torch does): nothing is flipped;
- along time the oldest bar comes first and the newest last;
- in a chart kernel (rows, columns) = (price levels, bars), row 0 the lowest price;
- smoothing kernels sum to 1; detecting kernels are given with the numbers people know them by,
  and `detector` makes them zero-mean and unit-norm, which is how `atlas.kernels.bank` starts.

A further kernel is a function here and a row of `atlas.kernels.registry`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas.errors import ConfigError

__all__ = [
    "delta_4",
    "detector",
    "diagonal",
    "dog",
    "double_bottom",
    "double_bottom_chart",
    "ema",
    "gap",
    "gaussian",
    "head_and_shoulders",
    "head_and_shoulders_chart",
    "laplacian_3d",
    "last_return",
    "mean_crossover",
    "mean_reversion",
    "momentum_comb",
    "pattern",
    "ramp",
    "sma",
    "smile_curvature",
    "sobel",
    "trend",
]

Weights = npt.NDArray[np.float64]

_HEAD_AND_SHOULDERS = (0.0, 0.6, 0.2, 1.0, 0.2, 0.6, 0.0)
_DOUBLE_BOTTOM = (1.0, -1.0, 0.6, -1.0, 1.0)


def sma(k: int) -> Weights:
    """Return the box kernel of a simple moving average over k bars, (k,), sum 1.

    Example:
        `sma(5)` is five times 0.2.
    """
    _at_least("k", k, 1)
    return np.full(k, 1 / k)


def ema(k: int) -> Weights:
    """Return the exponential moving average of span k, cut off after k bars, (k,), sum 1.

    A bar i bars back weighs (1 − α)^i with α = 2 / (k + 1), before the sum is made 1.
    """
    _at_least("k", k, 1)
    weights = (1 - 2 / (k + 1)) ** np.arange(k - 1, -1, -1)
    return np.asarray(weights / weights.sum(), np.float64)


def gaussian(taps: int, sigma: float) -> Weights:
    """Return a sampled Gaussian around its middle tap, (taps,), sum 1.

    Args:
        taps: odd, at least 1.
        sigma: standard deviation in bars, above 0.

    Raises:
        ConfigError: if `taps` is even or `sigma` not positive.
    """
    if taps < 1 or taps % 2 == 0 or sigma <= 0:
        raise ConfigError(
            f"gaussian: expected an odd number of taps and sigma > 0, got {taps} and {sigma}"
        )
    weights = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2)
    return np.asarray(weights / weights.sum(), np.float64)


def sobel(axis: Literal["price", "time"]) -> Weights:
    """Return Sobel's 3×3 edge operator (Sobel and Feldman, 1968), derivative along `axis`.

    `price` answers to an upper or lower edge such as a breakout wick, `time` to its side.
    """
    across_time = np.outer([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0])
    return np.asarray(across_time if axis == "time" else across_time.T, np.float64)


def gap() -> Weights:
    """Return the 1×5 high-pass differentiator [1, −8, 0, 8, −1] / 12, (5,).

    The five-point first derivative (Fornberg, 1988), exact on cubics, so that a smooth drift
    cancels and a step between two sessions stands out.
    """
    return np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / 12


def last_return() -> Weights:
    """Return the first difference [−1, 1], (2,): the raw return that passes beside the others."""
    return np.array([-1.0, 1.0])


def dog(size: int, inner: float, outer: float) -> Weights:
    """Return a difference of Gaussians (Marr and Hildreth, 1980), (size, size), sum 0.

    Args:
        size: odd side length.
        inner: σ of the positive center, in pixels.
        outer: σ of the negative surround, larger than `inner`.
    """
    center, surround = gaussian(size, inner), gaussian(size, outer)
    return np.asarray(np.outer(center, center) - np.outer(surround, surround), np.float64)


def mean_reversion(k: int = 11) -> Weights:
    """Return the last value less a long-tailed mean of the k − 1 before it, (k,), sum 0.

    A value i bars back weighs 1 / i in that mean, so the memory fades slowly and a spike is
    measured against the level it left.
    """
    _at_least("k", k, 2)
    tail = 1 / np.arange(k - 1, 0, -1)
    return np.append(-tail / tail.sum(), 1.0)


def delta_4() -> Weights:
    """Return the fourth difference [1, −4, 6, −4, 1], (5,), which cancels every cubic."""
    return np.array([1.0, -4.0, 6.0, -4.0, 1.0])


def momentum_comb() -> Weights:
    """Return the seed's comb [−1, −2, 0, 2, 1], (5,).

    On prices it weighs the last four returns 1, 3, 3, 1: a burst that has gone on for some bars.
    """
    return np.array([-1.0, -2.0, 0.0, 2.0, 1.0])


def ramp(*, ascending: bool, size: int = 5) -> Weights:
    """Return a triangular ramp detector, (size, size): filled below a slope, empty above it.

    Ascending: +1 where the price row lies below the column's place on the rising diagonal, −1
    above it and 0 on it; descending is its mirror in time.
    """
    _at_least("size", size, 2)
    rows, columns = np.mgrid[:size, :size]
    slope = columns - rows if ascending else size - 1 - columns - rows
    return np.asarray(np.sign(slope), np.float64)


def pattern(knots: Sequence[float], length: int) -> Weights:
    """Draw a line through knots at equal steps over `length` bars, less its own trend, (length,).

    The trend is removed because a pattern tilted by a drift is the same pattern.

    Example:
        `pattern((1, -1, 1), 5)` is V-shaped: (0.8, -0.2, -1.2, -0.2, 0.8).
    """
    _at_least("length", length, len(knots))
    drawn = np.interp(np.linspace(0, len(knots) - 1, length), np.arange(len(knots)), knots)
    line = np.polynomial.Polynomial.fit(np.arange(length), drawn, 1)
    return np.asarray(drawn - line(np.arange(length)), np.float64)


def head_and_shoulders(length: int = 32) -> Weights:
    """Return the head-and-shoulders template over `length` bars of a price line, detrended.

    Knots: neckline 0, shoulder .6, .2, head 1, .2, shoulder .6, neckline 0.
    """
    return pattern(_HEAD_AND_SHOULDERS, length)


def double_bottom(length: int = 24) -> Weights:
    """Return the double-bottom template over `length` bars: knots 1, −1, .6, −1, 1, detrended."""
    return pattern(_DOUBLE_BOTTOM, length)


def head_and_shoulders_chart() -> Weights:
    """Return the hand-crafted 5×5 head and shoulders: shoulder, trough, head, trough, shoulder."""
    return _traced((2, 1, 4, 1, 2))


def double_bottom_chart() -> Weights:
    """Return the hand-crafted 5×5 double bottom: high, low, middle, low, high."""
    return _traced((4, 0, 3, 0, 4))


def trend(k: int = 7) -> Weights:
    """Return the long-range trend detector −(k−1)/2 … (k−1)/2, (k,): a least-squares slope.

    The seed's 7×1 is shipped both ways: along time on series and charts, along price on charts.
    """
    _at_least("k", k, 2)
    return np.asarray(np.arange(k) - (k - 1) / 2, np.float64)


def diagonal(*, up: bool, size: int = 5) -> Weights:
    """Return a diagonal trend kernel, (size, size): 1 on ↗ (or ↘), 0 elsewhere."""
    _at_least("size", size, 2)
    rising = np.eye(size)  # row 0 is the lowest price, so the main diagonal rises
    return rising if up else rising[:, ::-1].copy()


def laplacian_3d() -> Weights:
    """Return the 3×3×3 Laplacian over (time, strike, tenor) as a sum of separable terms, sum 0.

    Each term is the second difference [1, −2, 1] along one axis and the binomial [1, 2, 1] / 4
    along the other two, which keeps quote noise from passing for convexity.
    """
    second, smooth = np.array([1.0, -2.0, 1.0]), np.array([1.0, 2.0, 1.0]) / 4
    terms = ((second, smooth, smooth), (smooth, second, smooth), (smooth, smooth, second))
    return np.asarray(sum(np.einsum("i,j,k->ijk", *term) for term in terms), np.float64)


def smile_curvature(strikes: int = 9) -> Weights:
    """Return the least-squares curvature across the strikes of a smile, (strikes,), sum 0.

    The quadratic orthogonal polynomial on equal steps (Savitzky and Golay, 1964): blind to level
    and slope, positive where both wings stand above the middle. For 9 strikes it is proportional
    to 28, 7, −8, −17, −20, −17, −8, 7, 28.
    """
    _at_least("strikes", strikes, 3)
    x = trend(strikes)
    return np.asarray(x**2 - np.mean(x**2), np.float64)


def mean_crossover(k: int = 50) -> Weights:
    """Return an 11-bar Gaussian mean (σ 4) less the mean of k bars, (k,), sum 0.

    Both means end at the newest bar; what is left is where a quiet market stands in its range.
    """
    _at_least("k", k, 11)
    residual = -sma(k)
    residual[-11:] += gaussian(11, 4.0)
    return residual


def detector(weights: Weights) -> Weights:
    """Shift weights of any shape to mean 0 and scale them to norm 1.

    Raises:
        ConfigError: if all weights are equal, so that nothing would be left.
    """
    centered = weights - weights.mean()
    norm = float(np.linalg.norm(centered))
    if norm < 1e-12:
        raise ConfigError("detector: expected weights that differ, got a constant kernel")
    return np.asarray(centered / norm, np.float64)


def _traced(rows: Sequence[int]) -> Weights:
    drawn = np.zeros((5, 5))
    drawn[list(rows), np.arange(5)] = 1.0
    return drawn


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name}: expected at least {least}, got {value}")
