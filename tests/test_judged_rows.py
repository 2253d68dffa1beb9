"""What the suite judged in a night before it does not judge again, and nothing else changes."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.config import ATLASConfig
from pipelines import suite
from pipelines.files import digest
from pipelines.paths import Paths
from tests.test_validate import CONFIG, END, LENIENT, check, fill, put_all

MARKET = "equity_daily"
LATER = END + pd.Timedelta(days=1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that each run of the suite is given."""
    counts: list[int] = []
    original = suite._outcome

    def counted(batch: pd.DataFrame, *rest: object) -> object:
        counts.append(len(batch))
        return original(batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(suite, "_outcome", counted)
    return counts


def outcomes(paths: Paths) -> list[str]:
    """Return the digests of a market's artifacts."""
    kinds = (paths.quarantine, paths.warnings, paths.sessions, paths.validation)
    return [digest(kind(MARKET)) for kind in kinds]


def test_a_night_judges_what_it_touches_and_says_the_same_of_all(
    tmp_path: Path, seen: list[int]
) -> None:
    """Bars, quarantine and page are those of a whole validation; the suite saw a third of it."""
    night, whole = Paths(tmp_path / "night"), Paths(tmp_path / "whole")
    bad = {0: put_all({3: ("close", np.nan, ""), 28: ("volume", -1.0, "")})}
    for paths in (night, whole):
        fill(paths, MARKET, bad)
    symbol = sorted(night.bars(MARKET).iterdir())[1]
    full = symbol.read_bytes()
    pd.read_parquet(symbol).iloc[:-1].to_parquet(symbol, index=False)
    check(night, MARKET, config=LENIENT)
    symbol.write_bytes(full)
    check(night, MARKET, config=LENIENT)
    check(whole, MARKET, config=LENIENT)
    # the second night: thirty rows of the file that changed, and two that NumPy finds bad
    assert seen == [89, 30 + 2, 90]
    assert outcomes(night) == outcomes(whole)
    pages = [paths.data_docs("2026-11-20", MARKET).read_text() for paths in (night, whole)]
    assert all(re.search(r"1\.11\d*%", page) for page in pages)  # one of all ninety rows


def test_rows_that_an_earlier_night_did_not_know_are_judged(
    tmp_path: Path, seen: list[int]
) -> None:
    """A file that is as it was holds rows of later nights."""
    paths = Paths(tmp_path)
    fill(paths, MARKET)
    check(paths, MARKET, END - pd.Timedelta(days=2))
    check(paths, MARKET)
    check(paths, MARKET, LATER)
    assert seen == [3 * 28, 90, 0]


def test_other_settings_judge_all_again(tmp_path: Path, seen: list[int]) -> None:
    """So does a record that is lost."""
    paths = Paths(tmp_path)
    fill(paths, MARKET)
    check(paths, MARKET)
    check(paths, MARKET, config=LENIENT)
    (paths.var / "judged" / f"{MARKET}.json").unlink()
    check(paths, MARKET, LATER, config=LENIENT)
    assert seen == [90, 90, 90]


def test_a_suite_that_disagrees_with_its_rules_stops_the_market(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ways to judge a row are worth something only if a difference is noticed."""
    paths = Paths(tmp_path)
    fill(paths, MARKET, {0: put_all({3: ("volume", -1.0, "")})})
    monkeypatch.setattr(suite, "_broken_by", lambda batch, _: np.zeros(len(batch), np.bool_))
    with pytest.raises(suite.GateError, match=r"volume_not_negative: expected the suite to find"):
        check(paths, MARKET)


def test_each_market_is_judged_by_its_own_source(tmp_path: Path) -> None:
    """Whatever the others have: an archive may end, and only simulated rows may be ahead."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.loc[29, "timestamp"] = pd.Timestamp("2099-01-05", tz="UTC")

    fill(paths := Paths(tmp_path), MARKET, {2: spoil})
    later = END + pd.Timedelta(days=20)
    assert check(paths, MARKET, later, config=of_sources("simulated", "simulated"))["stale"] == {}
    archive = check(paths, MARKET, later, config=of_sources("ccxt", "files"))
    assert (archive["stale"], archive["future_rows"]) == ({}, 1)
    with pytest.raises(suite.GateError, match="at most 3 sessions old"):
        check(paths, MARKET, later, config=of_sources("simulated", "yfinance"))
    assert json.loads(paths.validation(MARKET).read_text())["future_rows"] == 1


def of_sources(default: str, own: str) -> ATLASConfig:
    """Return the configuration with a source for all and another for this market."""
    market = CONFIG.markets[MARKET].model_copy(update={"source": own})
    return CONFIG.model_copy(update={"source": default, "markets": {MARKET: market}})
