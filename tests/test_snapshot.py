"""A snapshot records data/ in data.dvc, pushes it, and costs nothing when nothing changed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from atlas.config import ATLASConfig
from atlas.errors import DataError, HomeError
from pipelines import snapshot
from pipelines.paths import PROJECT, Paths

CONFIG = ATLASConfig.parse(yaml.safe_load((PROJECT / "tests" / "params_tiny.yaml").read_text()))
NIGHT = pd.Timestamp("2026-11-20", tz="UTC")


def run(home: Path) -> dict[str, object]:
    return snapshot.run(Paths(home), CONFIG, as_of=NIGHT)


def dvc(home: Path, *command: str) -> int:
    return subprocess.run([sys.executable, "-m", "dvc", *command, "-q"], cwd=home).returncode


def put(home: Path, name: str, text: str) -> None:
    path = home / "data" / "bars" / "m" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_data_can_be_had_again_from_what_a_snapshot_pushed(tmp_path: Path) -> None:
    """The recorded version is stable, is what DVC itself sees, and a pull restores the bytes."""
    put(tmp_path, "A.parquet", "one")
    put(tmp_path, ".A.parquet.x.tmp", "left by a kill")
    first = run(tmp_path)
    assert first["pushed"]
    assert not first["skipped"]
    assert first["data_version"] == snapshot.data_version(Paths(tmp_path))
    recorded = (tmp_path / "data.dvc").read_bytes()
    assert b"nfiles: 1\n" in recorded
    assert dvc(tmp_path, "status", "data.dvc") == 0

    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    assert dvc(tmp_path, "pull", "data.dvc") == 0
    assert (tmp_path / "data" / "bars" / "m" / "A.parquet").read_text() == "one"
    assert run(tmp_path)["data_version"] == first["data_version"]
    assert (tmp_path / "data.dvc").read_bytes() == recorded


def test_a_clone_pulls_by_a_record_that_was_only_logged(tmp_path: Path) -> None:
    """Any older night's data.dvc, kept with its run and never committed, brings its bytes back."""
    home, clone, remote = (tmp_path / name for name in ("home", "clone", "remote"))
    put(home, "A.parquet", "one")
    run(home)  # makes the home's own DVC; from now on its remote is a folder that a clone sees
    (home / ".dvc" / "config.local").write_text(f"['remote \"local\"']\n    url = {remote}\n")
    put(home, "B.parquet", "first night")
    run(home)
    logged = (home / "data.dvc").read_text()  # a tag of the night's run
    put(home, "B.parquet", "second night")
    assert run(home)["pushed"]

    shutil.copytree(home / ".dvc", clone / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    (clone / "data.dvc").write_text(logged)
    assert dvc(clone, "pull", "data.dvc") == 0
    assert (clone / "data" / "bars" / "m" / "B.parquet").read_text() == "first night"
    assert (clone / "data" / "bars" / "m" / "A.parquet").read_text() == "one"


def test_unchanged_data_starts_no_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run is skipped; a changed file, a lost remote or a lost data.dvc is not."""
    calls: list[str] = []
    original = snapshot._dvc

    def counted(paths: Paths, *command: str) -> None:
        calls.append(command[0])
        original(paths, *command)

    monkeypatch.setattr(snapshot, "_dvc", counted)
    put(tmp_path, "A.parquet", "one")
    first = run(tmp_path)
    assert run(tmp_path) == {**first, "skipped": True}
    assert calls == ["add", "push"]
    put(tmp_path, "A.parquet", "other")
    second = run(tmp_path)
    assert second["data_version"] != first["data_version"]
    shutil.rmtree(tmp_path / "var" / "dvc-remote")
    assert run(tmp_path) == second
    assert dvc(tmp_path, "status", "-c", "data.dvc") == 0
    assert calls == ["add", "push"] * 3


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Without data/, or with a data.dvc that records nothing, the error says what to run."""
    with pytest.raises(DataError, match="data is missing: run ingest first"):
        run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data.dvc").write_text("outs: []\n")
    with pytest.raises(HomeError, match=r"data\.dvc: expected the md5 of data/ .*run snapshot"):
        snapshot.data_version(Paths(tmp_path))


def test_a_failing_dvc_is_quoted(tmp_path: Path) -> None:
    """What DVC says about a broken configuration is in the error."""
    put(tmp_path, "A.parquet", "one")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = perhaps\n")
    with pytest.raises(HomeError, match=r"dvc add data failed in .*no_scm"):
        run(tmp_path)
