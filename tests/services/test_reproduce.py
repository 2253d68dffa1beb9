"""A version trained again from a clone: the same to the byte, or what differs is said.

The clone is a repository of its own, so that the code of the version is committed whatever the
state of the checkout under test.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import reproduce, tracking
from pipelines.paths import PROJECT, Paths

pytestmark = pytest.mark.services

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout's code as one commit of a fresh repository."""
    folder = tmp_path_factory.mktemp("cloned") / "clone"
    folder.mkdir()
    for name in ("atlas", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    for name in ("requirements.lock", "params.yaml"):
        shutil.copy(PROJECT / name, folder)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "the code")):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return folder


@pytest.fixture(scope="module")
def run(clone: Path) -> Run:
    """Run a command of the clone's pipelines."""

    def ran(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pipelines", *words]
        return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)

    return ran


@pytest.fixture(scope="module")
def night(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A home after one night on one small market."""
    place = tmp_path_factory.mktemp("night")
    values = yaml.safe_load((PROJECT / "tests" / "params_tiny.yaml").read_text())
    values["markets"] = {"equity_daily": values["markets"]["equity_daily"]}
    values["simulated"]["markets"] = {"equity_daily": {"symbols": 3, "sessions": 420}}
    values["training"] |= {"windows_per_epoch": 128, "batch": 64, "epochs": 1}
    params = place / "params.yaml"
    params.write_text(yaml.safe_dump(values, sort_keys=False))
    done = run("all", "--home", str(place / "home"), "--params", str(params))
    assert done.returncode == 0, done.stderr[-3000:]
    return Paths(place / "home")


def _change(paths: Paths, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what version 1's run has recorded, and the digest that vouches for it."""
    client = tracking.open_registry(paths)
    held = tracking.resolve(paths, "1")
    folder = client.get_run(str(held.run_id)).info.artifact_uri.removeprefix("file://")
    file = Path(folder) / reproduce.RECORD
    known = json.loads(file.read_text())
    change(known)
    file.write_text(json.dumps(known))
    digest = sha256(file.read_bytes()).hexdigest()
    client.set_model_version_tag(tracking.MODEL, "1", tracking.REPRODUCTION, digest)


def test_what_differs_is_named_and_what_does_not_is_the_same_to_the_byte(
    night: Paths, run: Run, tmp_path: Path
) -> None:
    """Other recorded weights, metric and library: exit 1 and their names; the true ones: exit 0."""
    work = tmp_path / "work"
    words = ("reproduce", "--version", "1", "--home", str(night.home), "--work", str(work))
    kept: dict[str, Any] = {}

    def spoil(known: dict[str, Any]) -> None:
        kept.update(json.loads(json.dumps(known)))
        weights = next(name for name in known["digests"] if name.endswith("model.safetensors"))
        known["digests"][weights] = "0" * 64
        known["metrics"]["validation_log_loss"] += 1e-9
        known["environment"]["library torch"] = "0.1"

    _change(night, spoil)
    done = run(*words)
    assert done.returncode == 1, done.stderr[-3000:]
    said = done.stdout
    assert said.count("differs: ") == 2
    assert "model.safetensors: 0000" in said
    assert "differs: validation_log_loss: " in said
    assert "environment: library torch: 0.1 when it was trained" in said
    assert any(work.iterdir())

    _change(night, lambda known: known.update(kept))
    done = run(*words)  # goes on with what the first one has trained
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "differs" not in done.stdout
    assert "digests and metrics are the same" in done.stdout
    assert not any(work.iterdir())


def test_a_version_that_is_not_there_is_exit_2(night: Paths, run: Run) -> None:
    """Nothing can be tried: one line that says so, and no traceback."""
    done = run("reproduce", "--version", "9", "--home", str(night.home))
    assert done.returncode == 2
    assert done.stderr.strip() == "error: atlas-moe has no version 9 in this home"
