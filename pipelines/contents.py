"""What the store's files hold, by a digest of their rows, so that a night need not read them again.

A night's archive begins with the rows of the nights before. Which of a market's files hold just
those is told by comparing digests: only files that change are read. The record is
var/contents/<market>.json; it counts for a file that is as it was left, by size and time, and says
nothing of another, so that to lose it costs reading and nothing else.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd

from pipelines.files import read_json, write_json

__all__ = ["Contents"]


class _Entry(TypedDict):
    file: list[int]  # size, time of change
    rows: int
    digest: str


class Contents:
    """The rows of one market's files.

    Args:
        path: of the record; it need not exist.
        folder: of the market's files in the store.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self._record: dict[str, _Entry] = read_json(path) if path.is_file() else {}

    def unread(
        self, files: list[Path], given: Mapping[Path, pd.DataFrame]
    ) -> dict[Path, pd.DataFrame]:
        """Return the rows of the files whose given rows begin with theirs and go on after them."""
        found = {}
        for path in files:
            entry, part = self._record.get(self._name(path)), given[path]
            if entry is None or entry["file"] != _state(path):
                continue
            rows = entry["rows"]
            own, stamps = part.iloc[:rows], part["timestamp"]
            if len(own) < rows or _digest(own) != entry["digest"]:
                continue
            if rows == len(part) or stamps.iloc[rows:].min() > own["timestamp"].max():
                found[path] = own
        return found

    def note(self, held: Mapping[Path, pd.DataFrame]) -> None:
        """Remember the rows that files hold."""
        for path, rows in held.items():
            entry: _Entry = {"file": _state(path), "rows": len(rows), "digest": _digest(rows)}
            self._record[self._name(path)] = entry

    def save(self) -> None:
        """Write the record."""
        write_json(self.path, self._record)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _digest(rows: pd.DataFrame) -> str:
    total = hashlib.sha256()
    for name, column in rows.items():
        if name == "timestamp":
            values = pd.DatetimeIndex(column).as_unit("us").asi8
        else:
            values = column.to_numpy()
        total.update(f"{name} {values.dtype}\n".encode())
        total.update(np.ascontiguousarray(values).data)
    return total.hexdigest()
