"""Bad input ends in one clear line and exit code 2, and changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from atlas.errors import ConfigError
from pipelines.night import read_config

ROOT = Path(__file__).parents[1]
DAYS = pd.bdate_range("2024-01-02", periods=90, tz="UTC")


def _bars(days: pd.DatetimeIndex = DAYS) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
    opened = np.r_[100.0, close[:-1]]
    return pd.DataFrame(
        {
            "timestamp": days,
            "open": opened,
            "high": np.maximum(opened, close) + 0.1,
            "low": np.minimum(opened, close) - 0.1,
            "close": close,
            "volume": 1000.0,
        }
    )


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A params.yaml with a single daily market."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["markets"] = {"equity_daily": values["markets"]["equity_daily"]}
    sizes = values["simulated"]["markets"]
    values["simulated"]["markets"] = {"equity_daily": sizes["equity_daily"]}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder of bars as a user would bring it."""
    folder = tmp_path / "archive"
    (folder / "equity_daily").mkdir(parents=True)
    _bars().to_parquet(folder / "equity_daily" / "AAA.parquet", index=False)
    return folder


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _tree(home: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes()
        for p in sorted(home.rglob("*"))
        if p.is_file() and "var" not in p.parts
    }


def _refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def test_missing_folder_is_named(tmp_path: Path, params: Path) -> None:
    """A folder that is not there is named, and the home is not even made."""
    missing = tmp_path / "nowhere"
    home = tmp_path / "home"
    done = _run("all", "--home", home, "--params", params, "--source", "files", "--data", missing)
    _refused(done, "nowhere")
    assert _tree(home) == {}


def test_missing_column_is_named(tmp_path: Path, params: Path, archive: Path) -> None:
    """A file without `close` is named with its column before anything is written."""
    path = archive / "equity_daily" / "BBB.parquet"
    _bars().drop(columns="close").to_parquet(path, index=False)
    home = tmp_path / "home"
    done = _run("all", "--home", home, "--params", params, "--data", archive)
    _refused(done, "BBB", "close")
    assert _tree(home) == {}


def test_empty_market_is_named(tmp_path: Path, params: Path, archive: Path) -> None:
    """A required market whose folder is empty is named."""
    (archive / "equity_daily" / "AAA.parquet").unlink()
    done = _run("all", "--home", tmp_path / "home", "--params", params, "--data", archive)
    _refused(done, "equity_daily")


def test_unknown_key_is_named(tmp_path: Path, params: Path) -> None:
    """A misspelled key of params.yaml is refused by name."""
    values = yaml.safe_load(params.read_text())
    values["moe"]["top_k"] = 2
    params.write_text(yaml.safe_dump(values))
    done = _run("ingest", "--home", tmp_path / "home", "--params", params)
    _refused(done, "moe.top_k")
    assert not (tmp_path / "home").exists()


def test_a_gate_that_no_night_serves_is_refused(tmp_path: Path) -> None:
    """An ablation in the place of a candidate's gate is named before hours are spent on it."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    params = tmp_path / "ablation.yaml"
    params.write_text(text.replace("gate: mlp ", "gate: uniform "), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"moe\.gate: expected rule or mlp.*'uniform'"):
        read_config(params)
    params.write_text(text.replace("gate: mlp ", "gate: rule "), encoding="utf-8")
    assert read_config(params).moe.gate == "rule"


def test_a_key_that_stands_twice_is_named(tmp_path: Path, params: Path) -> None:
    """Of two equal keys YAML would keep the last and drop the other without a word."""
    params.write_text(params.read_text() + "source: files\n")
    done = _run("check", "--home", tmp_path / "home", "--params", params)
    assert done.returncode == 2
    assert "key 'source' stands twice" in done.stderr


def test_market_that_would_leave_its_folder_is_refused(tmp_path: Path, params: Path) -> None:
    """`../` in a market's name never becomes a path, neither from params nor from an option."""
    done = _run("ingest", "--home", tmp_path / "home", "--params", params, "--market", "../etc")
    _refused(done, "../etc")
    values = yaml.safe_load(params.read_text())
    values["markets"]["../etc"] = values["markets"]["equity_daily"]
    params.write_text(yaml.safe_dump(values))
    _refused(_run("ingest", "--home", tmp_path / "home", "--params", params), "../etc")


def test_home_serves_one_source(tmp_path: Path, params: Path, archive: Path) -> None:
    """A home bound to an archive refuses the simulated markets by name and keeps its bytes."""
    home = tmp_path / "home"
    done = _run("ingest", "--home", home, "--params", params, "--data", archive)
    assert done.returncode == 0, done.stderr
    before = _tree(home)
    assert any("AAA" in name for name in before)
    done = _run("ingest", "--home", home, "--params", params, "--source", "simulated")
    _refused(done, "files", "simulated")
    assert _tree(home) == before


def test_bars_that_break_their_high_are_refused(
    tmp_path: Path, params: Path, archive: Path
) -> None:
    """A file whose highs lie below its closes fails the market, naming symbol and rule."""
    path = archive / "equity_daily" / "BAD.parquet"
    bars = _bars()
    bars.assign(high=bars.low, low=bars.high).to_parquet(path, index=False)
    home = tmp_path / "home"
    done = _run("all", "--home", home, "--params", params, "--data", archive)
    _refused(done, "BAD", "high")
    assert not (home / "artifacts" / "models").exists()


def test_night_that_is_no_date_is_refused(tmp_path: Path, params: Path) -> None:
    """`--as-of` takes a date and says so."""
    done = _run("ingest", "--home", tmp_path / "home", "--params", params, "--as-of", "yesterday")
    _refused(done, "yesterday", "2026-11-20")


@pytest.mark.parametrize("as_of", ["1950-01-01", "9999-12-31"])
def test_night_far_from_the_simulated_histories_is_refused(tmp_path: Path, as_of: str) -> None:
    """A typing error in the date neither starts a night nor fills the memory."""
    home = tmp_path / "home"
    _refused(_run("all", "--home", home, "--as-of", as_of), as_of, "crypto_1min")
    assert not home.exists()


def test_home_that_cannot_be_written_is_named(tmp_path: Path, params: Path) -> None:
    """A home under a file is refused in one line."""
    (tmp_path / "file").write_text("")
    done = _run("check", "--home", tmp_path / "file" / "home", "--params", params)
    _refused(done, "file")


def test_folder_needs_the_source_files(tmp_path: Path, params: Path, archive: Path) -> None:
    """A folder given beside the simulated source is an error, not ignored."""
    home = tmp_path / "home"
    done = _run(
        "all", "--home", home, "--params", params, "--source", "simulated", "--data", archive
    )
    _refused(done, "simulated", "folder")


def test_night_by_hand_sees_that_of_a_scheduler(tmp_path: Path, params: Path) -> None:
    """While a scheduler's night has the home, one by hand is refused and names it."""
    from pipelines.claim import claim
    from pipelines.paths import Paths

    home = tmp_path / "home"
    claim(Paths(home), "scheduled__2026-11-20")
    _refused(_run("data", "--home", home, "--params", params), "scheduled__2026-11-20")
    assert not (home / "data").exists()


def test_stage_alone_goes_on_with_the_last_night(tmp_path: Path, params: Path) -> None:
    """After a night other than the usual one, a stage run alone means that one."""
    home = tmp_path / "home"
    begun = _run("data", "--home", home, "--params", params, "--as-of", "2026-11-18")
    assert begun.returncode == 0, begun.stderr
    done = _run("truth", "--home", home, "--params", params)
    assert "as_of 2026-11-18" in done.stdout, done.stdout + done.stderr
