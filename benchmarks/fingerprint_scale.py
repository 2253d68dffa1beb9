"""Time and memory of `fingerprint` over lengths and numbers of symbols, and its first call.

- Time per bar from ten thousand to twenty million bars, and from one to two thousand symbols, in a
  call each and in one call; twenty million beside their copy, with the memory beyond input and
  output. Seconds are a processor's.
- What a user waits for once: the first call in a process without compiled code on disk.
"""

import os
import subprocess
import sys
import tempfile
import tracemalloc

import numpy as np
import pandas as pd

from atlas.data_fingerprint import fingerprint, fingerprint_symbols
from benchmarks.fingerprint import BARS, Works, random_bars, rates_of
from benchmarks.harness import Ratio, Report, Timing, ratio, timing

__all__ = ["run"]

MANY_BARS = 20_000_000
SIZES = (10_000, 100_000, BARS)
SYMBOLS, SYMBOL_BARS = 2_000, 500
ROUNDS = 3


def run(seed: int) -> Report:
    """Measure lengths, symbols, twenty million bars and the first call."""
    results: list[Timing] = []
    ratios: list[Ratio] = []
    for part in (_flat(random_bars(BARS, seed)), _many(seed), _first_call()):
        results += part.results
        ratios += part.ratios
    return Report(results, ratios)


def _flat(bars: pd.DataFrame) -> Report:
    """Measure time per bar over lengths and over numbers of symbols."""
    works: Works = {
        f"one symbol, {size:,} bars": lambda size=size: fingerprint(bars.iloc[:size], "1min")  # type: ignore[misc]
        for size in SIZES
    }
    works[f"one symbol of {SYMBOL_BARS}"] = lambda: fingerprint(bars.iloc[:SYMBOL_BARS], "1min")
    works[f"{SYMBOLS:,} symbols of {SYMBOL_BARS}, a call each"] = lambda: [
        fingerprint(bars.iloc[start : start + SYMBOL_BARS], "1min")
        for start in range(0, SYMBOLS * SYMBOL_BARS, SYMBOL_BARS)
    ]
    offsets = np.arange(0, SYMBOLS * SYMBOL_BARS + 1, SYMBOL_BARS)
    works[f"{SYMBOLS:,} symbols of {SYMBOL_BARS}, one call"] = lambda: fingerprint_symbols(
        bars, offsets, "1min"
    )
    many = SYMBOLS * SYMBOL_BARS
    sizes = dict(zip(works, (*SIZES, SYMBOL_BARS, many, many), strict=True))
    rates = rates_of(works, sizes, ROUNDS)
    names = list(works)
    return Report(
        [timing(name, "bars/s", rates[name]) for name in names],
        [
            ratio("rate_10k_over_1m", rates[names[0]], rates[names[2]], 0.8),
            ratio("rate_2000_symbols_over_1m", rates[names[5]], rates[names[2]], 0.8),
        ],
    )


def _many(seed: int) -> Report:
    """Measure 20 million bars beside their copy, and the memory that is not input or output."""
    bars = random_bars(MANY_BARS, seed)
    tracemalloc.start()
    table = fingerprint(bars, "1min")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = table.memory_usage(index=False).sum()
    works: Works = {
        "fingerprint, 20 M bars": lambda: fingerprint(bars, "1min"),
        "copy, 20 M bars": lambda: (bars.copy(deep=True), table.copy(deep=True)),
    }
    rates = rates_of(works, dict.fromkeys(works, MANY_BARS), ROUNDS)
    ours, floor = rates.values()
    extra = [(peak - kept) / 2**20]
    return Report(
        [timing(name, "bars/s", rate) for name, rate in rates.items()]
        + [timing("memory beyond input and output", "MiB", extra)],
        [ratio("share_of_copy_floor_20m", ours, floor, 0.40)],
    )


def _first_call() -> Report:
    """Measure the first call in a fresh process, without and with compiled code on disk."""
    program = (
        "import numpy as np, pandas as pd, time; from atlas.data_fingerprint import fingerprint;"
        "i = pd.date_range('2020', periods=300, freq='min', tz='UTC', name='timestamp');"
        "b = pd.DataFrame({n: np.ones(300) for n in ('open', 'high', 'low', 'close')}, index=i);"
        "s = time.process_time(); fingerprint(b, '1min'); print(time.process_time() - s)"
    )
    rows: list[Timing] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first call, nothing compiled", "first call, compiled before"):
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append(timing(name, "s", [float(done.stdout)]))
    return Report(rows, [Ratio("first_call_s_at_most_20", rows[0].median, 20.0)])
