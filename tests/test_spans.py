"""What a live source was asked for: kept per symbol, known after a kill, not if a file changed."""

import os
from pathlib import Path

import pandas as pd

from pipelines.spans import Coverage, Span

JANUARY = Span(pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-02-01", tz="UTC"))
FEBRUARY = Span(JANUARY.end, pd.Timestamp("2026-03-01", tz="UTC"))


def _stored(folder: Path, symbol: str, label: str, content: str = "bars") -> None:
    path = folder / symbol / f"{label}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def test_what_was_asked_is_known_to_the_next_process_symbol_by_symbol(tmp_path: Path) -> None:
    """Each piece is on record as soon as it is added; a symbol's record leaves others alone."""
    bars, records = tmp_path / "bars", tmp_path / "records"
    for symbol, label, span in (("A", "01", JANUARY), ("A", "02", FEBRUARY), ("B", "01", JANUARY)):
        _stored(bars, symbol, label)
        Coverage(records, bars).add(symbol, label, span)  # a process of its own each
    written = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    assert sorted(written) == ["A.json", "B.json"]
    found = Coverage(records, bars)
    assert found.spans("A") == [Span(JANUARY.start, FEBRUARY.end)]
    assert found.spans("B") == [JANUARY]
    assert found.spans("C") == []
    found.add("B", "01", JANUARY)
    assert (records / "A.json").stat().st_mtime_ns == written["A.json"]


def test_a_changed_file_is_asked_for_again_and_no_other(tmp_path: Path) -> None:
    """The piece whose file is not as it was left is forgotten, for good once others are added."""
    bars, records = tmp_path / "bars", tmp_path / "records"
    found = Coverage(records, bars)
    for symbol, label, span in (("A", "01", JANUARY), ("A", "02", FEBRUARY), ("B", "01", JANUARY)):
        _stored(bars, symbol, label)
        found.add(symbol, label, span)
    before = (bars / "A" / "01.parquet").stat().st_mtime_ns
    _stored(bars, "A", "01", "other bars")
    again = Coverage(records, bars)
    assert again.spans("A") == [FEBRUARY]
    assert again.spans("B") == [JANUARY]
    again.forget_changed("A")
    again.add("A", "02", FEBRUARY)
    _stored(bars, "A", "01")
    os.utime(bars / "A" / "01.parquet", ns=(before, before))  # as it was: only a record could tell
    assert Coverage(records, bars).spans("A") == [FEBRUARY]
