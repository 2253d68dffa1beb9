"""Windows a second of `render`, against other ways to draw a window, and a memset as the floor.

- Peers: a plain loop over windows in NumPy; pyts's Gramian angular summation field of the same
  closes, as pixels a second, for it draws one channel of 64 × 64; mplfinance, a candlestick a file.
- Seconds are a processor's on one core, so that they mean one core on a busy machine too, and wall
  time on two.
- On two cores, two threads draw a half of the batch each: the compiled loop holds no lock. A part
  of the gain is the memory's to give, so the memset is measured on two threads as well.
- What a batch allocates when it is given its buffer.
"""

import io
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import mplfinance
import numpy as np
import pandas as pd
from pyts.image import GramianAngularField

from atlas.charts import CHART_SHAPE, WINDOW, render
from benchmarks.harness import Ratio, Report, Timing, interleave, ratio, timing

__all__ = ["run"]

BATCH = 256
BARS = 100_000
ROUNDS = 40
WALL_ROUNDS = 160  # the second core comes and goes on a shared machine
REPEATS = 40  # batches a round: long against the clock and against the waking of two threads
PIXELS = int(np.prod(CHART_SHAPE))


def run(seed: int) -> Report:
    """Measure one core, then two, at batches of 256 windows drawn at random."""
    bars = _bars(seed)
    ends = np.random.default_rng(seed + 1).integers(WINDOW - 1, BARS, BATCH)
    out = np.empty((BATCH, *CHART_SHAPE), np.float32)
    half, ours, floor = BATCH // 2, "render", "memset of the output"
    closes = np.stack([bars[3, end - WINDOW + 1 : end + 1] for end in ends])  # (B, T)
    field = GramianAngularField(method="summation")
    with ThreadPoolExecutor(2) as pool:

        def both(work: Callable[[slice], None]) -> None:
            list(pool.map(work, (slice(0, half), slice(half, None))))

        one: dict[str, Callable[[], object]] = {
            ours: lambda: _draw(bars, ends, out, slice(None)),
            floor: lambda: _clear(out, slice(None)),
        }
        two = {
            f"{ours}, two threads": lambda: both(lambda part: _draw(bars, ends, out, part)),
            f"{floor}, two threads": lambda: both(lambda part: _clear(out, part)),
        }
        peers: dict[str, Callable[[], object]] = {
            "NumPy, window by window": lambda: _numpy(bars, ends, out),
            "pyts GASF": lambda: field.fit_transform(closes),
        }
        seconds = interleave(one | peers, ROUNDS, time.process_time)
        walls = interleave(one | two, WALL_ROUNDS)
    works = one | peers | two
    seconds |= {name: walls[name] for name in two}
    alone = [BATCH * REPEATS / s for s in walls[ours]]
    bare = [BATCH * REPEATS / s for s in walls[floor]]
    windows = dict.fromkeys(works, BATCH * REPEATS) | dict.fromkeys(peers, BATCH)
    rates = {name: [windows[name] / s for s in values] for name, values in seconds.items()}
    pixels = {
        ours: [rate * PIXELS for rate in rates[ours]],
        "pyts GASF": [rate * WINDOW * WINDOW for rate in rates["pyts GASF"]],
    }
    slow = interleave({"mplfinance": lambda: _candles(bars)}, 5)["mplfinance"]
    results = [timing(name, "windows/s", rate) for name, rate in rates.items()]
    results += [timing("mplfinance, to PNG", "windows/s", [1 / s for s in slow])]
    results += [timing(f"{name}, pixels", "1/s", rate) for name, rate in pixels.items()]
    ratios: list[Ratio] = [
        ratio("share_of_memset_floor", rates[ours], rates[floor], 0.45),
        ratio("over_pyts_per_pixel", pixels[ours], pixels["pyts GASF"], 12),
        ratio("two_cores_over_one", rates[f"{ours}, two threads"], alone, 1.7),
        ratio("memset_two_cores_over_one", rates[f"{floor}, two threads"], bare, None),
        ratio("over_numpy", rates[ours], rates["NumPy, window by window"], None),
    ]
    return Report([*results, _allocated(bars, ends, out)], ratios)


def _bars(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(1e-3 * rng.standard_normal(BARS)))
    opened = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(opened, close) * 1.0004, np.minimum(opened, close) * 0.9996
    return np.stack([opened, high, low, close, np.exp(rng.standard_normal(BARS))])  # (5, N)


def _draw(bars: np.ndarray, ends: np.ndarray, out: np.ndarray, part: slice) -> None:
    for _ in range(REPEATS):
        render(bars, ends[part], out[part])


def _clear(out: np.ndarray, part: slice) -> None:
    for _ in range(REPEATS):
        out[part].fill(0.0)


def _allocated(bars: np.ndarray, ends: np.ndarray, out: np.ndarray) -> Timing:
    tracemalloc.start()
    _draw(bars, ends, out, slice(None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return timing("peak of Python's and NumPy's memory", "KiB", [peak / 1024])


def _candles(bars: np.ndarray) -> None:
    index = pd.date_range("2026-01-01", periods=WINDOW, freq="min")
    names = ["Open", "High", "Low", "Close", "Volume"]
    frame = pd.DataFrame(bars[:, :WINDOW].T, columns=names, index=index)
    with mpl.rc_context({"backend": "Agg"}):
        mplfinance.plot(frame, type="candle", volume=True, savefig=io.BytesIO())


def _numpy(bars: np.ndarray, ends: np.ndarray, out: np.ndarray) -> None:
    rows = np.arange(CHART_SHAPE[1])[:, None]  # (H, 1)
    for b, end in enumerate(ends):
        window = bars[:, end - WINDOW + 1 : end + 1]
        low, high = window[2].min(), window[1].max()
        level = (window[:4] - low) * (CHART_SHAPE[1] / (high - low))
        volume = window[4] * (CHART_SHAPE[1] / window[4].max())
        opened, top, bottom, close = (np.clip(x - rows, 0, 1) for x in level)  # (H, T) each
        out[b, 0], out[b, 1] = top - bottom, close - opened
        out[b, 2] = np.maximum(0, 1 - np.abs(level[3] - 0.5 - rows))
        out[b, 3] = np.clip(volume - rows, 0, 1)
