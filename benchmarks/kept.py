"""Results of a benchmark's units, kept so that a killed benchmark goes on where it was.

A unit's result lies in var/benchmarks/<name>/ under a digest of all that its caller says it depends
on. The library's code is not in it: delete the folder to measure anew after a change.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.files import read_json, write_bytes
from pipelines.paths import PROJECT

__all__ = ["folder", "kept", "place"]


def folder(benchmark: str) -> Path:
    """Return where the results of a benchmark's units lie."""
    return PROJECT / "var" / "benchmarks" / benchmark


def place(benchmark: str, unit: Mapping[str, Any], ending: str = "json") -> Path:
    """Return the file of one unit: its name, then a digest of the whole of `unit`."""
    text = json.dumps(unit, sort_keys=True, default=str)
    name = "-".join(str(unit[key]) for key in sorted(unit) if isinstance(unit[key], str | int))
    return folder(benchmark) / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}.{ending}"


def kept(benchmark: str, unit: Mapping[str, Any], work: Callable[[], Any]) -> Any:
    """Return the unit's result, from its file or else by doing the work and writing the file.

    Args:
        benchmark: its name.
        unit: all that the result depends on, JSON-able.
        work: gives a JSON-able result.
    """
    path = place(benchmark, unit)
    if not path.is_file():
        write_bytes(path, json.dumps(work()).encode())  # with NaN, which the artifacts refuse
    return read_json(path)
