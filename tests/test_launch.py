"""A training in a process of its own: clean environment, streamed lines, no survivor."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from pipelines import launch as launching
from pipelines.files import write_json
from pipelines.paths import PROJECT, Paths

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def _gone(pid: int, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def _config() -> ATLASConfig:
    simulated = {"as_of": "2026-11-20", "markets": {}}
    return ATLASConfig.parse({"markets": {}, "simulated": simulated, "training": {"threads": 2}})


def test_environment_is_an_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of the caller's stays out; path, threads and the source come along."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    environment = launching.child_environment(3)
    assert "secret" not in environment.values()
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["PYTHONPATH"] == str(PROJECT)


def test_lines_are_streamed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each line is yielded and goes to the log, errors included."""
    code = "import sys; print('one'); print('two', file=sys.stderr)"
    with caplog.at_level(logging.INFO):
        lines = list(
            launching.stream([sys.executable, "-uc", code], launching.child_environment(1), "toy")
        )
    assert lines == ["one", "two"]
    assert "toy: two" in caplog.text


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("print('the reason'); raise SystemExit(3)", "exit code 3"),
        ("import os; print('the reason', flush=True); os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_a_failure_is_told_with_its_last_lines(code: str, ending: str) -> None:
    """The error names how it ended and what it said last."""
    command = [sys.executable, "-c", code]
    with pytest.raises(ModelError, match=rf"toy .*{ending}.*\nthe reason"):
        list(launching.stream(command, launching.child_environment(1), "toy"))


def test_the_child_is_ended_when_the_caller_gives_up() -> None:
    """An exception in the parent (a task's time-out) leaves no process."""
    lines = launching.stream([sys.executable, "-c", SLEEP], launching.child_environment(1), "toy")
    pid = int(next(lines))
    assert psutil.pid_exists(pid)
    lines.close()  # type: ignore[attr-defined]
    assert _gone(pid)


def test_the_child_dies_with_its_parent() -> None:
    """A SIGKILL of the parent takes the child along."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import sys
                from pipelines.launch import child_environment, stream
                command = [sys.executable, "-c", {SLEEP!r}]
                for line in stream(command, child_environment(1), "toy"):
                    print(line, flush=True)
            """),
        ],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert _gone(pid)


def test_launch_hands_over_everything_and_reads_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child gets variant, home, night and the very configuration; its summary comes back."""
    seen: list[str] = []

    def stream(command: list[str], _environment: dict[str, str], _name: str) -> list[str]:
        seen.extend(command)
        write_json(launching.summary_path(paths, "cnn"), {"best_epoch": 2, "skipped": False})
        return ["step 1"]

    paths, config, night = Paths(tmp_path), _config(), pd.Timestamp("2026-11-20", tz="UTC")
    monkeypatch.setattr(launching, "stream", stream)
    summary = launching.launch(paths, config, as_of=night, variant="cnn")
    assert summary == {"best_epoch": 2, "skipped": False}
    assert seen[1:4] == ["-m", "pipelines", "train"]
    given = dict(zip(seen[4::2], seen[5::2], strict=True))
    assert given["--variant"] == "cnn"
    assert given["--home"] == str(tmp_path)
    assert given["--as-of"] == "2026-11-20"
    from pipelines.night import read_config

    found = read_config(Path(given["--params"]))
    assert found == config
    assert list(found.markets) == list(config.markets)  # their order is the model's


def test_a_child_that_says_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 0 without a summary is not taken for success, nor is an older one read."""
    write_json(launching.summary_path(Paths(tmp_path), "cnn"), {"best_epoch": 1})
    monkeypatch.setattr(launching, "stream", lambda *_: ["hello"])
    with pytest.raises(ModelError, match="expected its summary in"):
        launching.launch(
            Paths(tmp_path), _config(), as_of=pd.Timestamp("2026-11-20", tz="UTC"), variant="cnn"
        )
