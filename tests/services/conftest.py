"""What the tests of services share: one home whose services run, and one night in it."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.fault_rig import eager
from pipelines.paths import PROJECT, Paths
from services import airflow, control
from services.processes import alive
from services.rest import Airflow

_SCRATCH = tempfile.TemporaryDirectory(prefix="atlas-services-")  # goes with the process
PARAMS = eager(Path(_SCRATCH.name), ("crypto_1min", "options_skew"))  # bars and a surface
NIGHT = "2026-11-20"
NIGHT_TIMEOUT_S = 900  # on a busy machine; alone it takes one or two minutes


@dataclass(frozen=True)
class Services:
    """A home whose services run, and the ports they were given."""

    paths: Paths
    airflow_port: int
    mlflow_port: int
    dashboard_port: int

    @property
    def client(self) -> Airflow:
        return Airflow(self.airflow_port, airflow.USER, airflow.password(self.paths))

    @property
    def ports(self) -> tuple[int, int, int]:
        return (self.airflow_port, self.mlflow_port, self.dashboard_port)

    def members(self) -> list[psutil.Process]:
        """Every process of the services' sessions, children included."""
        leaders = {found["pid"] for name in control.NAMES if (found := alive(self.paths, name))}
        return [p for p in psutil.process_iter() if session(p) in leaders]

    def command(self, name: str, *options: str, timeout: float = 300) -> Any:
        """Run a command of the services for this home."""
        words = [sys.executable, "-m", "services", name, "--home", str(self.paths.home), *options]
        return subprocess.run(
            words, cwd=PROJECT, capture_output=True, text=True, timeout=timeout, check=False
        )

    def up(self, *options: str, params: Path = PARAMS) -> Any:
        """Run `up` with this home's ports."""
        main, mlflow, dashboard = (str(port) for port in self.ports)
        given = ["--airflow-port", main, "--mlflow-port", mlflow, "--dashboard-port", dashboard]
        return self.command("up", "--params", str(params), *given, *options)

    def wait_for(self, run_id: str) -> str:
        """Wait until a run of the night ends; return its state."""
        deadline = time.monotonic() + NIGHT_TIMEOUT_S
        while (state := self.client.run_state(airflow.DAG_ID, run_id)) in ("queued", "running"):
            assert time.monotonic() < deadline
            time.sleep(1)
        return state


def session(process: psutil.Process) -> int:
    """Return the session of a process, or -1 if it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getsid(process.pid)
    return -1


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services on one machine: LocalExecutor, SQLite."""
    found = Services(Paths(tmp_path_factory.mktemp("home")), free_port(), free_port(), free_port())
    done = found.up()
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{found.airflow_port}" in done.stdout
    assert airflow.password(found.paths) in done.stdout.replace("\n", "")
    yield found
    found.command("down")


@pytest.fixture(scope="session")
def night(up: Services) -> Services:
    """The same services after a night that was triggered by REST."""
    up.client.trigger(airflow.DAG_ID, "by-rest", {"as_of": NIGHT})
    state = up.wait_for("by-rest")
    tasks = up.client.tasks(airflow.DAG_ID, "by-rest")
    assert state == "success", {f"{t['task_id']}[{t['map_index']}]": t["state"] for t in tasks}
    return up
