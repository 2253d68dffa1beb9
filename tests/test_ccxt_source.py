"""ccxt's own client against a stand-in of an exchange: pages, faults, names, secrets."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from atlas.config import ATLASConfig
from atlas.errors import ConfigError, DataError, SourceError
from pipelines import ingest
from pipelines.files import digest
from pipelines.paths import Paths
from pipelines.sources.ccxt import CcxtSource
from tests.stand_ins import FIRST, Exchange, served

LIVE = {"exchange": "binance", "symbols": ["BTC/USDT"], "since": "2026-01-30"}
END = pd.Timestamp("2026-02-03", tz="UTC")
SECRET = "s3cr3t-of-the-key"  # noqa: S105 (a stand-in asks for none)


def config(timeframe: str = "1min", **live: object) -> ATLASConfig:
    return ATLASConfig.parse(
        {
            "source": "ccxt",
            "markets": {
                "coins": {"timeframe": timeframe, "calendar": "24/7", "live": {**LIVE, **live}}
            },
            "simulated": {"as_of": "2026-11-20", "markets": {}},
        }
    )


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    with served(Exchange()) as found:
        assert isinstance(found, Exchange)
        where = f"{found.base}?retry_s=0.001&rate_limit_ms=0.001"
        monkeypatch.setenv("AIRFLOW_CONN_ATLAS_BINANCE", where)
        yield found


def fetch(end: pd.Timestamp = END, start: pd.Timestamp | None = None) -> pd.DataFrame:
    return CcxtSource(config()).fetch("coins", "BTC-USDT", as_of=end, start=start)


def expected(exchange: Exchange, end: pd.Timestamp = END) -> pd.DataFrame:
    frame = exchange.frame()
    return frame[frame["timestamp"] <= end - pd.Timedelta("1min")].reset_index(drop=True)


def test_pages_follow_one_another_to_the_end(exchange: Exchange) -> None:
    """Four days of minutes, an hour of them missing, come once each and in order."""
    pd.testing.assert_frame_equal(fetch(), expected(exchange))
    assert sum("klines" in path for path in exchange.asked) == 6


@pytest.mark.parametrize(
    "faults",
    [
        ["429", "", "429", "418"],
        ["500", "503", "502"],
        ["malformed", "", "nonsense"],
        ["short", "short", "unordered", "twice", "early"],
    ],
)
def test_faults_on_the_way_change_no_bar(exchange: Exchange, faults: list[str]) -> None:
    """Rate limits, outages, broken JSON and untidy pages end in the very same bars."""
    exchange.faults = list(faults)
    pd.testing.assert_frame_equal(fetch(), expected(exchange))
    assert exchange.faults == []


def test_it_gives_up_in_the_end_and_says_so(exchange: Exchange) -> None:
    """Six tries, then an error that names what was asked for and that a later try may do."""
    exchange.faults = ["503"] * 9
    with pytest.raises(SourceError, match=r"binance BTC/USDT 1m from 2026-01-30.*6 tries"):
        fetch()
    assert len(exchange.faults) == 3


def test_only_complete_bars_are_given(exchange: Exchange) -> None:
    """A bar is known at its close, so a span's last minute is the one before its end."""
    end = FIRST + pd.Timedelta("1h30s")
    assert fetch(end)["timestamp"].iloc[-1] == FIRST + pd.Timedelta("59min")
    future = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta("3min")
    exchange.rows = [
        [int((future + pd.Timedelta(minutes=i)).value // 10**6), *["9"] * 5] for i in range(8)
    ]
    given = fetch(pd.Timestamp("2100-01-01", tz="UTC"), start=future)["timestamp"]
    assert given.iloc[-1] <= pd.Timestamp.now("UTC") - pd.Timedelta("1min")
    assert len(given) in (3, 4)


@pytest.mark.parametrize(
    ("timeframe", "live", "message"),
    [
        ("1min", {"exchange": "binanse"}, "no such exchange; did you mean binance"),
        ("1min", {"symbols": ["BTC/USDX"]}, "does not list it; did you mean BTC/USDT"),
        ("7min", {}, "timeframe 7min: binance does not offer it; it has 1s, 1m"),
    ],
)
@pytest.mark.usefixtures("exchange")
def test_what_does_not_exist_is_named(
    timeframe: str, live: dict[str, object], message: str
) -> None:
    """An exchange, a symbol, a timeframe: refused before a row is written, with what there is."""
    with pytest.raises(ConfigError, match=message):
        CcxtSource(config(timeframe, **live)).check_rows("coins")


def test_refused_credentials_are_said_and_never_shown(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No retry, the connection's name in the error, key and secret in no text."""
    where = exchange.base.replace("http://", f"http://my-api-key:{SECRET}@")
    monkeypatch.setenv("AIRFLOW_CONN_ATLAS_BINANCE", f"{where}?retry_s=0.001")
    source = CcxtSource(config())
    exchange.faults = ["401"]
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(DataError, match="connection atlas_binance") as caught,
    ):
        source.fetch("coins", "BTC-USDT", as_of=END)
    said = f"{caught.value} {caplog.text} {source._clients['binance'].connection!r}"
    assert SECRET not in said
    assert "my-api-key" not in said


def contents(paths: Paths) -> dict[str, str]:
    return {str(p.relative_to(paths.data)): digest(p) for p in paths.data.rglob("*.parquet")}


def run(paths: Paths, to: str, start: str | None = None) -> dict[str, object]:
    begin = pd.Timestamp(start, tz="UTC") if start else None
    night = pd.Timestamp(to, tz="UTC")
    return ingest.run(paths, config(), as_of=night, market="coins", start=begin)


def test_any_order_of_ranges_ends_in_the_same_bytes(tmp_path: Path, exchange: Exchange) -> None:
    """Nights out of order, overlapping ranges and repetitions equal one run."""
    once, mixed = Paths(tmp_path / "once"), Paths(tmp_path / "mixed")
    run(once, "2026-02-03")
    run(mixed, "2026-02-02", "2026-02-01")
    run(mixed, "2026-01-31")
    run(mixed, "2026-02-02", "2026-02-01")
    run(mixed, "2026-02-03", "2026-02-02")
    run(mixed, "2026-02-03")
    assert contents(mixed) == contents(once)
    asked = len(exchange.asked)
    assert run(mixed, "2026-02-03")["bytes_written"] == 0
    assert not any("klines" in path for path in exchange.asked[asked:])  # all was asked for


def test_a_night_asks_for_and_writes_only_what_is_new(tmp_path: Path, exchange: Exchange) -> None:
    """One more day costs two pages and rewrites one month's file; a late bar still comes in."""
    paths = Paths(tmp_path)
    late = exchange.rows.pop(3 * 1440 - 60 - 2)
    run(paths, "2026-02-02")
    exchange.rows.append(late)
    before = contents(paths)
    asked = len(exchange.asked)
    summary = run(paths, "2026-02-03")
    assert summary["bars_added"] == 1441
    changed = {name for name, found in contents(paths).items() if before.get(name) != found}
    assert changed == {"bars/coins/BTC-USDT/2026-02.parquet"}
    assert sum("klines" in path for path in exchange.asked[asked:]) == 2
    size = (paths.bars("coins") / "BTC-USDT" / "2026-02.parquet").stat().st_size
    assert summary["bytes_written"] == size


def test_an_ingest_that_broke_off_goes_on_where_it_was(tmp_path: Path, exchange: Exchange) -> None:
    """What was written stays: the second run asks only for the month that failed."""
    paths = Paths(tmp_path)
    exchange.faults = ["", "", "", *["500"] * 6]
    with pytest.raises(SourceError):
        run(paths, "2026-02-03")
    assert list(contents(paths)) == ["bars/coins/BTC-USDT/2026-01.parquet"]
    asked = len(exchange.asked)
    run(paths, "2026-02-03")
    pages = [path for path in exchange.asked[asked:] if "klines" in path]
    first = int(pd.Timestamp("2026-01-31 23:50", tz="UTC").value // 10**6)
    assert f"startTime={first}" in pages[0]
    run(Paths(tmp_path / "calm"), "2026-02-03")
    assert contents(paths) == contents(Paths(tmp_path / "calm"))


def test_a_dry_run_says_what_would_be_fetched(tmp_path: Path, exchange: Exchange) -> None:
    """Symbol, from, to and the bars that the calendar expects; nothing is asked or written."""
    summary = ingest.run(
        Paths(tmp_path / "home"), config(), as_of=END, market="coins", dry_run=True
    )
    (ask,) = summary["asks"]
    assert (ask["symbol"], ask["from"], ask["to"]) == (
        "BTC-USDT",
        FIRST.isoformat(),
        END.isoformat(),
    )
    assert ask["bars"] == 4 * 1440
    assert not (tmp_path / "home").exists()
    assert exchange.asked == []
