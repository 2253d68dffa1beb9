"""How long 1.4 million 1-minute bars take from a file to the validated store, and one more night.

`taskset -c 0 python -m benchmarks ingest`. Each of the two is a process of its own, as in use, that
has imported all and worked through a small home before. Seconds are wall time and processor time of
that process; the targets are for wall time on one quiet core: 15 s, and 2 s for the night on top.
Memory is the process's largest, target 2 GiB. Bytes are those of the store that one night on top
of two and a half years reads and writes.
"""

import multiprocessing
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from atlas.config import ATLASConfig
from benchmarks.harness import Ratio, Report, timing
from pipelines import ingest, validate
from pipelines.paths import Paths

__all__ = ["run"]

BARS = 1_400_000
NIGHT = 1_440
SMALL = 5_000
ROUNDS = 3
UNITS = {"written": "bytes", "read": "bytes", "peak": "GiB"}
CONFIG = ATLASConfig.parse(
    {
        "source": "files",
        "markets": {"ticks": {"timeframe": "1min", "calendar": "24/7"}},
        "simulated": {"as_of": "2026-11-20", "markets": {}},
    }
)


def run(seed: int) -> Report:
    """Ingest and validate, then a night more; each round in a home of its own."""
    found: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="atlas-ingest-") as work:
            for name, value in _round(Path(work), seed).items():
                found.setdefault(name, []).append(value)
    results = [timing(name, UNITS.get(name.split()[-1], "s"), own) for name, own in found.items()]
    median = {row.name: row.median for row in results}
    peak = max(max(found["bulk peak"]), max(found["night peak"]))
    return Report(
        results,
        [
            Ratio("bulk_s", median["bulk wall"], 15.0),
            Ratio("night_s", median["night wall"], 2.0),
            Ratio("night_processor_s", median["night processor"], None),
            Ratio("peak_gib", peak, 2.0),
        ],
    )


def _round(work: Path, seed: int) -> dict[str, float]:
    bars = _bars(BARS + NIGHT, seed)
    nights = [time.ceil("D") for time in bars["timestamp"].iloc[[BARS - 1, -1]]]
    _bars(SMALL, seed).pipe(_archive, work / "small")
    found = {}
    for name, size, night in zip(("bulk", "night"), (BARS, len(bars)), nights, strict=True):
        _archive(bars.iloc[:size], work / "archive")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            for key, value in pool.submit(_timed, work, night).result().items():
                found[f"{name} {key}"] = value
    return found


def _bars(count: int, seed: int) -> pd.DataFrame:
    times = pd.date_range("2024-01-01", periods=count, freq="1min", tz="UTC")
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(times))) * 0.3)
    opened = np.r_[close[0], close[:-1]]
    frame = pd.DataFrame({"timestamp": times, "open": opened})
    frame = frame.assign(high=np.maximum(opened, close) + 0.01)
    frame = frame.assign(low=np.minimum(opened, close) - 0.01, close=close)
    return frame.assign(volume=rng.integers(1, 999, len(times)).astype(float))


def _archive(bars: pd.DataFrame, folder: Path) -> None:
    (folder / "ticks").mkdir(parents=True, exist_ok=True)
    bars.to_parquet(folder / "ticks" / "BTC.parquet", index=False)


def _timed(work: Path, night: pd.Timestamp) -> dict[str, float]:
    """Ingest and validate one night in this process, after a small one of another home."""
    _night(work / "small-home", work / "small", pd.Timestamp("2024-01-05", tz="UTC"))
    shutil.rmtree(work / "small-home")
    wall, processor = time.perf_counter(), time.process_time()
    found = _night(work / "home", work / "archive", night)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 2**20
    return {"wall": wall, "processor": processor, "peak": peak, **found}


def _night(home: Path, folder: Path, as_of: pd.Timestamp) -> dict[str, float]:
    paths, start = Paths(home), time.perf_counter()
    found = ingest.run(paths, CONFIG, as_of=as_of, market="ticks", folder=folder)
    seconds = time.perf_counter() - start
    validate.run(paths, CONFIG, as_of=as_of, market="ticks")
    return {
        "ingest wall": seconds,
        "read": found["bytes_read"],
        "written": found["bytes_written"],
    }
