"""Spans of time: which a live source has been asked for, and which it still has to be asked.

Kept in var/coverage/<market>/<symbol>.json by partition, so that a night asks only for what was
never asked, in whatever order nights run, and a killed ingest goes on where it was. Each symbol has
a file of its own, since it is written after every piece of its history. A partition whose file is
not as it was left is asked for again: what is on record then says nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pipelines.files import read_json, write_json
from pipelines.partitions import partition_of

__all__ = ["Coverage", "Span", "missing", "pieces", "union"]


class Span(NamedTuple):
    """Rows with start ≤ timestamp < end."""

    start: pd.Timestamp
    end: pd.Timestamp


def union(spans: list[Span]) -> list[Span]:
    """Return the same time as spans in order that neither touch nor overlap."""
    joined: list[Span] = []
    for span in sorted(spans):
        if span.start >= span.end:
            continue
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def missing(wanted: Span, covered: list[Span]) -> list[Span]:
    """Return the parts of `wanted` that no span covers, in order."""
    left, start = [], wanted.start
    for span in union(covered):
        if span.end <= start:
            continue
        if span.start >= wanted.end:
            break
        left.append(Span(start, span.start))
        start = span.end
    left.append(Span(start, wanted.end))
    return [span for span in left if span.start < span.end]


def pieces(span: Span, unit: str | None) -> Iterator[tuple[str, Span]]:
    """Cut a span where files end; give each file's label and its piece of the span.

    Args:
        unit: M for a file a month, Y for a file a year, None for a single file.
    """
    start = span.start
    while start < span.end:
        end = span.end
        if unit is not None:
            ends = pd.offsets.MonthBegin() if unit == "M" else pd.offsets.YearBegin()
            end = min(end, start.normalize() + ends)
        yield partition_of(start, unit), Span(start, end)
        start = end


class Coverage:
    """What one market's live source has been asked for.

    Args:
        records: the folder of the symbols' records; it need not exist.
        folder: of the market's files in the store.
    """

    def __init__(self, records: Path, folder: Path) -> None:
        self.records = records
        self.folder = folder
        self._found: dict[str, dict[str, Any]] = {}

    def spans(self, symbol: str) -> list[Span]:
        """Return what was asked for and is still stored as it was left."""
        found = []
        for label, entry in self._record(symbol).items():
            if entry["file"] == self._state(symbol, label):
                found += [Span(*map(pd.Timestamp, span)) for span in entry["spans"]]
        return union(found)

    def add(self, symbol: str, label: str, span: Span) -> None:
        """Record that a piece has been asked for and written."""
        own = self._record(symbol)
        state = self._state(symbol, label)
        before = own.get(label, {"spans": []})
        spans = [Span(*map(pd.Timestamp, one)) for one in before["spans"]]
        joined = union([*spans, span])
        own[label] = {"file": state, "spans": [[t.isoformat() for t in one] for one in joined]}
        write_json(self._path(symbol), own)

    def forget_changed(self, symbol: str) -> None:
        """Drop what is on record for files that are not as they were left."""
        own = self._record(symbol)
        gone = [name for name, entry in own.items() if entry["file"] != self._state(symbol, name)]
        for name in gone:
            del own[name]

    def _record(self, symbol: str) -> dict[str, Any]:
        if symbol not in self._found:
            path = self._path(symbol)
            self._found[symbol] = read_json(path) if path.is_file() else {}
        return self._found[symbol]

    def _path(self, symbol: str) -> Path:
        return self.records / f"{symbol}.json"

    def _state(self, symbol: str, label: str) -> list[int] | None:
        path = self.folder / symbol / f"{label}.parquet"
        path = path if label else self.folder / f"{symbol}.parquet"
        if not path.is_file():
            return None
        found = path.stat()
        return [found.st_size, found.st_mtime_ns]
