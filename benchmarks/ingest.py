"""How long 1.4 million 1-minute bars take from a file to the validated store, and one more night.

`taskset -c 0 python -m benchmarks ingest`. Seconds are processor time of this process and wall
time; imports come before. The targets are for wall time on one quiet core: 15 s, and 2 s for a
night on top; memory is the process's largest, target 2 GiB. Bytes are those of the store that one
night on top of two and a half years reads and writes.
"""

import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atlas.config import ATLASConfig
from benchmarks.harness import Ratio, Report, Timing, timing
from pipelines import ingest, validate
from pipelines.paths import Paths

__all__ = ["run"]

BARS = 1_400_000
NIGHT = 1_440
ROUNDS = 3
CONFIG = ATLASConfig.parse(
    {
        "source": "files",
        "markets": {"ticks": {"timeframe": "1min", "calendar": "24/7"}},
        "simulated": {"as_of": "2026-11-20", "markets": {}},
    }
)


def run(seed: int) -> Report:
    """Ingest and validate, then a night more; each round in a home of its own."""
    seconds: dict[str, list[float]] = {}
    for place in range(ROUNDS + 1):
        work = Path(tempfile.mkdtemp(prefix="atlas-ingest-"))
        try:
            found = _round(work, seed)
        finally:
            shutil.rmtree(work)
        for name, value in found.items():
            if place:  # the first warms up
                seconds.setdefault(name, []).append(value)
    results = [timing(name, _unit(name), values) for name, values in seconds.items()]
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    results.append(Timing("peak", "GiB", rss, rss, rss, 1))
    median = {row.name: row.median for row in results}
    return Report(
        results,
        [
            Ratio("bulk_s", median["bulk wall"], 15.0),
            Ratio("night_s", median["night wall"], 2.0),
            Ratio("peak_gib", rss, 2.0),
        ],
    )


def _unit(name: str) -> str:
    return "bytes" if name.endswith(("read", "written")) else "s"


def _round(work: Path, seed: int) -> dict[str, float]:
    times = pd.date_range("2024-01-01", periods=BARS + NIGHT, freq="1min", tz="UTC")
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(times))) * 0.3)
    opened = np.r_[close[0], close[:-1]]
    frame = pd.DataFrame({"timestamp": times, "open": opened})
    frame = frame.assign(high=np.maximum(opened, close) + 0.01)
    frame = frame.assign(low=np.minimum(opened, close) - 0.01, close=close)
    frame = frame.assign(volume=rng.integers(1, 999, len(times)).astype(float))
    (work / "archive" / "ticks").mkdir(parents=True)
    path = work / "archive" / "ticks" / "BTC.parquet"
    frame.iloc[:BARS].to_parquet(path, index=False)
    paths = Paths(work / "home")
    first = times[BARS - 1].ceil("D")
    found = _timed("bulk", lambda: _night(paths, work / "archive", first))[0]
    frame.to_parquet(path, index=False)
    seconds, summary = _timed(
        "night", lambda: _night(paths, work / "archive", first + pd.Timedelta(days=1))
    )
    return {
        **found,
        **seconds,
        "night read": summary["bytes_read"],
        "night written": summary["bytes_written"],
    }


def _night(paths: Paths, folder: Path, as_of: pd.Timestamp) -> dict[str, Any]:
    start = time.perf_counter()
    found = ingest.run(paths, CONFIG, as_of=as_of, market="ticks", folder=folder)
    seconds = time.perf_counter() - start
    validate.run(paths, CONFIG, as_of=as_of, market="ticks")
    return {**found, "ingest": seconds}


def _timed(
    name: str, work: Callable[[], dict[str, Any]]
) -> tuple[dict[str, float], dict[str, Any]]:
    wall, processor = time.perf_counter(), time.process_time()
    found = work()
    return {
        f"{name} wall": time.perf_counter() - wall,
        f"{name} processor": time.process_time() - processor,
        f"{name} ingest wall": found["ingest"],
    }, found
