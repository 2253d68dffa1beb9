"""The store keeps rows as they came, adds only what is missing, and hides quarantined rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.config import LabelConfig, MarketConfig
from atlas.errors import BarsError, DataError
from pipelines import store
from pipelines.files import digest, read_json, write_json
from pipelines.paths import Paths
from pipelines.store import (
    extent,
    market_as_of,
    night_of,
    read_bars,
    symbol_files,
    symbol_name,
    symbols,
    write_bars,
)
from tests.judged import judge

DAILY = MarketConfig(timeframe="1d", calendar="XNYS")
MINUTE = MarketConfig(timeframe="1min", calendar="24/7")
SURFACE = MarketConfig(
    timeframe="1d",
    calendar="XNYS",
    modality="surface",
    label=LabelConfig(kind="surface_change"),
)
END = pd.Timestamp("2030-01-01", tz="UTC")


def bars(times: pd.DatetimeIndex | list[str], seed: int = 1) -> pd.DataFrame:
    stamps = pd.DatetimeIndex(times).tz_localize("UTC")
    close = np.random.default_rng(seed).uniform(90, 110, len(stamps)).round(4)
    return pd.DataFrame(
        {"timestamp": stamps, "open": close, "high": close, "low": close, "close": close}
    )


def quotes(times: list[str], delta: float = -0.25) -> pd.DataFrame:
    stamps = pd.DatetimeIndex(times).tz_localize("UTC")
    return pd.DataFrame({"timestamp": stamps, "tenor": 1, "delta": delta, "iv": 0.2})


def write(paths: Paths, frame: pd.DataFrame, config: MarketConfig, **how: object) -> list[str]:
    timeframe = Timeframe.parse(config.timeframe)
    changed = write_bars(paths, "m", "S", frame, timeframe, config.modality, **how).files
    return [str(path.relative_to(paths.bars("m"))) for path in changed]


def read(
    paths: Paths, config: MarketConfig, as_of: pd.Timestamp = END, *, quarantined: bool = False
) -> pd.DataFrame:
    return read_bars(paths, "m", "S", as_of=as_of, config=config, quarantined=quarantined)


def test_partitions_follow_the_timeframe(tmp_path: Path) -> None:
    """Minutes lie by month, other intraday bars by year, daily bars and surfaces in one file."""
    for timeframe, expected in (
        ("1min", ["S/2025-12.parquet", "S/2026-01.parquet"]),
        ("5min", ["S/2025.parquet", "S/2026.parquet"]),
        ("1d", ["S.parquet"]),
    ):
        paths = Paths(tmp_path / timeframe)
        config = MarketConfig(timeframe=timeframe, calendar="24/7")
        assert write(paths, bars(["2025-12-31 23:00", "2026-01-01"]), config) == expected
        assert symbols(paths, "m") == ["S"]
        assert len(symbol_files(paths, "m", "S")) == len(expected)
        assert len(read(paths, config)) == 2


def test_nights_append_to_the_bytes_of_one_run(tmp_path: Path) -> None:
    """Night by night or at once, the files are the same; only touched months are rewritten."""
    times = pd.date_range("2026-01-30 23:50", periods=3000, freq="1min")
    frame = bars(times)
    once, nightly = Paths(tmp_path / "once"), Paths(tmp_path / "nightly")
    write(once, frame, MINUTE)
    write(nightly, frame.iloc[:2000], MINUTE)
    assert write(nightly, frame, MINUTE) == ["S/2026-02.parquet"]
    assert write(nightly, frame, MINUTE) == []
    assert write(nightly, frame.iloc[:100], MINUTE) == []
    for name in ("S/2026-01.parquet", "S/2026-02.parquet"):
        assert digest(once.bars("m") / name) == digest(nightly.bars("m") / name)


def test_a_gap_is_filled(tmp_path: Path) -> None:
    """Rows that come late take their place in time."""
    frame = bars(["2026-01-01", "2026-01-02", "2026-01-03"])
    write(Paths(tmp_path), frame.iloc[[0, 2]], DAILY)
    write(Paths(tmp_path), frame, DAILY)
    assert read(Paths(tmp_path), DAILY)["close"].tolist() == frame["close"].tolist()


def test_bad_rows_are_stored_as_they_came(tmp_path: Path) -> None:
    """Missing prices, a high below the low and duplicates are kept, and stay once on a rerun."""
    paths = Paths(tmp_path)
    frame = bars(["2026-01-02", "2026-01-01", "2026-01-01", "2026-01-03"])
    frame.loc[1, "close"] = np.nan
    frame.loc[3, "high"] = 1.0
    write(paths, frame, DAILY)
    assert write(paths, frame, DAILY) == []
    stored = read_bars(paths, "m", "S", as_of=END, config=DAILY, quarantined=False)
    assert stored.index.day.tolist() == [1, 1, 2, 3]
    assert np.isnan(stored["close"].iloc[0])
    assert stored["high"].iloc[3] == 1.0
    assert (stored.dtypes == np.float64).all()


def test_a_quote_without_delta_is_stored_once(tmp_path: Path) -> None:
    """A missing delta equals itself, so that a rerun adds nothing."""
    paths = Paths(tmp_path)
    frame = quotes(["2026-01-01 21:00", "2026-01-02 21:00"], delta=np.nan)
    write(paths, frame, SURFACE)
    assert write(paths, frame, SURFACE) == []
    assert len(read(paths, SURFACE)) == 2


def test_a_stored_row_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Restated rows are counted in a warning, or refused before anything is written."""
    paths = Paths(tmp_path)
    write(paths, bars(["2026-01-01", "2026-01-02"]), DAILY)
    restated = bars(["2026-01-01", "2026-01-02", "2026-01-03"], seed=2)
    with pytest.raises(DataError, match="m/S: 2 stored rows are not those the source makes now"):
        write(paths, restated, DAILY, restated="refuse")
    assert len(read(paths, DAILY)) == 2
    write(paths, restated, DAILY)
    assert "2 rows differ from the source now" in caplog.text
    kept = bars(["2026-01-01", "2026-01-02"])["close"].tolist()
    assert read(paths, DAILY)["close"].tolist() == [*kept, restated["close"].iloc[2]]


def test_a_column_that_comes_later_is_missing_before(tmp_path: Path) -> None:
    """A symbol may gain an optional column; its older rows have none."""
    paths = Paths(tmp_path)
    write(paths, bars(["2026-01-01"]), DAILY)
    write(paths, bars(["2026-01-02"]).assign(bid=99.0), DAILY)
    assert read(paths, DAILY)["bid"].isna().tolist() == [True, False]


def test_no_night_reads_what_it_does_not_know(tmp_path: Path) -> None:
    """A bar is known at open + timeframe, a surface at its timestamp, and not before."""
    night = pd.Timestamp("2026-01-03", tz="UTC")
    cases = (
        (DAILY, bars(["2026-01-02", "2026-01-03"])),
        (MINUTE, bars(["2026-01-02 23:59", "2026-01-03 00:00"])),
        (SURFACE, quotes(["2026-01-03 00:00", "2026-01-03 00:01"])),
    )
    for place, (config, frame) in enumerate(cases):
        paths = Paths(tmp_path / str(place))
        write(paths, frame, config)
        assert len(read(paths, config, night)) == 1
        assert extent(paths, "m", config, night)[:2] == (1, frame["timestamp"].iloc[0])
        assert extent(paths, "m", config, END).bars == 2
        assert market_as_of(paths, "m", config, night) == night
        assert night_of(frame["timestamp"].iloc[0], config) == night
        before = pd.Timestamp("2020-01-01", tz="UTC")
        assert read(paths, config, before).empty
        assert extent(paths, "m", config, before) == (0, None, None)


def test_market_ends_at_its_own_last_bar(tmp_path: Path) -> None:
    """A market whose bars end early has an earlier as_of than the night."""
    write(Paths(tmp_path), bars(["2026-01-02 10:00"]), MINUTE)
    assert market_as_of(Paths(tmp_path), "m", MINUTE, END) == pd.Timestamp("2026-01-03", tz="UTC")


def test_quarantined_rows_are_hidden(tmp_path: Path) -> None:
    """Readers miss exactly the quarantined keys of their symbol; validation sees all rows."""
    paths = Paths(tmp_path)
    write(paths, bars(["2026-01-01", "2026-01-02", "2026-01-02"]), DAILY)
    stamps = pd.DatetimeIndex(["2026-01-02", "2026-01-01"], tz="UTC")
    bad = pd.DataFrame({"symbol": ["S", "other"], "timestamp": stamps, "reason": "duplicate"})
    with pytest.raises(DataError, match=r"m: expected validated bars.*run validate first"):
        read(paths, DAILY, quarantined=True)
    judge(paths, "m", END, bad)
    assert read(paths, DAILY, quarantined=True).index.day.tolist() == [1]
    assert len(read_bars(paths, "m", "S", as_of=END, config=DAILY, quarantined=False)) == 3


def test_a_quarantine_is_read_once_for_all_symbols_and_again_when_it_changes(
    tmp_path: Path,
) -> None:
    """Many symbols do not read it many times; what a later validation finds holds at once."""
    paths, step = Paths(tmp_path), Timeframe.parse("1d")
    for symbol in ("S", "T", "U"):
        frame = bars(["2026-03-02", "2026-03-03"])
        write_bars(paths, "m", symbol, frame, step, "chart")
    first = pd.DatetimeIndex(["2026-03-02"], tz="UTC")
    judge(paths, "m", END, pd.DataFrame({"symbol": "T", "timestamp": first}))
    before = store._quarantined.cache_info().misses
    asked = {"as_of": END, "config": DAILY}
    found = {s: len(read_bars(paths, "m", s, **asked)) for s in ("S", "T", "U")}
    assert found == {"S": 2, "T": 1, "U": 2}
    assert store._quarantined.cache_info().misses == before + 1
    judge(paths, "m", END, pd.DataFrame({"symbol": ["S", "U"], "timestamp": first.repeat(2)}))
    found = {s: len(read_bars(paths, "m", s, **asked)) for s in ("S", "T", "U")}
    assert found == {"S": 1, "T": 2, "U": 1}


def test_quarantined_quotes_are_hidden_by_their_whole_key(tmp_path: Path) -> None:
    """One quote of a snapshot may be dropped while the others stay."""
    paths = Paths(tmp_path)
    time = ["2026-01-01 21:00"]
    write(paths, pd.concat([quotes(time), quotes(time, 0.25), quotes(time, np.nan)]), SURFACE)
    bad = pd.concat([quotes(time), quotes(time, np.nan)]).drop(columns="iv")
    judge(paths, "m", END, bad.assign(symbol="S", reason="iv"))
    assert read(paths, SURFACE, quarantined=True)["delta"].tolist() == [0.25]


@pytest.mark.parametrize("config", [DAILY, SURFACE])
def test_a_symbol_that_validation_could_not_read_has_no_rows(
    tmp_path: Path, config: MarketConfig
) -> None:
    """Readers get the usual form, empty, and go on with the other symbols."""
    paths = Paths(tmp_path)
    frame = quotes(["2026-01-01"]) if config is SURFACE else bars(["2026-01-01"])
    write(paths, frame, config)
    usual = read(paths, config)
    judge(paths, "m", END)
    outcome = read_json(paths.validation("m"))
    write_json(paths.validation("m"), {**outcome, "unreadable": ["S"]})
    (paths.bars("m") / "S.parquet").write_bytes(b"no parquet")
    found = read(paths, config, quarantined=True)
    pd.testing.assert_frame_equal(found, usual.iloc[:0])


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 65, "a b", "a\n", "é"])
def test_unsafe_symbol_names_never_become_paths(tmp_path: Path, name: str) -> None:
    """A name that could leave the store, or hide in it, is refused and named."""
    with pytest.raises(DataError, match=r"symbol name .*expected at most 64 letters"):
        write_bars(Paths(tmp_path), "m", name, bars(["2026-01-01"]), Timeframe.parse("1d"), "chart")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["BRK.B", "^GSPC", "EURUSD=X", "BTC-PERP", "SSE_50ETF"])
def test_usual_symbol_names_are_accepted(name: str) -> None:
    """What exchanges and vendors use as names is fine."""
    assert symbol_name(name) == name


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    """A symbol that is not stored, and a stored file that is no Parquet, say what to do."""
    paths = Paths(tmp_path)
    with pytest.raises(DataError, match="m/S: no bars are stored: run ingest"):
        read(paths, DAILY)
    write(paths, bars(["2026-01-01"]), DAILY)
    (paths.bars("m") / "S.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match=r"S.parquet: the stored file cannot be read .*remove it"):
        read(paths, DAILY)
    with pytest.raises(BarsError, match="m/S: column 'close' is missing"):
        write(paths, bars(["2026-01-01"]).drop(columns="close"), DAILY)
