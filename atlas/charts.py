"""Windows of bars as the images, series and grids a model sees, written into a given buffer.

- A chart is one column a bar and one row a price level; row 0 is the *lowest* price (draw it
  with `origin="lower"`). Levels are scaled by the window's own lowest low and highest high, which
  removes the level of volatility on purpose: the fingerprint carries it.
- Every channel is anti-aliased: c(x, y) = clip(x − y, 0, 1) is how much of row y lies below the
  level x in [0, H]. Range: c(high) − c(low). Signed body: c(close) − c(open). Close line:
  max(0, 1 − |close − ½ − y|). Volume: c(volume) over the window's largest, from the bottom.
- A bar with a missing price draws nothing, a missing volume no volume. A window without any range
  lies at mid height: no range, no body, a close line shared by the two middle rows.
- Nothing is cached: rendering is faster than gathering stored images from memory.
"""

import math

import numpy as np
import numpy.typing as npt

from atlas.errors import BarsError
from atlas.rolling import Floats, compile_time_told, compiled

__all__ = [
    "CHART_SHAPE",
    "SERIES_SHAPE",
    "WINDOW",
    "render",
    "render_series",
    "render_surfaces",
]

WINDOW = 64
CHART_SHAPE = (4, 32, WINDOW)  # (C, H, T)
SERIES_SHAPE = (5, WINDOW)
LIMIT = 8.0  # of a scaled series, either side of 0

Images = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]

_LEVELS = CHART_SHAPE[1]
_ZERO, _ONE = np.int32(0), np.float32(1.0).view(np.int32)  # the bits of 0.0 and of 1.0
_OFF = -2.0  # a level below the chart: covers no row
_SURFACE_SCALE = 0.1  # of implied volatility; ten vol points are 1


def render(bars: Floats, ends: Longs, out: Images | None = None) -> Images:
    """Draw the windows of 64 bars that end at `ends`.

    Args:
        bars: open, high, low, close, volume; (5, N), prices adjusted, NaN where missing.
        ends: position of each window's last bar, (B,), between 63 and N − 1.
        out: buffer (B, 4, 32, 64) to write into; made if left out.

    Returns:
        `out`, all of it overwritten; values in [−1, 1], no NaN.

    Raises:
        BarsError: if a window would reach outside the bars, or the shapes do not fit.
    """
    bars, ends = _bars(bars), _ends(ends, bars.shape[1])
    out = _buffer(out, (ends.size, *CHART_SHAPE))
    with compile_time_told("render", _draw):
        _draw(bars, ends, out)
    return out


def render_series(bars: Floats, ends: Longs, out: Images | None = None) -> Images:
    """Scale the windows of 64 bars that end at `ends`, as five rows open … volume.

    A price is (log price − log of the window's last close)/(s·√8), with s the root mean square of
    the window's log returns, so that a usual move of eight bars is about 1; volume is the z-score
    of log volume in the window. Clipped to ±8; what is missing or cannot be scaled is 0.

    Args, Raises: as `render`. Returns (B, 5, 64).
    """
    bars, ends = _bars(bars), _ends(ends, bars.shape[1])
    out = _buffer(out, (ends.size, *SERIES_SHAPE))
    _scale(bars, ends, out)
    return out


def render_surfaces(grid: Floats, ends: Longs, out: Images | None = None) -> Images:
    """Scale the windows of 64 surfaces that end at `ends`; a second channel masks what is there.

    Args:
        grid: implied volatility by tenor and strike, (N, 3, 9), NaN where missing.
        ends: position of each window's last surface, (B,), between 63 and N − 1.
        out: buffer (B, 2, 3, 9, 64) to write into; made if left out.

    Returns:
        Channel 0 is (iv − m)/0.1, m the window's mean of nearest-tenor at-the-money iv (of all iv
        where that is missing throughout), 0 where missing; channel 1 is 1 where iv is there.

    Raises:
        BarsError: as `render`.
    """
    if grid.ndim != 3:
        raise BarsError(f"render_surfaces: expected a grid (N, tenors, strikes), got {grid.shape}")
    grid = np.ascontiguousarray(grid, dtype=np.float64)
    ends = _ends(ends, grid.shape[0])
    out = _buffer(out, (ends.size, 2, *grid.shape[1:], WINDOW))
    _scale_surfaces(grid, ends, out)
    return out


def _bars(bars: Floats) -> Floats:
    if bars.ndim != 2 or bars.shape[0] != SERIES_SHAPE[0]:
        raise BarsError(
            f"charts: expected open, high, low, close, volume as (5, N), got {bars.shape}"
        )
    return np.ascontiguousarray(bars, dtype=np.float64)


def _ends(ends: Longs, n: int) -> Longs:
    ends = np.ascontiguousarray(ends)
    if ends.ndim != 1 or (ends.size and ends.dtype.kind not in "iu"):
        raise BarsError(
            f"charts: expected window ends as whole numbers (B,), got {ends.dtype} {ends.shape}"
        )
    ends = ends.astype(np.int64, copy=False)
    if ends.size and (ends.min() < WINDOW - 1 or ends.max() >= n):
        raise BarsError(
            f"charts: expected window ends between {WINDOW - 1} and {n - 1}, "
            f"got {ends.min()} to {ends.max()}: a window needs {WINDOW} bars"
        )
    return ends


def _buffer(out: Images | None, shape: tuple[int, ...]) -> Images:
    if out is None:
        return np.empty(shape, dtype=np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise BarsError(
            f"charts: expected a contiguous float32 buffer of shape {shape}, "
            f"got {out.dtype} {out.shape}"
        )
    return out


@compiled
def _levels(bars: Floats, first: int, level: Images, spare: Floats) -> None:
    """Write a window's open, high, low, close, volume as levels in [0, H], `_OFF` if missing."""
    last = first + WINDOW
    o, h, w, c = bars[0, first:last], bars[1, first:last], bars[2, first:last], bars[3, first:last]
    v, there = bars[4, first:last], spare[0]
    for i in range(WINDOW):
        total = o[i] + h[i] + w[i] + c[i]
        there[i] = total - total  # 0 where all four are finite, else NaN
    low, high, bulk = spare[1], spare[2], spare[3]
    for i in range(WINDOW):
        seen = there[i] == 0.0
        low[i], high[i] = (w[i], -h[i]) if seen else (np.inf, np.inf)
        bulk[i] = -v[i] if seen and v[i] > 0.0 else 0.0
    bottom, top, most = _least(low), -_least(high), -_least(bulk)
    flat = not top > bottom
    scale = 0.0 if flat else _LEVELS / (top - bottom)
    base = 0.5 * _LEVELS if flat else 0.0
    for k in range(4):
        price, line = bars[k, first:last], level[k]
        for i in range(WINDOW):
            place = base + (price[i] - bottom) * scale
            line[i] = place if there[i] == 0.0 else _OFF
    line, share = level[4], _LEVELS / most if most > 0.0 else 0.0
    for i in range(WINDOW):
        line[i] = v[i] * share if there[i] == 0.0 and v[i] > 0.0 else _OFF


@compiled
def _least(values: Floats) -> float:
    """Return the least of `values`, which it overwrites: by halves, so that lanes work at once."""
    size = WINDOW // 2
    while size:
        for i in range(size):
            values[i] = min(values[i], values[i + size])
        size //= 2
    return float(values[0])


@compiled
def _positive(x: np.float32) -> np.int32:
    """Return the bits of max(x, 0).

    Floats that are not negative are in the order of their bits, and negative ones are negative as
    integers: compared so, they leave the processor's adders to the additions around them.
    """
    bits = np.float32(x).view(np.int32)
    return bits if bits > _ZERO else _ZERO


@compiled
def _cover(x: np.float32) -> np.float32:
    bits = _positive(x)
    return np.int32(bits if bits < _ONE else _ONE).view(np.float32)


@compiled
def _draw(bars: Floats, ends: Longs, out: Images) -> None:
    level, spare = np.empty((5, WINDOW), np.float32), np.empty((4, WINDOW))
    for b in range(ends.size):
        _levels(bars, ends[b] - WINDOW + 1, level, spare)
        _between(level[1], level[2], out[b, 0])
        _between(level[3], level[0], out[b, 1])
        _near(level[3], out[b, 2])
        _below(level[4], out[b, 3])


@compiled
def _between(above: Images, under: Images, out: Images) -> None:
    for y in range(_LEVELS):
        row, line = np.float32(y), out[y]
        for i in range(WINDOW):
            line[i] = _cover(above[i] - row) - _cover(under[i] - row)


@compiled
def _near(level: Images, out: Images) -> None:
    one = np.float32(1.0)
    for y in range(_LEVELS):
        row, line = np.float32(y) + np.float32(0.5), out[y]
        for i in range(WINDOW):
            line[i] = np.int32(_positive(one - abs(level[i] - row))).view(np.float32)


@compiled
def _below(level: Images, out: Images) -> None:
    for y in range(_LEVELS):
        row, line = np.float32(y), out[y]
        for i in range(WINDOW):
            line[i] = _cover(level[i] - row)


@compiled
def _scale(bars: Floats, ends: Longs, out: Images) -> None:
    for b in range(ends.size):
        first, last = ends[b] - WINDOW + 1, ends[b]
        power, count = 0.0, 0
        for t in range(first + 1, last + 1):
            move = math.log(bars[3, t] / bars[3, t - 1]) if _both(bars, t) else np.nan
            if np.isfinite(move):
                power, count = power + move * move, count + 1
        scale = 0.0
        if power > 0.0 and bars[3, last] > 0.0:
            scale = 1.0 / math.sqrt(8.0 * power / count)
        for k in range(4):
            for i in range(WINDOW):
                price = bars[k, first + i]
                value = math.log(price / bars[3, last]) * scale if price > 0.0 else 0.0
                out[b, k, i] = _limited(value) if scale > 0.0 else 0.0
        _scale_volume(bars[4, first : last + 1], out[b, 4])


@compiled
def _both(bars: Floats, t: int) -> bool:
    return bool(bars[3, t] > 0.0 and bars[3, t - 1] > 0.0)


@compiled
def _limited(value: float) -> float:
    return min(max(value, -LIMIT), LIMIT) if np.isfinite(value) else 0.0


@compiled
def _scale_volume(volume: Floats, out: Images) -> None:
    total, count = 0.0, 0
    for i in range(volume.size):
        if volume[i] > 0.0:
            total, count = total + math.log(volume[i]), count + 1
    mean = total / count if count else 0.0
    power = 0.0
    for i in range(volume.size):
        if volume[i] > 0.0:
            power += (math.log(volume[i]) - mean) ** 2
    sd = math.sqrt(power / count) if count else 0.0
    for i in range(volume.size):
        seen = volume[i] > 0.0 and sd > 1e-12
        out[i] = _limited((math.log(volume[i]) - mean) / sd) if seen else 0.0


@compiled
def _scale_surfaces(grid: Floats, ends: Longs, out: Images) -> None:
    n_tenors, n_strikes = grid.shape[1], grid.shape[2]
    middle = n_strikes // 2
    for b in range(ends.size):
        window = grid[ends[b] - WINDOW + 1 : ends[b] + 1]
        mean = _finite_mean(window[:, :1, middle : middle + 1])
        if np.isnan(mean):
            mean = _finite_mean(window)
        for j in range(n_tenors):
            for k in range(n_strikes):
                for i in range(WINDOW):
                    there = np.isfinite(window[i, j, k])
                    out[b, 0, j, k, i] = (window[i, j, k] - mean) / _SURFACE_SCALE if there else 0.0
                    out[b, 1, j, k, i] = 1.0 if there else 0.0


@compiled
def _finite_mean(values: Floats) -> float:
    total, count = 0.0, 0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            for k in range(values.shape[2]):
                if np.isfinite(values[i, j, k]):
                    total, count = total + values[i, j, k], count + 1
    return total / count if count else np.nan
