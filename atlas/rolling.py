"""Statistics of the last `window` values at every row, as compiled loops over plain arrays.

A window is put together from halves: the sum of the last 2k values is the sum of the last k plus
the same sum k rows earlier, and 30 = 2 + 4 + 8 + 16. Against a running sum that adds the newest
value and drops the oldest this

- never cancels: nothing is subtracted, so there is no drift to re-sum away and a constant series
  has a variance of exactly 0;
- depends on the window's values alone, not on where the array begins: the last row of a short tail
  equals the same row of a long history bit for bit, and a NaN spoils the windows it is in and no
  other;
- has no chain from row to row, so that it compiles to vector instructions: log2(window) additions
  a bar, which take less time than one addition and one subtraction in a chain.

Rows with less than a full window are NaN. Means and sums of squares about the mean are merged by
Chan, Golub and LeVeque (1983), which is exact for halves of any size.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import config, njit

from atlas.machine_code import LOCATORS

__all__ = [
    "Floats",
    "compile_time_told",
    "compiled",
    "window_moments",
    "window_sum",
    "window_trend",
]

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
_SETTING = Lock()
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function with Numba, kept on disk; division follows NumPy (0/0 is NaN).

    Machine code is kept as `atlas.machine_code` says, unless NUMBA_CACHE_LOCATOR_CLASSES is set.
    """
    with _SETTING:  # Numba's is for all of the process: other libraries' loops keep their places
        usual = config.CACHE_LOCATOR_CLASSES
        config.CACHE_LOCATOR_CLASSES = usual or LOCATORS
        try:
            made = njit(cache=True, error_model="numpy", nogil=True)(function)
        finally:
            config.CACHE_LOCATOR_CLASSES = usual
    return cast(_Function, made)


@contextmanager
def compile_time_told(what: str, function: Callable[..., Any]) -> Iterator[None]:
    """Say how long the block took if `function` had to be compiled in it; else say nothing."""
    stats, start = cast(Any, function).stats, time.perf_counter()
    before = sum(stats.cache_misses.values())
    yield
    if sum(stats.cache_misses.values()) > before:
        log.warning(
            "%s: compiled in %.1f s, kept on disk; the next run starts at once",
            what,
            time.perf_counter() - start,
        )


@compiled
def window_sum(values: Floats, window: int) -> Floats:
    """Sum the last `window` values at every row: (N,) to (N,)."""
    n = values.size
    if n < window or window < 1:
        return np.full(n, np.nan)
    part, spare, total = values.copy(), np.empty(n), np.empty(n)
    size, have = 1, 0  # rows summed in `part` and in `total`; `total` holds the newer rows
    while True:
        if window & size:
            if have == 0:
                total[:] = part
            else:
                new, old = total[have:], part[:-have]
                for i in range(old.size):
                    new[i] += old[i]
            have += size
            if have == window:
                break
        new, old, out = part[size:], part[:-size], spare[size:]
        for i in range(old.size):
            out[i] = old[i] + new[i]
        part, spare = spare, part
        part[:size] = np.nan
        size *= 2
    total[: window - 1] = np.nan
    return total


@compiled
def window_moments(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Return mean and sum of squares about it over the last `window` values: twice (N,)."""
    n = values.size
    if n < window or window < 1:
        return np.full(n, np.nan), np.full(n, np.nan)
    mean, square = values.copy(), np.zeros(n)  # of the last `size` rows
    mean_spare, square_spare = np.empty(n), np.empty(n)
    means, squares = np.empty(n), np.empty(n)  # of the last `have` rows
    size, have = 1, 0
    while True:
        if window & size:
            if have == 0:
                means[:], squares[:] = mean, square
            else:
                share, weight = have / (have + size), have * size / (have + size)
                m_new, m_old = means[have:], mean[:-have]
                s_new, s_old = squares[have:], square[:-have]
                for i in range(m_old.size):
                    gap = m_new[i] - m_old[i]
                    m_new[i] = m_old[i] + gap * share
                    s_new[i] += s_old[i] + gap * gap * weight
            have += size
            if have == window:
                break
        m_new, m_old, m_out = mean[size:], mean[:-size], mean_spare[size:]
        s_new, s_old, s_out = square[size:], square[:-size], square_spare[size:]
        weight = 0.5 * size
        for i in range(m_old.size):
            gap = m_new[i] - m_old[i]
            m_out[i] = m_old[i] + 0.5 * gap
            s_out[i] = s_old[i] + s_new[i] + gap * gap * weight
        mean, mean_spare = mean_spare, mean
        square, square_spare = square_spare, square
        mean[:size] = np.nan
        size *= 2
    means[: window - 1] = np.nan
    squares[: window - 1] = np.nan
    return means, squares


@compiled
def window_trend(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Return sums about their means of values squared, and of values times time: twice (N,).

    Time counts rows; the window's own sum of squared time is window·(window² − 1)/12.
    """
    n = values.size
    if n < window or window < 1:
        return np.full(n, np.nan), np.full(n, np.nan)
    mean, square, cross = values.copy(), np.zeros(n), np.zeros(n)  # of the last `size` rows
    mean_spare, square_spare, cross_spare = np.empty(n), np.empty(n), np.empty(n)
    means, squares, crosses = np.empty(n), np.empty(n), np.empty(n)  # of the last `have` rows
    size, have = 1, 0
    while True:
        if window & size:
            if have == 0:
                means[:], squares[:], crosses[:] = mean, square, cross
            else:
                share, weight = have / (have + size), have * size / (have + size)
                m_new, m_old = means[have:], mean[:-have]
                s_new, s_old = squares[have:], square[:-have]
                c_new, c_old = crosses[have:], cross[:-have]
                lever = 0.5 * have * size  # the halves' centers lie (have + size)/2 rows apart
                for i in range(m_old.size):
                    gap = m_new[i] - m_old[i]
                    m_new[i] = m_old[i] + gap * share
                    s_new[i] += s_old[i] + gap * gap * weight
                    c_new[i] += c_old[i] + gap * lever
            have += size
            if have == window:
                break
        m_new, m_old, m_out = mean[size:], mean[:-size], mean_spare[size:]
        s_new, s_old, s_out = square[size:], square[:-size], square_spare[size:]
        c_new, c_old, c_out = cross[size:], cross[:-size], cross_spare[size:]
        weight, lever = 0.5 * size, 0.5 * size * size
        for i in range(m_old.size):
            gap = m_new[i] - m_old[i]
            m_out[i] = m_old[i] + 0.5 * gap
            s_out[i] = s_old[i] + s_new[i] + gap * gap * weight
            c_out[i] = c_old[i] + c_new[i] + gap * lever
        mean, mean_spare = mean_spare, mean
        square, square_spare = square_spare, square
        cross, cross_spare = cross_spare, cross
        mean[:size] = np.nan
        size *= 2
    squares[: window - 1] = np.nan
    crosses[: window - 1] = np.nan
    return squares, crosses
