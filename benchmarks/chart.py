"""Windows a second of `render`, against a NumPy loop over windows, and a memset as the floor."""

from collections.abc import Callable

import numpy as np

from atlas.charts import CHART_SHAPE, WINDOW, render
from benchmarks.harness import Report, interleave, ratio, timing

__all__ = ["run"]

BATCH = 256
BARS = 100_000
ROUNDS = 40
REPEATS = 10  # batches a round, so that a round is long against the clock


def run(seed: int) -> Report:
    """Measure one core at batches of 256 windows drawn at random."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(1e-3 * rng.standard_normal(BARS)))
    opened = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(opened, close) * 1.0004, np.minimum(opened, close) * 0.9996
    bars = np.stack([opened, high, low, close, np.exp(rng.standard_normal(BARS))])  # (5, N)
    ends = rng.integers(WINDOW - 1, BARS, BATCH)
    out = np.empty((BATCH, *CHART_SHAPE), np.float32)
    works: dict[str, Callable[[], object]] = {
        "render": lambda: [render(bars, ends, out) for _ in range(REPEATS)],
        "memset of the output": lambda: _clear(out),
        "NumPy, window by window": lambda: _numpy(bars, ends, out),
    }
    windows = dict.fromkeys(works, BATCH * REPEATS) | {"NumPy, window by window": BATCH}
    seconds = interleave(works, ROUNDS)
    rates = {name: [windows[name] / s for s in values] for name, values in seconds.items()}
    ours = rates["render"]
    return Report(
        [timing(name, "windows/s", rate) for name, rate in rates.items()],
        [
            ratio("share_of_memset_floor", ours, rates["memset of the output"], 0.45),
            ratio("over_numpy", ours, rates["NumPy, window by window"], None),
        ],
    )


def _clear(out: np.ndarray) -> None:
    for _ in range(REPEATS):
        out.fill(0.0)


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
