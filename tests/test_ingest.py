"""Ingest adds what is missing, changes nothing else, and survives a kill at any moment."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from atlas.config import ATLASConfig
from atlas.errors import BarsError, ConfigError, DataError, GateError, HomeError
from pipelines import ingest, store
from pipelines.files import digest
from pipelines.home import binding, hold
from pipelines.paths import PROJECT, Paths

PARAMS = {
    "source": "files",
    "markets": {"ticks": {"timeframe": "1min", "calendar": "24/7"}},
    "simulated": {"as_of": "2026-11-20", "markets": {}},
}
CONFIG = ATLASConfig.parse(PARAMS)
TINY = ATLASConfig.parse(yaml.safe_load((PROJECT / "tests" / "params_tiny.yaml").read_text()))
END = pd.Timestamp("2026-03-01", tz="UTC")

CHILD = """
import json, os, signal, sys
from pathlib import Path
import pandas as pd
from atlas.config import ATLASConfig
from pipelines import ingest
from pipelines.paths import Paths
home, folder, params, renames = sys.argv[1:]
left = int(renames)
rename = Path.replace
def replace(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.replace = replace
print("ready", flush=True)
ingest.run(Paths(Path(home)), ATLASConfig.parse(json.loads(params)),
           as_of=pd.Timestamp("2026-03-01", tz="UTC"), market="ticks", folder=Path(folder))
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two symbols of minutes over three months, bad rows and a duplicate among them."""
    folder = tmp_path / "archive"
    (folder / "ticks").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for symbol in ("AAA", "BBB"):
        times = pd.date_range("2025-12-31 12:00", "2026-02-02 12:00", freq="1min", tz="UTC")
        close = rng.uniform(9, 11, len(times)).round(2)
        frame = pd.DataFrame({"timestamp": times, "open": close, "high": close, "low": close})
        frame["close"] = np.where(rng.random(len(times)) < 0.001, np.nan, close)
        frame = pd.concat([frame, frame.iloc[[5]]])
        frame.to_parquet(folder / "ticks" / f"{symbol}.parquet", index=False)
    return folder


def run(home: Path, archive: Path, as_of: pd.Timestamp = END) -> dict[str, object]:
    return ingest.run(Paths(home), CONFIG, as_of=as_of, market="ticks", folder=archive)


def contents_of_one_run(home: Path, archive: Path) -> dict[str, str]:
    run(home, archive)
    return contents(home)


def contents(home: Path) -> dict[str, str]:
    data = home / "data"
    return {str(p.relative_to(data)): digest(p) for p in data.rglob("*") if p.is_file()}


def test_a_second_run_changes_no_byte(tmp_path: Path, archive: Path) -> None:
    """It is skipped by its stamp; without that, and what it knows of files, it reads all again."""
    home = tmp_path / "home"
    first = run(home, archive)
    before = contents(home)
    assert len(before) == 6
    assert first["bars_added"] == first["bars"] == 2 * (33 * 1440 - 1440 + 2 + 1440)
    assert (first["first"], first["last"]) == (
        "2025-12-31T12:00:00+00:00",
        "2026-02-02T12:00:00+00:00",
    )
    again = run(home, archive)
    nothing = {"bars_added": 0, "bytes_written": 0}
    assert again == {**first, **nothing, "skipped": True}
    (home / "var" / "stamps" / "ingest-ticks.json").unlink()
    (home / "var" / "contents" / "ticks.json").unlink()
    read = {"bytes_read": first["bytes_written"]}
    assert run(home, archive) == {**first, **nothing, **read, "skipped": False}
    assert contents(home) == before


def test_a_night_reads_only_the_files_it_touches(tmp_path: Path) -> None:
    """A minute more in a third month: that month is read nowhere and written, the others neither.

    A stored file that somebody changed meanwhile is read, and what it lost comes back.
    """
    folder, home = tmp_path / "archive", tmp_path / "home"
    (folder / "ticks").mkdir(parents=True)
    times = pd.date_range("2026-01-01", "2026-03-01", freq="1min", tz="UTC", inclusive="left")
    frame = pd.DataFrame({"timestamp": times, "open": 9.0, "high": 9.0, "low": 9.0, "close": 9.0})
    path = folder / "ticks" / "AAA.parquet"
    frame.iloc[:-1].to_parquet(path, index=False)
    run(home, folder)
    frame.to_parquet(path, index=False)
    found = run(home, folder)
    months = sorted((home / "data" / "bars" / "ticks" / "AAA").iterdir())
    assert found["bars_added"] == 1
    assert found["bytes_read"] == 0
    assert found["bytes_written"] == months[1].stat().st_size
    assert contents(home) == contents_of_one_run(tmp_path / "once", folder)
    pd.read_parquet(months[0]).iloc[1:].to_parquet(months[0], index=False)
    size = months[0].stat().st_size
    assert run(home, folder)["bytes_read"] == size
    assert len(pd.read_parquet(months[0])) == 31 * 1440


def test_nights_append_and_a_past_one_leaves_later_bars(tmp_path: Path, archive: Path) -> None:
    """Night by night gives the bytes of one run; a past night reports only what it knows."""
    run(tmp_path / "once", archive)
    home = tmp_path / "nightly"
    for day, bars in (("2026-01-01", 720 + 1), ("2026-01-20", 19 * 1440 + 720 + 1)):
        found = run(home, archive, pd.Timestamp(day, tz="UTC"))
        assert found["bars"] == 2 * bars
    run(home, archive)
    assert contents(home) == contents(tmp_path / "once")
    past = run(home, archive, pd.Timestamp("2026-01-01", tz="UTC"))
    assert (past["bars_added"], past["bars"]) == (0, 2 * 721)
    assert contents(home) == contents(tmp_path / "once")


def test_a_lost_file_is_brought_back(tmp_path: Path, archive: Path) -> None:
    """The stamp does not hide a stored file that has gone."""
    home = tmp_path / "home"
    run(home, archive)
    before = contents(home)
    (home / "data" / "bars" / "ticks" / "AAA" / "2026-01.parquet").unlink()
    assert run(home, archive)["bars_added"] == 31 * 1440
    assert contents(home) == before


def test_killed_at_any_moment_it_loses_nothing(tmp_path: Path, archive: Path) -> None:
    """SIGKILL just before chosen renames and at random instants; the next run mends all."""
    run(tmp_path / "calm", archive)
    rng = random.Random(5)
    home = tmp_path / "killed"
    command = [sys.executable, "-c", CHILD, str(home), str(archive), json.dumps(PARAMS)]
    for renames, delay_s in (
        (4, 9.0),
        (5, 9.0),
        (0, rng.uniform(0, 0.2)),
        (0, rng.uniform(0, 0.2)),
    ):
        with subprocess.Popen(
            [*command, str(renames)], cwd=PROJECT, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            try:
                child.wait(delay_s)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
        if renames:
            assert child.returncode == -signal.SIGKILL
            assert set(contents(home)) != set(contents(tmp_path / "calm"))
    run(home, archive)
    assert contents(home) == contents(tmp_path / "calm")  # temporary files are gone too


def test_a_bad_file_leaves_the_home_as_it_was(tmp_path: Path, archive: Path) -> None:
    """One file without a column, or with text for a number: nothing is written, nothing bound."""
    path = archive / "ticks" / "BBB.parquet"
    frame = pd.read_parquet(path)
    home = tmp_path / "home"
    frame.drop(columns="low").to_parquet(path, index=False)
    with pytest.raises(BarsError, match="ticks/BBB: column 'low' is missing"):
        run(home, archive)
    assert not home.exists()
    frame.assign(low="low").to_parquet(path, index=False)
    with pytest.raises(BarsError, match="ticks/BBB: column 'low': expected numbers"):
        run(home, archive)
    assert not (home / "data").exists()
    frame.assign(high=frame["low"] - 1).to_parquet(path, index=False)
    with pytest.raises(GateError, match=r"ticks/BBB: .* rows break their contract"):
        run(home, archive)
    assert not (home / "data").exists()


def test_refusals_name_the_reason(tmp_path: Path, archive: Path) -> None:
    """An unknown market, another source, an ingest under way."""
    home = tmp_path / "home"
    with pytest.raises(ConfigError, match=r"market '\.\./ticks' is not in params"):
        ingest.run(Paths(home), CONFIG, as_of=END, market="../ticks", folder=archive)
    run(home, archive)
    simulated = TINY.model_copy(update={"source": "simulated"})
    with pytest.raises(HomeError, match="bound to the source 'files', not 'simulated'"):
        ingest.run(Paths(home), simulated, as_of=END, market="equity_daily")
    lock = Paths(home).var / "locks" / "ingest-ticks.lock"
    with hold(lock, "ingest"), pytest.raises(HomeError, match="ingest of ticks is already running"):
        run(home, archive)


def test_the_bound_folder_is_used(tmp_path: Path, archive: Path) -> None:
    """After the first use no folder needs to be given."""
    run(tmp_path / "home", archive)
    again = ingest.run(Paths(tmp_path / "home"), CONFIG, as_of=END, market="ticks")
    assert again["skipped"]
    assert binding(Paths(tmp_path / "home")).folder == archive  # type: ignore[union-attr]


def test_simulated_bars_and_their_truth_append(tmp_path: Path) -> None:
    """A market's truth has a row for each bar, lies apart, and a past night does not cut it."""
    paths = Paths(tmp_path)
    night = pd.Timestamp("2026-11-20", tz="UTC")
    first = ingest.run(paths, TINY, as_of=night, market="equity_daily")
    assert first["bars"] == 4 * 420
    before = {**contents(tmp_path), "truth": digest(paths.truth("equity_daily"))}
    ingest.run(paths, TINY, as_of=night - pd.Timedelta(days=1), market="equity_daily")
    ingest.run(paths, TINY, as_of=night, market="equity_daily")
    assert {**contents(tmp_path), "truth": digest(paths.truth("equity_daily"))} == before
    truth = pd.read_parquet(paths.truth("equity_daily"))
    symbol = store.symbols(paths, "equity_daily")[0]
    settings = TINY.markets["equity_daily"]
    stored = store.read_bars(
        paths, "equity_daily", symbol, as_of=night, config=settings, quarantined=False
    )
    assert truth["timestamp"][truth["symbol"] == symbol].tolist() == stored.index.tolist()


def test_other_simulated_params_never_mix_with_stored_bars(tmp_path: Path) -> None:
    """Another seed makes other bars: refused, naming the way out, with the store as it was."""
    paths = Paths(tmp_path)
    night = pd.Timestamp("2026-11-20", tz="UTC")
    ingest.run(paths, TINY, as_of=night, market="low_vol_etf")
    before = contents(tmp_path)
    other = TINY.model_copy(update={"simulated": TINY.simulated.model_copy(update={"seed": 8})})
    with pytest.raises(DataError, match="stored rows are not those the source makes now"):
        ingest.run(paths, other, as_of=night + pd.Timedelta(days=1), market="low_vol_etf")
    assert contents(tmp_path) == before
