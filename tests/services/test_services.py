"""The services as a user has them: up, a night triggered by REST, down, and nothing left."""

import json
import stat
import urllib.error
import urllib.request
from typing import Any

import psutil
import pytest

from pipelines.paths import PROJECT
from services import airflow
from services.processes import is_free
from tests.services.conftest import NIGHT_TIMEOUT_S, PARAMS, Services, session

pytestmark = pytest.mark.services


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
    runs = up.client._call("GET", f"/api/v2/dags/{airflow.DAG_ID}/dagRuns?run_type=scheduled")
    assert runs["total_entries"] == 0


def test_up_again_changes_nothing(up: Services) -> None:
    """A second `up` finds the services running and leaves the processes as they are."""
    before = {p.pid for p in up.members()}
    done = up.command("up", "--params", str(PARAMS))
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{up.airflow_port}" in done.stdout
    assert before <= {p.pid for p in up.members()}


def test_other_params_are_refused(up: Services) -> None:
    """A night with another params.yaml than the services run with is refused by name."""
    done = up.command("nightly", "--params", str(PROJECT / "params.yaml"))
    assert done.returncode == 2
    assert "params_tiny.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_night_by_rest(night: Services) -> None:
    """A run triggered by REST succeeds, and its table and version are there."""
    assert night.client.result(airflow.DAG_ID, "by-rest", "register")["registered"]
    assert (night.paths.benchmark / "table.json").is_file()
    found = _mlflow(night, "registered-models/search")
    assert [model["name"] for model in found["registered_models"]] == ["atlas-moe"]


def test_nightly_uses_the_running_services(night: Services) -> None:
    """`nightly` runs the same night in the running services and prints the table."""
    before = {p.pid for p in night.members()}
    done = night.command("nightly", "--params", str(PARAMS), timeout=NIGHT_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in the running services" in done.stdout
    assert "crypto_1min" in done.stdout
    assert "nothing new" in done.stdout
    leaders = {p.pid for p in night.members() if p.pid == session(p)}
    assert leaders <= before


def test_down_leaves_nothing(up: Services) -> None:
    """`down` ends every process of the services and frees every port."""
    members = up.members()
    assert members
    done = up.command("down")
    assert done.returncode == 0, done.stderr
    assert not [p for p in members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert is_free(up.airflow_port)
    assert is_free(up.mlflow_port)
    assert is_free(up.dashboard_port)
    home = str(up.paths.home)
    assert not [p for p in psutil.process_iter() if _mentions(p, home)]


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


def _mentions(process: psutil.Process, text: str) -> bool:
    # A process of these services has their home in its environment; the tests' own do not.
    try:
        return text in str(process.environ().get("ATLAS_HOME"))
    except psutil.Error:
        return False
