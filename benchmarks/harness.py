"""Time things side by side and write one document: metadata, results, ratios.

Things compared run interleaved, round by round, so that a busy machine slows all of them alike. A
ratio is taken within each round and its median is kept.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipelines.files import write_json

__all__ = ["Ratio", "Report", "Timing", "interleave", "metadata", "ratio", "timing", "write_report"]

Seconds = dict[str, list[float]]


class Timing(NamedTuple):
    """One row of results: the median and the spread of a quantity over n rounds."""

    name: str
    unit: str
    median: float
    p10: float
    p90: float
    n: int


class Ratio(NamedTuple):
    """One claim: its value and the target it has to reach, None if there is none."""

    name: str
    value: float
    target: float | None


class Report(NamedTuple):
    """What a benchmark found."""

    results: list[Timing]
    ratios: list[Ratio]


def interleave(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Run every work once to warm up, then each in turn for `rounds` rounds; return seconds.

    With `time.process_time` they are seconds of a processor, all threads together: what a claim
    about one core asks for, whatever else the machine does meanwhile.
    """
    for work in works.values():
        work()
    seconds: Seconds = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = clock()
            work()
            seconds[name].append(clock() - start)
    return seconds


def timing(name: str, unit: str, values: list[float]) -> Timing:
    """Summarize one quantity's rounds."""
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return Timing(name, unit, float(middle), float(low), float(high), len(values))


def ratio(name: str, above: list[float], below: list[float], target: float | None) -> Ratio:
    """Take the median of above/below over rounds."""
    return Ratio(name, float(np.median(np.array(above) / np.array(below))), target)


def metadata(name: str, seed: int) -> dict[str, Any]:
    """Say what ran where: commit, command, seed, versions, processor, threads, date."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607 # whichever git the user has
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    packages = ("numpy", "numba", "pandas")
    given = sys.argv[1:] if name in sys.argv[1:2] else [name, *sys.argv[1:]]
    return {
        "benchmark": name,
        "commit": commit,
        "command": " ".join(["python -m benchmarks", *given]),
        "seed": seed,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "processor": platform.processor() or platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_report(report: Report, path: Path | None, about: Mapping[str, Any]) -> None:
    """Write what was found beside its metadata, whole or not at all, if a path is given."""
    if path is not None:
        found = {
            "metadata": about,
            "results": [row._asdict() for row in report.results],
            "ratios": [claim._asdict() for claim in report.ratios],
        }
        write_json(path, found)
