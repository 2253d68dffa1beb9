"""A handful of the injected defects, each at three places, named by symbol and time."""

import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.defect_kinds import FILE_KINDS, KINDS
from benchmarks.defects import caught, caught_files, clean, named

HANDFUL = (
    "high infinite",
    "key twice with other values",
    "one bar times 100",
    "unannounced split 2 for 1",
    "session missing",
    "future timestamp",
)


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    return clean("equity_daily", symbols=3)


@pytest.fixture(scope="module")
def known(frames: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> object:
    return named(tmp_path_factory.mktemp("clean"), "equity_daily", frames)


def test_there_are_forty_kinds_and_more() -> None:
    """The table holds what it says."""
    assert len({kind.name for kind in KINDS}) + len(FILE_KINDS) >= 40


@pytest.mark.parametrize("name", HANDFUL)
def test_a_defect_is_named_wherever_it_is(
    name: str, tmp_path: Path, frames: dict[str, pd.DataFrame], known: pd.DataFrame
) -> None:
    """At each of three places, in quarantine, among warnings or in the calendar report."""
    kind = next(one for one in KINDS if one.name == name)
    assert len(caught(kind, tmp_path, frames, known)) == 3


@pytest.mark.parametrize("name", ["Parquet truncated", "CSV with commas for points"])
def test_a_broken_file_is_named(name: str, tmp_path: Path, frames: dict[str, pd.DataFrame]) -> None:
    """An archive with such a file is refused, by the symbol's name."""
    assert len(caught_files(name, tmp_path, frames)) == 3


def test_the_known_anomalies_hold_no_prices() -> None:
    """The committed list has keys, reasons and counts, and nothing of the data's values."""
    table = pd.read_csv(Path(__file__).parent.parent / "benchmarks" / "known_anomalies.csv")
    assert list(table.columns) == ["market", "symbol", "date", "reason", "rows"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in table["date"])
    assert table["rows"].dtype == int
