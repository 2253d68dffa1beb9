"""Validation: what is quarantined, what is only counted, and when a market fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import GateError
from atlas.synthetic import simulate
from pipelines import store, validate
from pipelines.files import read_json, write_parquet
from pipelines.paths import Paths

END = pd.Timestamp("2026-11-20", tz="UTC")
CONFIG = ATLASConfig.parse(
    {
        "markets": {
            "equity_daily": {"timeframe": "1d", "calendar": "XNYS", "bad_share": 0.05},
            "futures_30min": {"timeframe": "30min", "calendar": "CMES", "bad_share": 0.05},
            "options_skew": {"timeframe": "1d", "calendar": "XNYS", "modality": "surface"},
        },
        "simulated": {"as_of": "2026-11-20", "markets": {}},
    }
)
LENIENT = CONFIG.model_copy(
    update={
        "markets": {
            name: settings.model_copy(update={"bad_share": 1.0})
            for name, settings in CONFIG.markets.items()
        }
    }
)
Spoil = Callable[[pd.DataFrame], None]


def fill(paths: Paths, market: str, spoiled: dict[int, Spoil] | None = None) -> list[str]:
    """Store three simulated symbols of 30 sessions, some of them spoiled; return their names."""
    settings = CONFIG.markets[market]
    timeframe = Timeframe.parse(settings.timeframe)
    names = []
    made = simulate(
        market,
        symbols=3,
        history=30,
        history_end=END,
        timeframe=timeframe,
        calendar=settings.calendar,
        as_of=END,
        seed=7,
    )
    for place, one in enumerate(made):
        frame = one.frame.copy()
        if spoiled and place in spoiled:
            spoiled[place](frame)
        store.write_bars(paths, market, one.symbol, frame, timeframe, settings.modality)
        names.append(one.symbol)
    return names


def put(row: int, column: str, value: float) -> Spoil:
    def spoil(frame: pd.DataFrame) -> None:
        before = frame[column] if column in frame else pd.Series(1.0, index=frame.index)
        frame[column] = before.mask(frame.index == row, value)

    return spoil


def put_all(faults: dict[int, tuple[str, float, str]]) -> Spoil:
    def spoil(frame: pd.DataFrame) -> None:
        for row, (column, value, _) in faults.items():
            put(row, column, value)(frame)

    return spoil


def check(
    paths: Paths, market: str, as_of: pd.Timestamp = END, config: ATLASConfig = CONFIG
) -> dict[str, Any]:
    return validate.run(paths, config, as_of=as_of, market=market)


def quarantine(paths: Paths, market: str) -> pd.DataFrame:
    return pd.read_parquet(paths.quarantine(market))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.mark.parametrize("market", CONFIG.markets)
def test_a_clean_market_passes_with_an_empty_quarantine(paths: Paths, market: str) -> None:
    """Simulated rows break no rule; the quarantine is written all the same, without rows."""
    fill(paths, market)
    summary = check(paths, market)
    assert summary["bad_rows"] == 0
    assert summary["missing_bars"] == 0
    assert summary["symbols"] == 3
    keys = ["tenor", "delta"] if market == "options_skew" else []
    found = quarantine(paths, market)
    assert list(found.columns) == ["symbol", "timestamp", *keys, "reason"]
    assert found.empty
    assert read_json(paths.validation(market))["rows"] == summary["rows"]


BAR_FAULTS = {
    2: ("close", np.nan, "close_present"),
    4: ("open", np.inf, "open_positive"),
    6: ("low", 0.0, "low_positive"),
    8: ("high", 1.0, "high_covers_open_and_close"),
    10: ("low", 1e6, "low_covers_open_and_close"),
    12: ("volume", -1.0, "volume_not_negative"),
    14: ("volume", np.inf, "volume_not_negative"),
    16: ("bid", 1e6, "spread_not_negative"),
    18: ("adj_close", -1.0, "adj_close_positive"),
}
QUOTE_FAULTS = {
    40: ("iv", 0.0, "iv_positive_and_small"),
    70: ("iv", 5.1, "iv_positive_and_small"),
    100: ("iv", np.nan, "iv_present"),
    130: ("tenor", 4, "tenor_known"),
    160: ("delta", 0.3, "delta_known"),
    190: ("delta", np.nan, "delta_known"),
}


@pytest.mark.parametrize(
    ("market", "faults"), [("equity_daily", BAR_FAULTS), ("options_skew", QUOTE_FAULTS)]
)
def test_each_bad_row_is_quarantined_with_its_reason(
    paths: Paths, market: str, faults: dict[int, tuple[str, float, str]]
) -> None:
    """Every rule finds the one row that breaks it; readers lose those rows and no other."""
    symbols = fill(paths, market, {1: put_all(faults)})
    settings = CONFIG.markets[market]
    whole = store.read_bars(
        paths, market, symbols[1], as_of=END, config=settings, quarantined=False
    )
    assert check(paths, market, config=LENIENT)["bad_rows"] == len(faults)
    found = quarantine(paths, market)
    assert set(found["symbol"]) == {symbols[1]}
    by_time = found.sort_values("timestamp")["reason"]
    for reason, (_, _, rule) in zip(by_time, faults.values(), strict=True):
        assert rule in reason.split("; ")
    kept = store.read_bars(paths, market, symbols[1], as_of=END, config=settings)
    assert len(kept) == len(whole) - len(faults)


def test_missing_volume_and_quotes_are_no_fault(paths: Paths) -> None:
    """A bar without volume, bid or ask is a bar."""

    def spoil(frame: pd.DataFrame) -> None:
        frame[["volume", "bid", "ask"]] = np.nan

    fill(paths, "equity_daily", {0: spoil})
    assert check(paths, "equity_daily")["bad_rows"] == 0


def test_both_rows_of_a_key_that_comes_twice_go(paths: Paths) -> None:
    """Nobody can tell which of two rows with one key is right."""

    def spoil(frame: pd.DataFrame) -> None:
        times = frame["timestamp"]
        frame["timestamp"] = times.mask(frame.index == 7, times[6])

    symbols = fill(paths, "equity_daily", {2: spoil})
    summary = check(paths, "equity_daily")
    assert summary["bad_rows_by_rule"]["key_unique"] == 2
    assert summary["missing_bars"] == 1
    found = quarantine(paths, "equity_daily")
    assert found[["symbol", "reason"]].to_numpy().tolist() == [[symbols[2], "key_unique"]]


def test_a_row_out_of_order_is_quarantined(paths: Paths) -> None:
    """A stored file whose rows go back in time loses the row that does."""
    symbols = fill(paths, "equity_daily")
    path = store.symbol_files(paths, "equity_daily", symbols[0])[0]
    frame = pd.read_parquet(path)
    write_parquet(path, frame.iloc[[0, 2, 1, *range(3, 30)]])
    assert check(paths, "equity_daily")["bad_rows_by_rule"]["time_in_order"] == 1
    assert quarantine(paths, "equity_daily")["timestamp"].tolist() == [frame["timestamp"][1]]


def test_deltas_in_single_precision_are_known(paths: Paths) -> None:
    """Archives that stored deltas as float32 are not bad for that."""

    def spoil(frame: pd.DataFrame) -> None:
        frame["delta"] = frame["delta"].astype(np.float32).astype(np.float64)

    fill(paths, "options_skew", {0: spoil})
    assert check(paths, "options_skew")["bad_rows"] == 0


def test_missing_bars_are_counted_and_never_invented(paths: Paths) -> None:
    """A gap inside a symbol's history is counted by bars and sessions, and fails nothing."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.drop(index=[100, 101, 700], inplace=True)  # noqa: PD002 (spoils in place)

    fill(paths, "futures_30min", {1: spoil})
    summary = check(paths, "futures_30min")
    assert (summary["missing_bars"], summary["short_sessions"]) == (3, 2)
    assert summary["bad_rows"] == 0


def test_a_missing_surface_is_counted(paths: Paths) -> None:
    """A session without a snapshot is one missing bar of its symbol."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.drop(index=range(300, 330), inplace=True)  # noqa: PD002 (spoils in place)

    fill(paths, "options_skew", {1: spoil})
    summary = check(paths, "options_skew")
    assert (summary["missing_bars"], summary["short_sessions"]) == (1, 1)


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
    third = store.read_bars(paths, "equity_daily", symbols[2], as_of=END, config=settings).index[3]
    quarantined_after_failure(
        paths, f"rule volume_not_negative, first at {third.isoformat()}".replace("+", r"\+")
    )


def test_a_symbol_that_is_bad_throughout_fails_whatever_the_share(paths: Paths) -> None:
    """If every bar of a symbol breaks high ≥ max(open, close), the symbol is named."""

    def spoil(frame: pd.DataFrame) -> None:
        frame["high"] = frame["low"] / 2

    symbols = fill(paths, "equity_daily", {1: spoil})
    with pytest.raises(
        GateError, match=rf"equity_daily: every row of {symbols[1]} is bad.*high_covers"
    ):
        check(paths, "equity_daily", config=LENIENT)
    assert len(quarantine(paths, "equity_daily")) == 30


def test_a_symbol_that_cannot_be_read_fails_after_the_others_were_checked(paths: Paths) -> None:
    """A broken file is named, and does not keep the others from being checked."""
    symbols = fill(paths, "equity_daily", {2: put(1, "close", np.nan)})
    broken = store.symbol_files(paths, "equity_daily", symbols[0])[0]
    broken.write_bytes(b"no parquet")
    found = quarantined_after_failure(
        paths, f"equity_daily: 1 symbols cannot be read.*{symbols[0]}"
    )
    assert found["symbol"].tolist() == [symbols[2]]


def test_an_empty_market_fails(paths: Paths) -> None:
    """A market without rows is named, not passed."""
    with pytest.raises(GateError, match=r"equity_daily: no rows known by 2026-11-20"):
        check(paths, "equity_daily")


def test_rows_after_the_night_are_not_judged(paths: Paths) -> None:
    """A bad bar that the night does not know yet is the later night's business."""
    fill(paths, "equity_daily", {0: put(29, "close", np.nan)})
    assert check(paths, "equity_daily", END - pd.Timedelta(days=1))["bad_rows"] == 0
    assert check(paths, "equity_daily")["bad_rows"] == 1


def test_a_second_run_is_skipped_until_a_file_changes(paths: Paths) -> None:
    """The stage does its work once for the same files, and again for others."""
    fill(paths, "equity_daily")
    assert check(paths, "equity_daily")["skipped"] is False
    assert check(paths, "equity_daily")["skipped"] is True
    for path in paths.bars("equity_daily").iterdir():
        path.unlink()
    fill(paths, "equity_daily", {0: put(4, "close", np.nan)})
    again = check(paths, "equity_daily")
    assert (again["skipped"], again["bad_rows"]) == (False, 1)


def quarantined_after_failure(paths: Paths, message: str) -> pd.DataFrame:
    """Expect equity_daily to fail with a message; return what it quarantined."""
    with pytest.raises(GateError, match=message):
        check(paths, "equity_daily")
    assert paths.validation("equity_daily").is_file()
    return quarantine(paths, "equity_daily")
