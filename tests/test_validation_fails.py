"""What fails a market, or leaves a symbol out, and what a failure says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.errors import DataError, GateError
from pipelines import store
from pipelines.paths import Paths
from pipelines.verdict import require_passed
from tests.test_validate import CONFIG, END, LENIENT, STRICT, check, fill, lengths, put, quarantine


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


def test_a_live_source_that_has_stopped_fails_its_market(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """One stale symbol is named; where most are, the source is at fault. An archive may end."""
    live = CONFIG.model_copy(update={"source": "ccxt"})

    def spoil(frame: pd.DataFrame) -> None:
        frame.drop(index=range(20, 30), inplace=True)  # noqa: PD002 (spoils in place)

    symbols = fill(paths, "equity_daily", {1: spoil})
    assert check(paths, "equity_daily", config=live)["stale"] == {symbols[1]: 10}
    assert f"{symbols[1]} is stale: no row for 10 sessions" in caplog.text
    later = END + pd.Timedelta(days=10)
    with pytest.raises(GateError, match="at most 3 sessions old; 3 symbols are older"):
        check(paths, "equity_daily", later, live)
    assert check(paths, "equity_daily", later)["stale"] == {}


def test_too_much_bad_fails_the_market_and_names_the_worst(paths: Paths) -> None:
    """Beyond its share a market fails closed; the quarantine tells what was found."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.loc[3:12, "volume"] = -1.0

    symbols = fill(paths, "equity_daily", {0: put(1, "close", np.nan), 2: spoil})
    first = quarantined_after_failure(paths, f"12.22%.*5.00%.*worst symbol {symbols[2]}.*33.33%")
    assert len(first) == 11
    assert set(first["symbol"]) == {symbols[0], symbols[2]}


def test_the_failure_names_rule_and_first_timestamp(paths: Paths) -> None:
    """The message is enough to find the fault."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.loc[3:12, "volume"] = -1.0

    symbols = fill(paths, "equity_daily", {2: spoil})
    settings = CONFIG.markets["equity_daily"]
    third = store.read_bars(
        paths, "equity_daily", symbols[2], as_of=END, config=settings, quarantined=False
    ).index[3]
    quarantined_after_failure(
        paths, f"rule volume_not_negative, first at {third.isoformat()}".replace("+", r"\+")
    )


def test_a_symbol_that_is_bad_throughout_is_left_out_and_named(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows are quarantined and count in the share; the others go on without it."""

    def spoil(frame: pd.DataFrame) -> None:
        frame["high"] = frame["low"] / 2

    symbols = fill(paths, "equity_daily", {1: spoil})
    summary = check(paths, "equity_daily", config=LENIENT)
    assert summary["bad_share"] == pytest.approx(1 / 3)
    assert list(summary["left_out"]) == [symbols[1]]
    assert f"equity_daily: {symbols[1]} is left out: every row is bad" in caplog.text
    assert "high_covers" in summary["left_out"][symbols[1]]
    assert lengths(paths, symbols) == [30, 0, 30]
    with pytest.raises(GateError, match=rf"33.33% of its rows are bad.*{symbols[1]}: 100.00% bad"):
        check(paths, "equity_daily")


def test_a_symbol_that_cannot_be_read_is_left_out_and_named(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers get no rows of it, so the others go on; it counts as many rows as they have."""
    symbols = fill(paths, "equity_daily", {2: put(1, "close", np.nan)})
    broken = store.symbol_files(paths, "equity_daily", symbols[0])[0]
    broken.write_bytes(b"no parquet")
    summary = check(paths, "equity_daily", config=LENIENT)
    assert summary["unreadable"] == [symbols[0]]
    assert summary["bad_share"] == pytest.approx(31 / 90)
    assert f"equity_daily: {symbols[0]} is left out: " in caplog.text
    assert lengths(paths, symbols) == [0, 30, 29]
    found = quarantined_after_failure(paths, f"34.44%.*1 symbols cannot be read.*{symbols[0]}")
    assert found["symbol"].tolist() == [symbols[2]]


def test_only_a_market_that_passed_in_this_night_counts(paths: Paths) -> None:
    """Neither an earlier night's pass nor a failure lets a market be trained on."""
    fill(paths, "equity_daily", {0: put(1, "close", np.nan)})
    tomorrow = END + pd.Timedelta(days=1)
    check(paths, "equity_daily")
    require_passed(paths, "equity_daily", END)
    with pytest.raises(DataError, match="in the night of 2026-11-21; got those of 2026-11-20"):
        require_passed(paths, "equity_daily", tomorrow)
    with pytest.raises(GateError, match=r"1\.11% of its rows are bad"):
        check(paths, "equity_daily", config=STRICT)
    with pytest.raises(GateError, match="that failed it in the night of 2026-11-20"):
        require_passed(paths, "equity_daily", END)
    for path in paths.bars("equity_daily").iterdir():
        path.unlink()
    with pytest.raises(GateError, match="no rows known"):
        check(paths, "equity_daily")
    with pytest.raises(DataError, match="run validate first"):
        require_passed(paths, "equity_daily", END)


def test_an_empty_market_fails(paths: Paths) -> None:
    """A market without rows is named, not passed."""
    with pytest.raises(GateError, match=r"equity_daily: no rows known by 2026-11-20"):
        check(paths, "equity_daily")


def quarantined_after_failure(paths: Paths, message: str) -> pd.DataFrame:
    """Expect equity_daily to fail with a message; return what it quarantined."""
    with pytest.raises(GateError, match=message):
        check(paths, "equity_daily")
    assert paths.validation("equity_daily").is_file()
    return quarantine(paths, "equity_daily")
