"""Validation: what is quarantined, what is only counted, and when a market fails."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import DataError
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
            "options_skew": {
                "timeframe": "1d",
                "calendar": "XNYS",
                "modality": "surface",
                "label": {"kind": "surface_change"},
            },
        },
        "simulated": {"as_of": "2026-11-20", "markets": {}},
    }
)


def _limited(bad_share: float) -> ATLASConfig:
    markets = CONFIG.model_dump(mode="json")["markets"]
    changed = {name: {**settings, "bad_share": bad_share} for name, settings in markets.items()}
    return ATLASConfig.parse({**CONFIG.model_dump(mode="json"), "markets": changed})


LENIENT, STRICT = _limited(1.0), _limited(0.0)
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
    15: ("high", np.inf, "high_positive"),
    16: ("bid", 1e6, "spread_not_negative"),
    18: ("adj_close", -1.0, "adj_close_positive"),
}
QUOTE_FAULTS = {
    40: ("iv", 0.0, "iv_positive_and_small"),
    70: ("iv", 5.1, "iv_positive_and_small"),
    85: ("iv", 0.005, "iv_positive_and_small"),
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


def test_sessions_tell_what_is_missing_by_symbol(paths: Paths) -> None:
    """The calendar report has a row for each session that lacks a bar, with its first one."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.drop(index=[100, 101, 700], inplace=True)  # noqa: PD002 (spoils in place)

    symbols = fill(paths, "futures_30min")
    whole = store.read_bars(
        paths,
        "futures_30min",
        symbols[1],
        as_of=END,
        config=CONFIG.markets["futures_30min"],
        quarantined=False,
    )
    for path in paths.bars("futures_30min").glob("*/*"):
        path.unlink()
    fill(paths, "futures_30min", {1: spoil})
    check(paths, "futures_30min")
    found = pd.read_parquet(paths.sessions("futures_30min"))
    assert found["symbol"].tolist() == [symbols[1]] * 2
    assert found["missing"].tolist() == [2, 1]
    assert found["first"].tolist() == [whole.index[100], whole.index[700]]


def test_what_only_warns_stays_and_is_listed_apart(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """A split that nobody announced is named by symbol and time; readers keep every bar."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.loc[20:, ["open", "high", "low", "close"]] /= 2

    symbols = fill(paths, "equity_daily", {1: spoil})
    summary = check(paths, "equity_daily")
    assert (summary["bad_rows"], summary["warnings"]) == (0, 1)
    assert quarantine(paths, "equity_daily").empty
    found = pd.read_parquet(paths.warnings("equity_daily"))
    assert found["symbol"].tolist() == [symbols[1]]
    assert "no_unannounced_split" in found["reason"][0]
    assert lengths(paths, symbols) == [30, 30, 30]
    assert "equity_daily: 1 rows to look at: no_unannounced_split 1" in caplog.text


def test_a_page_shows_what_the_suite_found(paths: Paths) -> None:
    """Data Docs of the night, one page a market, beside the artifacts and not among them."""
    fill(paths, "equity_daily", {0: put(1, "close", np.nan)})
    page = paths.home / check(paths, "equity_daily")["data_docs"]
    assert page.parent == paths.var / "data_docs" / "2026-11-20"
    assert "close_present" in page.read_text(encoding="utf-8")


def test_rows_later_than_the_clock_are_quarantined(paths: Paths) -> None:
    """A bar of the year 2099 is named, is no reader's, and does not make the others old."""

    def spoil(frame: pd.DataFrame) -> None:
        frame.loc[29, "timestamp"] = pd.Timestamp("2099-01-05", tz="UTC")

    symbols = fill(paths, "equity_daily", {2: spoil})
    archive = CONFIG.model_copy(update={"source": "files"})
    assert check(paths, "equity_daily", config=archive)["future_rows"] == 1
    found = quarantine(paths, "equity_daily")
    assert found[["symbol", "reason"]].to_numpy().tolist() == [[symbols[2], "not_in_the_future"]]
    assert found["timestamp"].dt.year.tolist() == [2099]
    assert lengths(paths, symbols) == [30, 30, 29]


def test_readers_refuse_rows_that_validation_has_not_seen(paths: Paths) -> None:
    """Before any validation, and for nights after the last one, nothing is handed out."""
    symbols = fill(paths, "equity_daily")
    with pytest.raises(DataError, match=r"equity_daily: expected validated bars.*run validate"):
        lengths(paths, symbols)
    yesterday = END - pd.Timedelta(days=1)
    check(paths, "equity_daily", yesterday)
    with pytest.raises(DataError, match=r"1 known after the night of 2026-11-19.*run validate"):
        lengths(paths, symbols)
    assert lengths(paths, symbols, yesterday) == [29, 29, 29]
    check(paths, "equity_daily")
    assert lengths(paths, symbols, END + pd.Timedelta(days=9)) == [30, 30, 30]  # nothing is newer


def test_a_past_night_keeps_the_quarantine_of_later_rows(paths: Paths) -> None:
    """Validating an old night again never lets a bad row of a later one through."""
    bad = {1: ("close", np.nan, ""), 29: ("close", np.nan, "")}
    symbols = fill(paths, "equity_daily", {0: put_all(bad)})
    check(paths, "equity_daily", config=LENIENT)
    past = check(paths, "equity_daily", END - pd.Timedelta(days=1), config=LENIENT)
    assert past["bad_rows"] == 1
    assert past["as_of"] < past["covers"] == END.isoformat()
    assert len(quarantine(paths, "equity_daily")) == 2
    assert lengths(paths, symbols) == [28, 30, 30]
    check(paths, "equity_daily", config=LENIENT)
    assert len(quarantine(paths, "equity_daily")) == 2


def test_a_past_night_vouches_for_no_row_that_came_since(paths: Paths) -> None:
    """If the store has other rows than the later night judged, that night has to be run again."""

    def shorten(frame: pd.DataFrame) -> None:
        frame.drop(index=28, inplace=True)  # noqa: PD002 (spoils in place)

    symbols = fill(paths, "equity_daily", {0: shorten})
    check(paths, "equity_daily")
    fill(paths, "equity_daily")
    check(paths, "equity_daily", END - pd.Timedelta(days=2))
    with pytest.raises(DataError, match="after the night of 2026-11-18"):
        lengths(paths, symbols)
    check(paths, "equity_daily")
    assert lengths(paths, symbols) == [30, 30, 30]


def test_great_expectations_keeps_its_own_affairs_to_itself(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """Where INFO is shown, it is not of temporary folders that GX makes."""
    fill(paths, "equity_daily")
    with caplog.at_level(logging.INFO):
        check(paths, "equity_daily")
    assert not [one for one in caplog.records if one.name.startswith("great_expectations")]


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


def lengths(paths: Paths, symbols: list[str], as_of: pd.Timestamp = END) -> list[int]:
    """Return how many bars readers get of each symbol of equity_daily."""
    settings = CONFIG.markets["equity_daily"]
    return [
        len(store.read_bars(paths, "equity_daily", symbol, as_of=as_of, config=settings))
        for symbol in symbols
    ]
