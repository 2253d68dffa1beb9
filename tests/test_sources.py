"""An archive is checked before anything is written; what is wrong with it is named."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.config import ATLASConfig
from atlas.errors import BarsError, ConfigError, DataError, GateError, SurfacesError
from pipelines.sources import source_for
from pipelines.sources.files import FilesSource, archive_as_of, check, check_rows
from pipelines.sources.simulated import SimulatedSource

MARKETS = {
    "daily": {"timeframe": "1d", "calendar": "XNYS", "bad_share": 0.1},
    "smiles": {
        "timeframe": "1d",
        "calendar": "XNYS",
        "modality": "surface",
        "required": False,
        "label": {"kind": "surface_change"},
    },
}
CONFIG = ATLASConfig.parse(
    {
        "source": "files",
        "markets": MARKETS,
        "simulated": {"as_of": "2026-11-20", "markets": {}},
    }
)
END = pd.Timestamp("2030-01-01", tz="UTC")


def bars(periods: int = 3) -> pd.DataFrame:
    close = np.linspace(10, 11, periods)
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2026-01-05", periods=periods, tz="UTC"),
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "note": "x",
        }
    )


def quotes() -> pd.DataFrame:
    time = pd.Timestamp("2026-01-09 21:00", tz="UTC")
    return pd.DataFrame({"timestamp": [time], "tenor": [1], "delta": [-0.25], "iv": [0.2]})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A sound archive: two daily symbols, one in each format, and one of surfaces."""
    for market in MARKETS:
        (tmp_path / market).mkdir()
    bars().to_parquet(tmp_path / "daily" / "AAA.parquet", index=False)
    bars(4).to_csv(tmp_path / "daily" / "B.B.csv", index=False)
    quotes().to_parquet(tmp_path / "smiles" / "SPY.parquet", index=False)
    return tmp_path


def test_both_formats_give_the_same_rows(archive: Path) -> None:
    """Parquet and CSV hold the same bars; a night gets those it knows."""
    source = FilesSource(archive, CONFIG)
    check(archive, CONFIG)
    assert source.symbols("daily") == ["AAA", "B.B"]
    bars().to_csv(archive / "daily" / "CCC.csv", index=False)
    source = FilesSource(archive, CONFIG)
    frames = [source.fetch("daily", name, as_of=END) for name in ("AAA", "CCC")]
    pd.testing.assert_frame_equal(*frames)
    assert list(frames[0].columns) == ["timestamp", "open", "high", "low", "close", "volume"]
    found = source.fetch("daily", "B.B", as_of=pd.Timestamp("2026-01-08", tz="UTC"))
    assert found["timestamp"].dt.day.tolist() == [5, 6, 7]


def test_each_market_ends_at_its_own_last_bar(archive: Path) -> None:
    """A market's night is the midnight at or after its last close, the archive's the latest."""
    source = FilesSource(archive, CONFIG)
    assert source.as_of("daily") == pd.Timestamp("2026-01-09", tz="UTC")
    assert source.as_of("smiles") == pd.Timestamp("2026-01-10", tz="UTC")
    assert archive_as_of(archive, CONFIG) == pd.Timestamp("2026-01-10", tz="UTC")


def test_a_folder_that_is_no_market_is_named_and_left_alone(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may hold anything; it is only a warning."""
    (archive / "notes").mkdir()
    (archive / "notes" / "broken.parquet").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        check(archive, CONFIG)
    assert "notes is no market in params.yaml: left alone" in caplog.text


def test_a_market_that_is_not_required_may_be_absent(archive: Path) -> None:
    """Without its folder it has no symbols; a required one is missed by name."""
    (archive / "smiles" / "SPY.parquet").unlink()
    (archive / "smiles").rmdir()
    check(archive, CONFIG)
    assert archive_as_of(archive, CONFIG) == pd.Timestamp("2026-01-09", tz="UTC")
    (archive / "daily").rename(archive / "dayly")
    with pytest.raises(DataError, match=r"/daily: the folder of market 'daily' is missing"):
        check(archive, CONFIG)


def _without_column(daily: Path) -> None:
    bars().drop(columns="high").to_parquet(daily / "AAA.parquet", index=False)


def _csv_without_column(daily: Path) -> None:
    bars().drop(columns="timestamp").to_csv(daily / "B.B.csv", index=False)


def _no_rows(daily: Path) -> None:
    bars().iloc[:0].to_parquet(daily / "AAA.parquet", index=False)


def _header_only(daily: Path) -> None:
    bars().iloc[:0].to_csv(daily / "B.B.csv", index=False)


def _zero_bytes(daily: Path) -> None:
    (daily / "B.B.csv").write_bytes(b"")


def _no_parquet(daily: Path) -> None:
    (daily / "AAA.parquet").write_bytes(b"no parquet at all")


def _binary_csv(daily: Path) -> None:
    (daily / "B.B.csv").write_bytes(bytes(range(256)) * 9)


def _two_files(daily: Path) -> None:
    bars().to_csv(daily / "AAA.csv", index=False)


def _bad_name(daily: Path) -> None:
    bars().to_csv(daily / "A A.csv", index=False)


def _empty(daily: Path) -> None:
    for path in daily.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (_without_column, BarsError, r"daily/AAA: column 'high' is missing in .*AAA.parquet"),
        (_csv_without_column, BarsError, r"daily/B.B: column 'timestamp' is missing"),
        (_no_rows, BarsError, r"daily/AAA: .*AAA.parquet holds no rows"),
        (_header_only, BarsError, r"daily/B.B: .*B.B.csv holds no rows"),
        (_zero_bytes, DataError, r"daily/B.B: .*B.B.csv cannot be read as CSV"),
        (_no_parquet, DataError, r"daily/AAA: .*AAA.parquet cannot be read as Parquet"),
        (_binary_csv, DataError, r"daily/B.B: "),
        (_two_files, DataError, r"symbol 'AAA' has a second file"),
        (_bad_name, DataError, r"symbol name 'A A'"),
        (_empty, DataError, r"market 'daily' is empty"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    archive: Path, damage: object, kind: type[DataError], message: str
) -> None:
    """One error of the right class names the file and the fault."""
    assert callable(damage)
    damage(archive / "daily")
    with pytest.raises(kind, match=message):
        check(archive, CONFIG)


def test_a_surface_without_a_column_is_a_surface_error(archive: Path) -> None:
    """Each modality has its own contract."""
    quotes().drop(columns="iv").to_parquet(archive / "smiles" / "SPY.parquet", index=False)
    with pytest.raises(SurfacesError, match="smiles/SPY: column 'iv' is missing"):
        FilesSource(archive, CONFIG).symbols("smiles")


def test_missing_folder_and_unknown_market_are_named(tmp_path: Path) -> None:
    """A folder that is not there, and a market that could leave it, are refused."""
    with pytest.raises(DataError, match=r"/nowhere: expected a folder"):
        check(tmp_path / "nowhere", CONFIG)
    with pytest.raises(ConfigError, match=r"market '\.\./x' is not in params"):
        FilesSource(tmp_path, CONFIG).symbols("../x")


def test_too_many_broken_rows_are_refused_before_a_night(archive: Path) -> None:
    """A few broken bars may pass to quarantine; more than the market's share may not."""
    frame = bars(100)
    frame.loc[:9, "high"] = frame["low"]
    frame.to_parquet(archive / "daily" / "AAA.parquet", index=False)
    check_rows(archive, CONFIG)
    frame.loc[:10, "high"] = frame["low"]
    frame.to_parquet(archive / "daily" / "AAA.parquet", index=False)
    with pytest.raises(GateError, match=r"daily: 11 of 104 rows break .*first AAA at 2026-01-05"):
        check_rows(archive, CONFIG)


def test_a_file_that_is_mostly_broken_is_refused_whatever_its_share(archive: Path) -> None:
    """One such file among many good ones is wrong input, not a few bad rows."""
    bars(200).to_parquet(archive / "daily" / "AAA.parquet", index=False)
    frame = bars(4)
    frame.loc[:1, "high"] = frame["low"]
    frame.to_csv(archive / "daily" / "B.B.csv", index=False)
    check_rows(archive, CONFIG)
    frame.loc[:2, "high"] = frame["low"]
    frame.to_csv(archive / "daily" / "B.B.csv", index=False)
    with pytest.raises(GateError, match=r"daily/B.B: 3 of 4 rows break .*high ≥ .*B.B.csv"):
        check_rows(archive, CONFIG)


def test_what_is_wrong_with_an_optional_market_leaves_only_it_out(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing column, bad rows or a broken file of it is a warning; the rest goes on."""
    path = archive / "smiles" / "SPY.parquet"
    quotes().assign(iv=-1.0).to_parquet(path, index=False)
    check(archive, CONFIG)
    check_rows(archive, CONFIG)
    assert "smiles/SPY: 1 of 1 rows break" in caplog.text
    assert "market smiles is not required: left out" in caplog.text
    caplog.clear()
    quotes().drop(columns="iv").to_parquet(path, index=False)
    check(archive, CONFIG)
    assert "smiles/SPY: column 'iv' is missing" in caplog.text
    path.write_bytes(b"no parquet at all")
    check_rows(archive, CONFIG)
    assert archive_as_of(archive, CONFIG) == pd.Timestamp("2026-01-09", tz="UTC")


def test_the_end_of_a_parquet_file_is_read_from_its_footer(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timestamps of any unit and zone need no row; dates as text are read."""
    daily = archive / "daily"
    (daily / "B.B.csv").unlink()
    ends = pd.Timestamp("2026-01-08", tz="UTC")
    stamps = bars()["timestamp"]
    forms = {
        "text": stamps.astype(str),
        "naive": stamps.dt.tz_localize(None),
        "zone": stamps.dt.tz_convert("Asia/Tokyo"),
        "nanoseconds": stamps.dt.as_unit("ns"),
        "microseconds": stamps.dt.as_unit("us"),
    }
    for name, form in forms.items():
        path = daily / "AAA.parquet"
        bars().assign(timestamp=form).to_parquet(path, index=False, row_group_size=2)
        assert FilesSource(archive, CONFIG).as_of("daily") == ends, name
        if name == "text":
            monkeypatch.setattr("pipelines.sources.files._read", None)


def test_text_among_numbers_is_refused_before_a_night(archive: Path) -> None:
    """What only reading the rows shows is named with symbol and column."""
    text = (archive / "daily" / "B.B.csv").read_text().replace("11.0", "eleven")
    (archive / "daily" / "B.B.csv").write_text(text)
    check(archive, CONFIG)
    with pytest.raises(BarsError, match=r"daily/B.B: column 'open': expected numbers; .*eleven"):
        check_rows(archive, CONFIG)


def test_params_choose_the_source(tmp_path: Path) -> None:
    """`simulated` needs no folder, `files` does."""
    simulated = CONFIG.model_copy(update={"source": "simulated"})
    assert isinstance(source_for(simulated, "daily", None), SimulatedSource)
    assert isinstance(source_for(CONFIG, "daily", tmp_path), FilesSource)
    with pytest.raises(ConfigError, match="the source 'files' needs a folder"):
        source_for(CONFIG, "daily", None)


def test_a_bar_of_the_future_moves_no_night(
    archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of by symbol and time; the archive ends at its last bar that has been."""
    frame = bars(100)
    frame.loc[99, "timestamp"] = pd.Timestamp("2099-01-05", tz="UTC")
    for name in ("AAA.parquet", "B.B.csv"):
        (archive / "daily" / name).unlink()
    for path, write in (("AAA.parquet", frame.to_parquet), ("AAA.csv", frame.to_csv)):
        write(archive / "daily" / path, index=False)
        source = FilesSource(archive, CONFIG)
        assert source.as_of("daily") == pd.Timestamp("2026-04-14", tz="UTC")
        assert source.fetch("daily", "AAA", as_of=source.as_of("daily")).shape[0] == 99
        check_rows(archive, CONFIG)
        assert "daily/AAA: 1 rows are later than the clock, first 2099-01-05" in caplog.text
        (archive / "daily" / path).unlink()
        caplog.clear()


def test_an_archive_of_the_future_is_refused(archive: Path) -> None:
    """Half a file of such rows is no slip of the pen; nothing else is no archive."""
    frame = bars(4)
    frame["timestamp"] += pd.Timedelta(days=365 * 60)
    frame.to_parquet(archive / "daily" / "AAA.parquet", index=False)
    with pytest.raises(GateError, match="daily/AAA: 4 of 4 rows"):
        check_rows(archive, CONFIG)
    (archive / "daily" / "B.B.csv").unlink()
    with pytest.raises(DataError, match="daily: every row is later than the clock"):
        FilesSource(archive, CONFIG).as_of("daily")
