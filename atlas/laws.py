"""The laws of the simulated markets: rows of data, and the recursion that follows one path.

The table is frozen (a test holds a digest of what it makes); a change needs a reason in CHANGELOG.
Only the *sign* of the next move is modelled, with a known probability p, so the best accuracy
that any model can reach is known. What the law leaves open is settled here:

- Bar 0 moves away from a close of 100, so N bars have N returns; p = ½ for bars 0 … 63, and bar t
  reads the 64 returns that end with bar t−1. Standard deviations divide by 64.
- The path goes on from the close *as written* (rounded), not from an unrounded one: rounding then
  never turns a move's sign, and errors of the last bit cannot add up between processors. Returns
  are log(close / previous close) of written closes, and log closes are their running sums, for
  the same reason. A move smaller than half a unit of rounding is a tie.
- A close never falls below .01: rounding would leave no return to read. This takes a path through
  nine natural logarithms; only crypto's level on a daily chart can come near.
- A surface's curvature q is kept on a grid of 4e-6 and its level x on 1e-5, so that the nearest
  tenor, written at 1e-6, holds q exactly: the butterfly is q/2, its change has the sign of q's.
- The Gaussian weights of low_vol_etf are the symmetric 11-tap filter the expert is named for.
"""

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from atlas.rolling import compiled

__all__ = [
    "CHART_LAWS",
    "LAWS",
    "WARM_UP",
    "Law",
    "chart_probabilities",
    "follow_chart",
    "follow_surface",
    "sign_evidence",
]

Floats: TypeAlias = NDArray[np.float64]
Longs: TypeAlias = NDArray[np.int64]

WARM_UP = 64  # bars a law reads, and bars of a pure random walk before it starts
FIRST_CLOSE = 100.0
LOWEST_CLOSE = 0.01
TICK = 1e4  # prices are multiples of 1 / TICK
P_UNIT = 1e9  # p is a multiple of 1 / P_UNIT
LARGEST_E = 8.0
LARGEST_H = 25.0
LOWEST_P, HIGHEST_P = 0.03, 0.97
CRYPTO, INTRADAY, DAILY, TREND, SKEW, ETF = range(6)


class Law(NamedTuple):
    """One simulated market: the row of its archetype.

    Attributes:
        code: which formula s follows.
        expert_id: the expert the law is made for.
        prefix: of its symbols' names.
        level: size of a move per day, fraction (surfaces: 1, the formula has its own).
        alpha: weight of the last squared move in h.
        beta: weight of the last h.
        df: Student-t degrees of freedom of a move's size.
        volume_slope: rise of log volume with the size of a move.
        spread: of the quotes, fraction of the close.
        kappa: strength of the law.
        bayes: the best accuracy any model can have.
        bars_a_day: bars in a full session.
    """

    code: int
    expert_id: str
    prefix: str
    level: float
    alpha: float
    beta: float
    df: float
    volume_slope: float
    spread: float
    kappa: float
    bayes: float
    bars_a_day: int


LAWS: dict[str, Law] = {
    "crypto_1min": Law(
        CRYPTO, "crypto_hft", "CRY", 0.10, 0.12, 0.80, 3.5, 0.9, 0.0004, 1.6, 0.62, 1440
    ),
    "equity_5min": Law(
        INTRADAY, "equity_intraday", "EQI", 0.02, 0.08, 0.85, 4.0, 0.5, 0.0002, 0.22, 0.68, 78
    ),
    "equity_daily": Law(
        DAILY, "equity_daily", "EQD", 0.012, 0.06, 0.90, 5.0, 0.25, 0.0006, 2.6, 0.70, 1
    ),
    "futures_30min": Law(
        TREND, "futures_trend", "FUT", 0.015, 0.05, 0.90, 5.0, 0.25, 0.0003, 1.15, 0.69, 46
    ),
    "options_skew": Law(SKEW, "options_skew", "OPT", 1.0, 0.05, 0.90, 4.0, 0.0, 0.0, 0.62, 0.63, 1),
    "low_vol_etf": Law(
        ETF, "low_vol_etf", "ETF", 0.0035, 0.04, 0.93, 6.0, 0.25, 0.0003, 1.3, 0.645, 1
    ),
}


CHART_LAWS = tuple(law.expert_id for law in LAWS.values() if law.code != SKEW)
READS = (1, 4, 24, 30, 0, 50)  # returns, by code
_CHART_LAWS = (
    np.array([law.code for law in LAWS.values() if law.code != SKEW]),
    np.array([law.kappa for law in LAWS.values() if law.code != SKEW]),
)


def _straight_residual(values: Floats) -> Floats:
    """Remove the least-squares line."""
    time = np.arange(len(values)) - (len(values) - 1) / 2
    centered = values - values.mean()
    residual: Floats = centered - time * (time @ centered) / (time @ time)
    return residual


W_SHAPE = _straight_residual(np.interp(np.linspace(0, 4, 24), np.arange(5.0), [1, -1, 0.6, -1, 1]))
_SMOOTHER = np.exp(-0.5 * ((np.arange(11) - 5) / 4.0) ** 2)
SMOOTHER = _SMOOTHER / _SMOOTHER.sum()


@compiled
def _line(y: Floats) -> tuple[float, float]:
    """Return slope and R² of the least-squares line through equally spaced values."""
    n = len(y)
    mean = y.sum() / n
    along, across, total = 0.0, 0.0, 0.0
    for k in range(n):
        time = k - (n - 1) / 2
        along += time * (y[k] - mean)
        across += time * time
        total += (y[k] - mean) ** 2
    if total == 0.0:
        return 0.0, 0.0
    return along / across, along * along / (across * total)


@compiled
def _w_correlation(y: Floats, shape: Floats) -> float:
    """Return the correlation of detrended values with the detrended W."""
    slope, r2 = _line(y)
    n = len(y)
    mean = y.sum() / n
    product, own, other = 0.0, 0.0, 0.0
    for k in range(n):
        residual = y[k] - mean - slope * (k - (n - 1) / 2)
        product += residual * shape[k]
        own += residual * residual
        other += shape[k] * shape[k]
    if own == 0.0 or r2 == 1.0:
        return 0.0
    return product / math.sqrt(own * other)


@compiled
def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@compiled
def _chart_signal(code: int, r: Floats, w_shape: Floats, smoother: Floats) -> float:
    """Return s of a chart law from the last 64 returns as written."""
    return _signal(code, r, math.sqrt(np.mean((r - r.mean()) ** 2)), w_shape, smoother)


@compiled
def _signal(code: int, r: Floats, sd: float, w_shape: Floats, smoother: Floats) -> float:
    """Return s of a chart law from returns, at least as many as it reads, and their sd."""
    if sd == 0.0:
        return 0.0
    y = np.zeros(len(r))  # log closes, the last one taken as 0
    for k in range(len(r) - 2, -1, -1):
        y[k] = y[k + 1] - r[k + 1]
    if code == CRYPTO:
        z = float(r[-1]) / sd
        return math.copysign(_clip(abs(z) - 0.4, 0.0, 2.0), -z)
    if code == INTRADAY:
        return _clip((r[-1] + 3.0 * (r[-2] + r[-3]) + r[-4]) / sd, -6.0, 6.0)
    if code == DAILY:
        return _w_correlation(y[-24:], w_shape)
    if code == TREND:
        slope, r2 = _line(y[-30:])
        return math.copysign(r2, slope)
    smooth = float(np.sum(y[-11:] * smoother))
    return -_clip((smooth - float(y[-50:].mean())) / (3.0 * sd), -2.0, 2.0)


@compiled
def _probability(kappa: float, s: float) -> float:
    p = _clip(1.0 / (1.0 + math.exp(-kappa * s)), LOWEST_P, HIGHEST_P)
    return float(np.rint(p * P_UNIT)) / P_UNIT


@compiled
def _chart(
    code: int,
    kappa: float,
    alpha: float,
    beta: float,
    level: float,
    draws: tuple[Floats, Floats, Floats],
    shapes: tuple[Floats, Floats],
) -> tuple[Floats, Floats, Floats, Floats]:
    e, slow_z, u = draws
    n = len(e)
    close, p = np.empty(n), np.empty(n + 1)
    step, size = np.empty(n), np.empty(n)
    r = np.empty(n)
    h, slow, last = 1.0, 0.0, FIRST_CLOSE
    p[0] = 0.5
    for t in range(n):
        slow = 0.995 * slow + 0.02 * slow_z[t]
        size[t] = level * math.exp(slow)
        step[t] = math.sqrt(h) * abs(e[t])
        sign = 1.0 if u[t] < p[t] else -1.0
        moved = last * math.exp(sign * step[t] * size[t])
        close[t] = max(np.rint(moved * TICK) / TICK, LOWEST_CLOSE)
        r[t] = math.log(close[t] / last)
        last = close[t]
        h = min((1.0 - alpha - beta) + alpha * h * e[t] ** 2 + beta * h, LARGEST_H)
        p[t + 1] = 0.5
        if t + 1 >= WARM_UP:
            signal = _chart_signal(code, r[t + 1 - WARM_UP : t + 1], shapes[0], shapes[1])
            p[t + 1] = _probability(kappa, signal)
    return close, step, size, p


def follow_chart(
    law: Law, level: float, e: Floats, slow_z: Floats, u: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Follow a chart law for N bars.

    Args:
        level: size of a move per bar of this path, fraction.
        e: (N,) standardized Student-t draws.
        slow_z: (N,) standard normal draws of the slow level.
        u: (N,) uniform draws of the signs.

    Returns:
        Closes (N,) as written, sizes of the moves (N,) in units of the level, levels (N,),
        and (N + 1,) probabilities that bar t moves up, the last one of the bar still to come.
    """
    e = np.clip(e, -LARGEST_E, LARGEST_E)
    shapes = (W_SHAPE, SMOOTHER)
    result: tuple[Floats, Floats, Floats, Floats] = _chart(
        law.code, law.kappa, law.alpha, law.beta, level, (e, slow_z, u), shapes
    )
    return result


@compiled
def _every_law(
    close: Floats, ends: Longs, laws: tuple[Longs, Floats], shapes: tuple[Floats, Floats]
) -> Floats:
    codes, kappas = laws
    p = np.empty((len(ends), len(codes)))
    for b in range(len(ends)):
        last = ends[b]
        r = np.log(close[last - WARM_UP + 1 : last + 1] / close[last - WARM_UP : last])
        for k in range(len(codes)):
            signal = _chart_signal(codes[k], r, shapes[0], shapes[1])
            p[b, k] = _probability(kappas[k], signal)
    return p


def chart_probabilities(close: Floats, ends: Longs) -> Floats:
    """Return what each chart law says of the move after each bar, (B, 5), columns `CHART_LAWS`.

    Args:
        close: written closes of symbols laid end to end, (N,).
        ends: (B,) positions with 64 bars of their own symbol before them.
    """
    p: Floats = _every_law(close, ends, _CHART_LAWS, (W_SHAPE, SMOOTHER))
    return p


@compiled
def _evidence(
    close: Floats, ends: Longs, laws: tuple[Longs, Floats], shapes: tuple[Floats, Floats]
) -> Floats:
    codes, kappas = laws
    total = np.zeros((len(ends), len(codes)))
    for b in range(len(ends)):
        window = close[ends[b] - WARM_UP + 1 : ends[b] + 1]
        r = np.log(window[1:] / window[:-1])
        sd = math.sqrt(np.mean((r - r.mean()) ** 2))
        for k in range(len(codes)):
            for j in range(READS[codes[k]], len(r)):
                signal = _signal(codes[k], r[:j], sd, shapes[0], shapes[1])
                p = _probability(kappas[k], signal)
                if r[j] != 0.0:
                    total[b, k] += math.log(2.0 * (p if r[j] > 0.0 else 1.0 - p))
    return total


def sign_evidence(close: Floats, ends: Longs) -> Floats:
    """Return how likely each chart law finds the signs inside a window, (B, 5), in nats.

    The log-likelihood ratio against a fair coin of the window's own moves, those whose law can be
    read inside it, in the columns of `CHART_LAWS`. It is a function of the window's 64 closes
    alone, which a model sees: sd is the window's, not that of the 64 returns before each move.

    Args:
        close: written closes of symbols laid end to end, (N,).
        ends: (B,) positions with 63 bars of their own symbol before them.
    """
    total: Floats = _evidence(close, ends, _CHART_LAWS, (W_SHAPE, SMOOTHER))
    return total


@compiled
def _surface(
    kappa: float, alpha: float, beta: float, e: Floats, u: Floats, coin: Floats
) -> tuple[Floats, Floats, Floats]:
    n = len(e)
    q, x, p = np.empty(n), np.empty(n), np.empty(n + 1)
    h, last_q, last_x = 1.0, 0.0, 0.0
    p[0] = 0.5
    for t in range(n):
        step = math.sqrt(h) * abs(e[t])
        sign = 1.0 if u[t] < p[t] else -1.0
        q[t] = np.rint((last_q + sign * 0.004 * step) * 250_000.0) / 250_000.0
        turn = 1.0 if coin[t] < 0.5 else -1.0
        x[t] = np.rint((0.97 * last_x + turn * 0.03 * step) * 1e5) / 1e5
        last_q, last_x = q[t], x[t]
        h = min((1.0 - alpha - beta) + alpha * h * e[t] ** 2 + beta * h, LARGEST_H)
        p[t + 1] = 0.5
        if t + 1 >= WARM_UP:
            window = q[t + 1 - WARM_UP : t + 1]
            sd = math.sqrt(np.mean((window - window.mean()) ** 2))
            z = (q[t] - window.mean()) / sd if sd > 0.0 else 0.0
            p[t + 1] = _probability(kappa, -_clip(z + q[t] / 0.1, -2.0, 2.0))
    return q, x, p


def follow_surface(law: Law, e: Floats, u: Floats, coin: Floats) -> tuple[Floats, Floats, Floats]:
    """Follow the law of the surfaces for N days.

    Args:
        e: (N,) standardized Student-t draws.
        u: (N,) uniform draws of the signs of q's changes.
        coin: (N,) uniform draws of the signs of x's.

    Returns:
        Smile curvature q (N,), level x (N,), and (N + 1,) probabilities that q rises on day t, the
        last one of the day still to come.
    """
    e = np.clip(e, -LARGEST_E, LARGEST_E)
    result: tuple[Floats, Floats, Floats] = _surface(law.kappa, law.alpha, law.beta, e, u, coin)
    return result
