"""yfinance's own client against a stand-in of Yahoo: bars as traded, adjustments, surfaces."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.config import ATLASConfig
from atlas.errors import ConfigError, SourceError
from atlas.surfaces import DELTAS
from pipelines import fingerprint, ingest, store
from pipelines.files import digest, read_json
from pipelines.paths import PROJECT, Paths
from pipelines.sources.yfinance import YfinanceSource
from tests.judged import judge
from tests.stand_ins import Yahoo, served

SESSIONS = pd.bdate_range("2026-01-05", "2026-02-06")
END = pd.Timestamp("2026-02-07", tz="UTC")
SPLIT = 15  # place of the first session after a split


def config(symbols: tuple[str, ...] = ("ACME",), **settings: object) -> ATLASConfig:
    live = {"symbols": list(symbols), "since": "2026-01-01"}
    market = {"timeframe": "1d", "calendar": "XNYS", "live": live, **settings}
    return ATLASConfig.parse(
        {
            "source": "yfinance",
            "markets": {"stocks": market},
            "simulated": {"as_of": "2026-11-20", "markets": {}},
        }
    )


SURFACES = {"modality": "surface", "label": {"kind": "surface_change"}}


@pytest.fixture
def yahoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Yahoo]:
    with served(Yahoo(SESSIONS)) as found:
        assert isinstance(found, Yahoo)
        monkeypatch.setenv("AIRFLOW_CONN_ATLAS_YFINANCE", f"{found.base}?retry_s=0.001")
        yield found


def fetch(end: pd.Timestamp = END, **settings: object) -> pd.DataFrame:
    return YfinanceSource(config(**settings)).fetch("stocks", "ACME", as_of=end)


def run(paths: Paths, end: pd.Timestamp = END, **how: object) -> dict[str, object]:
    return ingest.run(paths, config(**how), as_of=end, market="stocks")


def test_daily_bars_are_as_traded_and_dated_by_their_session(yahoo: Yahoo) -> None:
    """A split and a dividend change no price of the past, only adj_close; volume is as traded."""
    yahoo.splits, yahoo.dividends = {SPLIT: 4.0}, {20: 0.5}
    found = fetch()
    assert found["timestamp"].tolist() == SESSIONS.tz_localize("UTC").tolist()
    np.testing.assert_allclose(found["close"], yahoo.traded, rtol=1e-6)
    np.testing.assert_allclose(found["volume"], 1000)
    paid = 1 - 0.5 / yahoo.traded[19]
    factor = np.where(np.arange(25) < SPLIT, paid / 4, np.where(np.arange(25) < 20, paid, 1.0))
    np.testing.assert_allclose(found["adj_close"], yahoo.traded * factor, rtol=1e-6)
    assert fetch(END - pd.Timedelta(days=3))["timestamp"].iloc[-1].day == 3


def test_intraday_bars_are_as_traded_too(yahoo: Yahoo) -> None:
    """Half hours in UTC; adj_close is on the scale after the split."""
    sessions = pd.bdate_range(
        pd.Timestamp.now("UTC").normalize().tz_localize(None), periods=10, freq="-1B"
    )
    yahoo.sessions = sessions[::-1][:-1]
    yahoo.traded, yahoo.splits = yahoo.traded[: len(yahoo.sessions)], {4: 2.0}
    end = pd.Timestamp.now("UTC").floor("D")
    found = fetch(end, timeframe="30min")
    whole = len(found) // 13
    assert whole >= 7
    np.testing.assert_allclose(found["close"], np.repeat(yahoo.traded, 13)[: len(found)], rtol=1e-6)
    ratio = (found["adj_close"] / found["close"]).to_numpy()
    np.testing.assert_allclose(ratio, np.where(np.arange(len(found)) < 4 * 13, 0.5, 1.0), rtol=1e-5)


@pytest.mark.parametrize(
    "faults", [["429", "429", "429"], ["500", "500"], ["malformed", "malformed"]]
)
def test_faults_on_the_way_change_no_bar(yahoo: Yahoo, faults: list[str]) -> None:
    """Rate limits, outages and broken JSON end in the same bars."""
    calm = fetch()
    yahoo.faults = list(faults)
    pd.testing.assert_frame_equal(fetch(), calm)
    yahoo.faults = ["500"] * 60
    with pytest.raises(SourceError, match="Yahoo ACME 1d"):
        fetch()


@pytest.mark.usefixtures("yahoo")
def test_what_does_not_exist_is_named() -> None:
    """A symbol without bars, and a timeframe that Yahoo has not."""
    source = YfinanceSource(config(("NOPE",)))
    with pytest.raises(ConfigError, match=r"Yahoo NOPE.*no such symbol"):
        source.fetch("stocks", "NOPE", as_of=END)
    with pytest.raises(ConfigError, match="timeframe 4h: Yahoo does not offer it"):
        YfinanceSource(config(timeframe="4h")).check_rows("stocks")


def test_a_chain_becomes_a_surface(yahoo: Yahoo) -> None:
    """Three tenors at the grid's deltas, from bid and ask; the nearest expiry is too near."""
    yahoo.vol = lambda strike: 0.3 - 0.001 * (strike - 100)
    found = fetch(**SURFACES)
    assert (found["timestamp"] == yahoo.taken).all()
    assert sorted(found["tenor"].unique()) == [1, 2, 3]
    nearest = found[found["tenor"] == 1].set_index("delta")["iv"]
    assert set(nearest.index) == set(DELTAS)
    assert nearest[0.5] == nearest[-0.5] == pytest.approx(0.2995, abs=2e-3)
    assert nearest[-0.25] > nearest[0.5] > nearest[0.25]
    asked = [path for path in yahoo.asked if "date=" in path]
    assert len(asked) == 4


def test_a_chain_of_another_time_is_no_surface_of_the_night(yahoo: Yahoo) -> None:
    """Past nights have none, and a session that still trades has none yet."""
    assert fetch(END - pd.Timedelta(days=2), **SURFACES).empty
    yahoo.taken = pd.Timestamp("2026-02-06 18:00", tz="UTC")
    assert fetch(**SURFACES).empty


def test_surfaces_are_stored_night_by_night(tmp_path: Path, yahoo: Yahoo) -> None:
    """A second run of a night asks nothing; a later night adds its own."""
    paths = Paths(tmp_path)
    first = run(paths, **SURFACES)
    assert first["bars"] == first["bars_added"] == 30
    asked = len(yahoo.asked)
    assert run(paths, **SURFACES)["bars_added"] == 0
    assert len(yahoo.asked) == asked
    yahoo.taken, yahoo.expiries = pd.Timestamp("2026-02-09 21:00:01", tz="UTC"), yahoo.expiries[1:]
    assert run(paths, pd.Timestamp("2026-02-10", tz="UTC"), **SURFACES)["bars_added"] == 30


def stored(paths: Paths, symbol: str = "ACME") -> pd.DataFrame:
    return store.read_bars(
        paths, "stocks", symbol, as_of=END, config=config().markets["stocks"], quarantined=False
    )


def test_a_split_and_a_dividend_are_applied_once_and_reported(tmp_path: Path, yahoo: Yahoo) -> None:
    """Stored prices stay, adj_close is restated, and the bytes are those of one ingest."""
    paths = Paths(tmp_path / "nightly")
    run(paths, pd.Timestamp("2026-01-24", tz="UTC"))
    raw = stored(paths)["close"]
    yahoo.splits = {SPLIT: 4.0}
    summary = run(paths, pd.Timestamp("2026-01-31", tz="UTC"))
    assert summary["adjusted"] == 1
    yahoo.dividends = {20: 0.5}
    run(paths)
    assert stored(paths)["close"].iloc[: len(raw)].tolist() == raw.tolist()
    kinds = [(one["kind"], one["factor"]) for one in read_json(paths.adjustments("stocks"))]
    assert kinds[0] == ("split", 0.25)
    assert kinds[1][0] == "dividend"
    assert run(paths)["adjusted"] == 0
    assert len(read_json(paths.adjustments("stocks"))) == 2
    once = Paths(tmp_path / "once")
    run(once)
    assert digest(once.bars("stocks") / "ACME.parquet") == digest(
        paths.bars("stocks") / "ACME.parquet"
    )


def test_only_the_restated_symbol_is_fingerprinted_anew(tmp_path: Path, yahoo: Yahoo) -> None:
    """All rows of the symbol that paid a dividend, and the other one's new rows alone."""
    yahoo.known = {"ACME", "BETA"}
    paths, both = Paths(tmp_path), config(("ACME", "BETA"))
    before = pd.Timestamp("2026-01-31", tz="UTC")
    for night, rows in ((before, 2 * 20), (END, 25 + 5)):
        summary = ingest.run(paths, both, as_of=night, market="stocks")
        judge(paths, "stocks", END)
        assert fingerprint.run(paths, both, as_of=night, market="stocks")["computed"] == rows
        yahoo.dividends = {20: 0.5}
    assert summary["adjusted"] == 1


def test_a_process_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    """What yfinance keeps of another host than Yahoo goes with the process, however many ask."""
    asked = (
        "from pipelines.connections import Connection\n"
        "from pipelines.sources.yahoo_session import open_session\n"
        "import pathlib, tempfile\n"
        "open_session(Connection(base='http://localhost:1'))\n"
        "open_session(Connection(base='http://localhost:1'))\n"
        "print(len(list(pathlib.Path(tempfile.gettempdir()).glob('atlas-*'))))\n"
    )
    words = [sys.executable, "-c", asked]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    found = subprocess.run(words, env=env, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
    assert not list(tmp_path.glob("atlas-*"))
