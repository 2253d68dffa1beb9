"""The services as a user has them: up, a night triggered by REST, down, and nothing left."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from pipelines.paths import PROJECT, Paths
from services import airflow, control
from services.processes import alive, is_free
from services.rest import Airflow

pytestmark = pytest.mark.services

PARAMS = PROJECT / "tests" / "params_tiny.yaml"
NIGHT_TIMEOUT_S = 900  # on a busy machine; alone it takes two minutes


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

    def members(self) -> list[psutil.Process]:
        """Every process of the services' sessions, children included."""
        leaders = {found["pid"] for name in control.NAMES if (found := alive(self.paths, name))}
        return [p for p in psutil.process_iter() if _session(p) in leaders]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    found = Services(
        Paths(tmp_path_factory.mktemp("home")), _free_port(), _free_port(), _free_port()
    )
    ports = ["--airflow-port", str(found.airflow_port), "--mlflow-port", str(found.mlflow_port)]
    ports += ["--dashboard-port", str(found.dashboard_port)]
    done = _services("up", found, "--params", str(PARAMS), *ports)
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{found.airflow_port}" in done.stdout
    assert airflow.password(found.paths) in done.stdout
    yield found
    _services("down", found)


def test_listens_on_this_machine_only(up: Services) -> None:
    """Every port that any process of the services opens is on 127.0.0.1."""
    listening = [
        connection.laddr
        for process in up.members()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} >= {
        up.airflow_port,
        up.mlflow_port,
        up.dashboard_port,
    }
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_no_secret_is_on_a_command_line(up: Services) -> None:
    """Neither the password nor any secret of airflow.cfg shows in `ps` or in the environment."""
    folder = airflow.home(up.paths)
    text = (folder / "airflow.cfg").read_text()
    keys = ("fernet_key", "secret_key", "jwt_secret")
    secrets = [line.split(" = ")[1] for line in text.splitlines() if line.startswith(keys)]
    secrets.append(airflow.password(up.paths))
    assert len(secrets) == 4
    seen = [" ".join(p.cmdline()) + str(p.environ()) for p in up.members()]
    assert not [secret for secret in secrets if any(secret in text for text in seen)]
    for name in airflow.SECRET_FILES:
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_mlflow_answers_no_stranger(up: Services) -> None:
    """MLflow's server answers this machine and refuses a foreign Host or Origin."""
    address = f"http://127.0.0.1:{up.mlflow_port}/api/2.0/mlflow/experiments/search"
    body = json.dumps({"max_results": 1}).encode()
    kind = {"Content-Type": "application/json"}
    assert _status(urllib.request.Request(address, body, kind)) == 200
    assert _status(urllib.request.Request(address, body, {**kind, "Host": "evil.example"})) == 403
    origin = {**kind, "Origin": "http://evil.example"}
    assert _status(urllib.request.Request(address, body, origin)) == 403


def test_the_dag_is_scheduled_and_waits(up: Services) -> None:
    """The DAG is there, unpaused, scheduled nightly, and its first night is not run at once."""
    found = up.client._call("GET", f"/api/v2/dags/{airflow.DAG_ID}")
    assert not found["is_paused"]
    assert found["timetable_summary"] == "0 2 * * *"
    runs = up.client._call("GET", f"/api/v2/dags/{airflow.DAG_ID}/dagRuns")
    assert runs["total_entries"] == 0


def test_up_again_changes_nothing(up: Services) -> None:
    """A second `up` finds the services running and leaves the processes as they are."""
    before = {p.pid for p in up.members()}
    done = _services("up", up, "--params", str(PARAMS))
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{up.airflow_port}" in done.stdout
    assert before <= {p.pid for p in up.members()}


def test_other_params_are_refused(up: Services) -> None:
    """A night with another params.yaml than the services run with is refused by name."""
    done = _services("nightly", up, "--params", str(PROJECT / "params.yaml"))
    assert done.returncode == 2
    assert "params_tiny.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_night_by_rest(up: Services) -> None:
    """A run triggered by REST succeeds, and its table and version are there."""
    up.client.trigger(airflow.DAG_ID, "by-rest", {"as_of": "2026-11-20"})
    deadline = time.monotonic() + NIGHT_TIMEOUT_S
    while (state := up.client.run_state(airflow.DAG_ID, "by-rest")) not in ("success", "failed"):
        assert time.monotonic() < deadline
        time.sleep(1)
    states = {_name(task): task["state"] for task in up.client.tasks(airflow.DAG_ID, "by-rest")}
    assert state == "success", states
    assert up.client.result(airflow.DAG_ID, "by-rest", "register")["registered"]
    assert (up.paths.benchmark / "table.json").is_file()
    found = _mlflow(up, "registered-models/search")
    assert [model["name"] for model in found["registered_models"]] == ["atlas-moe"]


def test_nightly_uses_the_running_services(up: Services) -> None:
    """`nightly` runs the same night in the running services and prints the table."""
    before = {p.pid for p in up.members()}
    done = _services("nightly", up, "--params", str(PARAMS), timeout=NIGHT_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in the running services" in done.stdout
    assert "crypto_1min" in done.stdout
    assert "nothing new" in done.stdout
    leaders = {p.pid for p in up.members() if p.pid == _session(p)}
    assert leaders <= before


def test_down_leaves_nothing(up: Services) -> None:
    """`down` ends every process of the services and frees every port."""
    members = up.members()
    assert members
    done = _services("down", up)
    assert done.returncode == 0, done.stderr
    assert not [p for p in members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert is_free(up.airflow_port)
    assert is_free(up.mlflow_port)
    assert is_free(up.dashboard_port)
    home = str(up.paths.home)
    assert not [p for p in psutil.process_iter() if _mentions(p, home)]


def _services(command: str, up: Services, *options: str, timeout: float = 240) -> Any:
    words = [sys.executable, "-m", "services", command, "--home", str(up.paths.home), *options]
    return subprocess.run(
        words, cwd=PROJECT, capture_output=True, text=True, timeout=timeout, check=False
    )


def _mlflow(up: Services, path: str) -> Any:
    address = f"http://127.0.0.1:{up.mlflow_port}/api/2.0/mlflow/{path}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def _status(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _name(task: dict[str, Any]) -> str:
    return f"{task['task_id']}[{task['map_index']}]"


def _session(process: psutil.Process) -> int:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getsid(process.pid)
    return -1


def _mentions(process: psutil.Process, text: str) -> bool:
    # A process of these services has their home in its environment; the tests' own do not.
    try:
        return text in str(process.environ().get("ATLAS_HOME"))
    except psutil.Error:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
