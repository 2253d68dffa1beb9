"""A handful of the injected defects, each at three places, named by symbol and time."""

import re
from pathlib import Path

import pandas as pd
import pytest

from atlas.errors import DataError
from benchmarks import defects
from benchmarks.defect_kinds import FILE_KINDS, KINDS
from benchmarks.defects import caught, caught_files, clean, named
from benchmarks.units import Results, resumed

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


def test_the_page_is_what_the_results_say() -> None:
    """A figure changed by hand, or results without a new page, are seen; all kinds are there."""
    assert defects.PAGE.read_text(encoding="utf-8") == defects.page()
    kept = list(Results("defects").read().get("units", {}))
    assert kept == list(defects.units(Path("unused")))[: len(kept)]


def test_a_killed_run_goes_on_with_the_kinds_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the results file is not measured again; other settings are refused."""
    monkeypatch.setattr("benchmarks.units.RESULTS", tmp_path)
    monkeypatch.setattr(defects, "clean", lambda market: clean(market, symbols=1))
    name = "empty file"
    work = {name: defects.units(tmp_path)[name]}
    first = resumed("defects", "c", 7, {"places": 1}, work, 1.0)
    assert first["units"][name]["caught"] == 1
    lacking = {name: lambda: pytest.fail("measured again"), "other": lambda: {"caught": 3}}
    again = resumed("defects", "c", 7, {"places": 1}, lacking, 1.0)
    assert again["units"] == {**first["units"], "other": {"caught": 3}}
    with pytest.raises(DataError, match="expected settings"):
        resumed("defects", "c", 7, {"places": 2}, {}, 1.0)


def test_the_known_anomalies_hold_no_prices() -> None:
    """The committed list has keys, reasons and counts, and nothing of the data's values."""
    table = pd.read_csv(Path(__file__).parent.parent / "benchmarks" / "known_anomalies.csv")
    assert list(table.columns) == ["market", "symbol", "date", "reason", "rows"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in table["date"])
    assert table["rows"].dtype == int
