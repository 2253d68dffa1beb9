"""The fingerprint's own windows in two to four passes: 30 = 5·6, 14 = 7·2, 256 = 4⁴.

`atlas.formulas` says the same for any window; here the windows are constants, so that a pass takes
several rows at once from registers, and results go straight into rows of the table. As there, a
window is put together from its parts and nothing is subtracted: no drift, a row depends on its
window alone (so that blocks and tails have the bits of the whole), and a NaN spoils no later row.

Every function fills `out` from its end: row −1 belongs to the last value, and rows that lack a full
window are NaN.
"""

import numpy as np
import numpy.typing as npt

from atlas.formulas import corwin_schultz, differences, relative_spread, true_range
from atlas.rolling import Floats, compiled

__all__ = [
    "atr_14",
    "estimated_spread_column",
    "kurtosis_30",
    "look_up",
    "mean_30",
    "price_columns",
    "range_column",
    "ratio_256",
    "spread_column",
    "trend_30",
    "volume_columns",
    "zscore_30",
]

Longs = npt.NDArray[np.int64]
Row = npt.NDArray[np.float32]


@compiled
def _full(size: int, window: int, out: Row) -> int:
    """Return how many rows of `out` have a full window; make the others NaN."""
    rows = min(max(size - window + 1, 0), out.size)
    out[: out.size - rows] = np.nan
    return rows


@compiled
def _moments_5(v: Floats, n: int) -> tuple[Floats, Floats]:
    """Mean and sum of squares about it of v[i … i + 4]: twice (n,)."""
    mean, square = np.empty(n), np.empty(n)
    for i in range(n):
        # from the first value on, so that equal values have exactly no variance
        b, c, d, e = v[i + 1] - v[i], v[i + 2] - v[i], v[i + 3] - v[i], v[i + 4] - v[i]
        m = ((b + c) + (d + e)) * 0.2
        p, q, r, s = b - m, c - m, d - m, e - m
        mean[i], square[i] = v[i] + m, (p * p + q * q) + (r * r + s * s) + m * m
    return mean, square


@compiled
def zscore_30(values: Floats, out: Row) -> None:
    """Write (newest − mean)/sd of 30 values, sd without correction."""
    n = _full(values.size, 30, out)
    if n == 0:
        return
    v, o = values[values.size - n - 29 :], out[out.size - n :]
    mean, square = _moments_5(v, n + 25)
    for i in range(n):
        q, r, s, t, u = _five(mean, i)
        m = ((q + r) + (s + t) + u) * (1.0 / 6.0)
        q, r, s, t, u = q - m, r - m, s - m, t - m, u - m
        between = (m * m + q * q) + (r * r + s * s) + (t * t + u * u)
        variance = (_six(square, i) + 5.0 * between) * (1.0 / 30.0)
        o[i] = (v[i + 29] - mean[i] - m) / np.sqrt(variance)


@compiled
def trend_30(x: Floats, table: Floats, r2: Row, null: Row) -> None:
    """Write R² of 30 values on time, and `table` of P(|r| ≤ i/(size − 1)) at its root."""
    n = _full(x.size, 30, r2)
    _full(x.size, 30, null)
    if n == 0:
        return
    v, square_out, null_out = x[x.size - n - 29 :], r2[r2.size - n :], null[null.size - n :]
    mean, square = _moments_5(v, n + 25)
    cross, place = np.empty(n + 25), np.empty(n)
    last = table.size - 2
    for i in range(cross.size):
        cross[i] = 2.0 * (v[i + 4] - v[i]) + (v[i + 3] - v[i + 1])
    for i in range(n):
        q, r, s, t, u = _five(mean, i)
        m = ((q + r) + (s + t) + u) * (1.0 / 6.0)
        # parts of five values, five rows apart: 5·5·(2½, 1½, ½)
        lever = 62.5 * u + 37.5 * (t - q) + 12.5 * (s - r) + _six(cross, i)
        q, r, s, t, u = q - m, r - m, s - m, t - m, u - m
        between = (m * m + q * q) + (r * r + s * s) + (t * t + u * u)
        found = lever * lever / ((5.0 * between + _six(square, i)) * 2247.5)  # 30·(30² − 1)/12
        found = 1.0 if found > 1.0 else found
        square_out[i] = found
        place[i] = np.sqrt(found) * (last + 1)
    look_up(table, place, null_out)


@compiled
def look_up(table: Floats, place: Floats, out: Row) -> None:
    """Write what a table holds at places from 0 to size − 1, linear between cells; NaN at NaN."""
    last = table.size - 2
    for i in range(out.size):
        at = place[i] if place[i] >= 0.0 else 0.0
        cell = min(int(at), last)
        found = table[cell] + (at - cell) * (table[cell + 1] - table[cell])
        out[i] = found if place[i] == place[i] else np.nan


@compiled
def kurtosis_30(returns: Floats, out: Row) -> None:
    """Write Pearson's kurtosis of 30 returns; see `atlas.formulas.pearson_kurtosis`."""
    n = _full(returns.size, 30, out)
    if n == 0:
        return
    v, o = returns[returns.size - n - 29 :], out[out.size - n :]
    s1, s2, s3, s4 = np.empty(n + 25), np.empty(n + 25), np.empty(n + 25), np.empty(n + 25)
    for i in range(s1.size):
        a, b, c, d, e = v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4]
        f, g, h, k, w = a * a, b * b, c * c, d * d, e * e
        s1[i] = (a + b) + (c + d) + e
        s2[i] = (f + g) + (h + k) + w
        s3[i] = (a * f + b * g) + (c * h + d * k) + e * w
        s4[i] = (f * f + g * g) + (h * h + k * k) + w * w
    for i in range(n):
        m1 = _six(s1, i) * (1.0 / 30.0)
        m2 = _six(s2, i) * (1.0 / 30.0)
        m3 = _six(s3, i) * (1.0 / 30.0)
        m4 = _six(s4, i) * (1.0 / 30.0)
        variance = m2 - m1 * m1
        central = m4 - m1 * (4.0 * m3 - m1 * (6.0 * m2 - 3.0 * m1 * m1))
        o[i] = central / (variance * variance) if variance > 1e-6 * m2 else np.nan


@compiled
def _five(part: Floats, i: int) -> tuple[float, float, float, float, float]:
    """Return how far the five later parts of the window that begins at `i` lie above its first."""
    a = part[i]
    b, c, d = part[i + 5] - a, part[i + 10] - a, part[i + 15] - a
    return b, c, d, part[i + 20] - a, part[i + 25] - a


@compiled
def _six(part: Floats, i: int) -> float:
    return float(
        (part[i] + part[i + 5]) + (part[i + 10] + part[i + 15]) + (part[i + 20] + part[i + 25])
    )


@compiled
def mean_30(values: Floats, out: Row) -> None:
    """Write the mean of 30 values."""
    n = _full(values.size, 30, out)
    if n == 0:
        return
    v, o, five = values[values.size - n - 29 :], out[out.size - n :], np.empty(n + 25)
    for i in range(five.size):
        five[i] = (v[i] + v[i + 1]) + (v[i + 2] + v[i + 3]) + v[i + 4]
    for i in range(n):
        o[i] = _six(five, i) * (1.0 / 30.0)


@compiled
def atr_14(ranges: Floats, close: Floats, out: Row) -> None:
    """Write the mean of 14 ranges over the newest close."""
    n = _full(ranges.size, 14, out)
    if n == 0:
        return
    v, o, seven = ranges[ranges.size - n - 13 :], out[out.size - n :], np.empty(n + 7)
    price = close[close.size - n :]
    for i in range(seven.size):
        seven[i] = ((v[i] + v[i + 1]) + (v[i + 2] + v[i + 3])) + ((v[i + 4] + v[i + 5]) + v[i + 6])
    for i in range(n):
        o[i] = (seven[i] + seven[i + 7]) / (14.0 * price[i])


@compiled
def _sum_64(v: Floats, n: int) -> Floats:
    return _fours(_fours(_fours(v, 1, n + 60), 4, n + 48), 16, n)


@compiled
def _sum_28(v: Floats, n: int) -> Floats:
    """Sum v[i … i + 27] as seven fours."""
    four, out = _fours(v, 1, n + 24), np.empty(n)
    for i in range(n):
        early = (four[i] + four[i + 4]) + (four[i + 8] + four[i + 12])
        out[i] = early + ((four[i + 16] + four[i + 20]) + four[i + 24])
    return out


@compiled
def _sum_253(part: Floats, first: float, i: int) -> float:
    """Add nine sums of 28 from row i on, and the value that is left."""
    early = (part[i] + part[i + 28]) + (part[i + 56] + part[i + 84])
    late = (part[i + 112] + part[i + 140]) + (part[i + 168] + part[i + 196])
    return float((early + late) + (part[i + 224] + first))


@compiled
def _fours(v: Floats, gap: int, n: int) -> Floats:
    out = np.empty(n)
    a, b, c, d = v[:n], v[gap : n + gap], v[2 * gap : n + 2 * gap], v[3 * gap : n + 3 * gap]
    for i in range(n):
        out[i] = (a[i] + b[i]) + (c[i] + d[i])
    return out


@compiled
def ratio_256(x: Floats, ratio: Floats, error: Floats) -> None:
    """Write `atlas.formulas.variance_ratio` of 256 returns."""
    rows = ratio.size
    n = min(max(x.size - 256, 0), rows)
    ratio[: rows - n], error[: rows - n] = np.nan, np.nan
    if n == 0:
        return
    v = x[x.size - n - 256 :]
    power, four, pair = np.empty(n + 255), np.empty(n + 252), np.empty(n + 252)
    for i in range(power.size):
        move = v[i + 1] - v[i]
        power[i] = move * move
    for i in range(four.size):
        gap = v[i + 4] - v[i]
        four[i] = gap * gap
        pair[i] = power[i + 3] * (2.25 * power[i + 2] + power[i + 1] + 0.25 * power[i])
    ones = _sum_64(power, n + 192)
    fours, pairs = _sum_28(four[1:], n + 224), _sum_28(pair[1:], n + 224)
    r, e = ratio[rows - n :], error[rows - n :]
    for i in range(n):
        one, two, three = power[i], power[i + 1], power[i + 2]
        total = (ones[i] + ones[i + 64]) + (ones[i + 128] + ones[i + 192])
        cross = _sum_253(pairs, pair[i], i) + 2.25 * two * one + three * (2.25 * two + one)
        r[i] = (_sum_253(fours, four[i], i) * (1.0 / 253.0)) / (total * (1.0 / 256.0))
        e[i] = np.sqrt(cross) / total


@compiled
def price_columns(
    x: Floats,
    breaks: Longs,
    table: Floats,
    r2: Row,
    null: Row,
    kurtosis: Row,
    ratio: Floats,
    error: Floats,
) -> None:
    """Write `trend_30`, `kurtosis_30` of the differences, and `ratio_256` of log prices.

    Args:
        x: log prices of symbols end to end.
        breaks: rows of the results at which another symbol begins; those before the first row have
            their last values among the earlier ones of `x`.
        table: as `trend_30`.
        r2, null, kurtosis, ratio, error: to be filled, from the end.
    """
    trend_30(x, table, r2, null)
    kurtosis_30(differences(x), kurtosis)
    ratio_256(x, ratio, error)
    for row in breaks:
        _forget(row, 29, r2)
        _forget(row, 29, null)
        _forget(row, 30, kurtosis)
        _forget(row, 256, ratio)
        _forget(row, 256, error)


@compiled
def volume_columns(
    volume: Floats, turnover: Floats, breaks: Longs, volume_z: Row, turnover_z: Row
) -> None:
    """Write `zscore_30` of log volume and of log turnover; see `price_columns`."""
    zscore_30(volume, volume_z)
    zscore_30(turnover, turnover_z)
    for row in breaks:
        _forget(row, 29, volume_z)
        _forget(row, 29, turnover_z)


@compiled
def range_column(high: Floats, low: Floats, close: Floats, breaks: Longs, atr: Row) -> None:
    """Write `atr_14` of the true ranges; see `price_columns`."""
    atr_14(true_range(high, low, close), close, atr)
    for row in breaks:
        _forget(row, 14, atr)


@compiled
def spread_column(bid: Floats, ask: Floats, breaks: Longs, spread: Row) -> None:
    """Write `mean_30` of the quoted spreads; see `price_columns`."""
    mean_30(relative_spread(bid, ask), spread)
    for row in breaks:
        _forget(row, 29, spread)


@compiled
def estimated_spread_column(
    high: Floats, low: Floats, x: Floats, breaks: Longs, spread: Row
) -> None:
    """Write `mean_30` of Corwin and Schultz's estimates from logs; see `price_columns`."""
    mean_30(corwin_schultz(high, low, x), spread)
    for row in breaks:
        _forget(row, 30, spread)


@compiled
def _forget(row: int, reach: int, out: Row | Floats) -> None:
    """Make the rows NaN whose windows hold another symbol's bars: `reach` of them from `row` on."""
    out[max(row, 0) : max(row + reach, 0)] = np.nan
