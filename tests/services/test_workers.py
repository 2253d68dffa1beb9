"""The night on two Celery workers over PostgreSQL and Redis, with losses; and what leaks of it."""

import base64
import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from benchmarks.fault_kinds import KINDS
from benchmarks.fault_rig import AS_OF, Rig, begin, eager, follow, lose_during, named, outcome
from pipelines import office
from pipelines.paths import PROJECT, Paths
from pipelines.tasks import XCOM_BYTES
from services import airflow, distributed, stores
from tests.services.conftest import Services, free_port

pytestmark = pytest.mark.services

WEBHOOK = "http://127.0.0.1:9/hook-3f9c1e7a5b"  # nobody listens on the port `discard`
LOSSES = (  # in the order of the stages: one night has to bear them all
    ("redis_flushed", "ingest"),
    ("postgres_restarted", "markets.validate"),
    ("worker", "train"),
    ("scheduler", "benchmark"),
)


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six small markets, whose first candidate becomes the champion."""
    return eager(tmp_path_factory.mktemp("params"))


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory, params: Path) -> Iterator[Services]:
    found = Services(Paths(tmp_path_factory.mktemp("far")), free_port(), free_port(), free_port())
    os.environ.update(ATLAS_WEBHOOK=WEBHOOK, ATLAS_DEADLINE_MINUTES="0.5")
    done = found.up("--workers", "2", params=params)
    assert done.returncode == 0, done.stderr
    yield found
    found.command("down")
    del os.environ["ATLAS_WEBHOOK"], os.environ["ATLAS_DEADLINE_MINUTES"]
    shutil.rmtree(stores.cluster(found.paths), ignore_errors=True)


@pytest.fixture(scope="module")
def endured(far: Services, params: Path) -> Services:
    """Run one night and lose four things while it runs."""
    rig = Rig(far.paths.home, params, far.ports)
    begin(rig, "endured")
    for name, stage in LOSSES:
        lose_during(rig, "endured", KINDS[name], stage, 0.3)
    assert follow(rig, "endured") == "success"
    return far


def test_the_night_ends_with_the_undisturbed_champion(
    endured: Services, params: Path, tmp_path: Path
) -> None:
    """Bars, table, weights and champion are those of a quiet night in one process."""
    words = ["all", "--as-of", AS_OF, "--home", str(tmp_path), "--params", str(params)]
    command = [sys.executable, "-m", "pipelines", *words]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    quiet = outcome(Paths(tmp_path))
    assert outcome(endured.paths) == quiet
    assert quiet["champion"].startswith("1 ")


def test_mapped_tasks_spread_over_both_workers(endured: Services) -> None:
    """Each worker has run some of the six markets' tasks, and nothing is left waiting."""
    tasks = endured.client.tasks(airflow.DAG_ID, "endured")
    assert {task["state"] for task in tasks} == {"success"}
    hosts = {task["hostname"].split("@")[0] for task in tasks if task["map_index"] >= 0}
    assert hosts == {"airflow-worker-1", "airflow-worker-2"}


def test_no_xcom_is_above_ten_kibibytes(endured: Services) -> None:
    """What all tasks of a night left in Airflow's database is small, one entry after the other."""
    found = distributed.backing(endured.paths)
    assert found is not None
    where = stores.connection_text(endured.paths, found, "airflow")
    with contextlib.closing(psycopg2.connect(where)) as server, server.cursor() as rows:
        rows.execute("select task_id, octet_length(value::text) from xcom where run_id = 'endured'")
        sizes = rows.fetchall()
    assert {name for name, _ in sizes} >= {"begin", "ingest", "train", "register", "report"}
    assert max(size for _, size in sizes) <= XCOM_BYTES


@pytest.mark.parametrize("name", [name for name, _ in LOSSES if KINDS[name].is_noticed])
def test_logs_name_what_was_lost(name: str, endured: Services) -> None:
    """For each loss some log holds a line that leads a person to it."""
    assert named(endured.paths, KINDS[name].cause, {})


def test_a_late_night_was_told_of(endured: Services) -> None:
    """The triggerer told of the night once its deadline had passed."""
    assert named(endured.paths, "still going 0.5 minutes", {})


def test_a_stranger_gets_nothing(far: Services) -> None:
    """Every port is on 127.0.0.1; MLflow, PostgreSQL and Redis want a password."""
    listening = [
        one.laddr
        for process in far.members()
        for one in process.net_connections()
        if one.status == psutil.CONN_LISTEN
    ]
    found = distributed.backing(far.paths)
    assert found is not None
    assert {one.ip for one in listening} == {"127.0.0.1"}
    wanted = {*far.ports, found.postgres_port, found.redis_port}
    assert {one.port for one in listening} >= wanted
    login = far.paths.mlflow_login.read_text().split()
    assert [_mlflow(far), _mlflow(far, ["admin", "guess"]), _mlflow(far, login)] == [401, 401, 200]
    address = {"host": "127.0.0.1", "port": found.postgres_port, "user": distributed.USER}
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(**address, dbname="airflow", password="guess")  # noqa: S106
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=found.redis_port).ping()


def test_no_secret_is_in_a_log_a_store_or_ps(endured: Services) -> None:
    """After a whole night no secret stands in logs, artifacts, XCom, MLflow, or `ps e`."""
    paths, planted = endured.paths, _secrets(endured.paths)
    assert len(planted) >= 9
    folders = (paths.var / "logs", paths.var / "airflow" / "logs", paths.artifacts)
    folders += (paths.mlflow_artifacts, paths.var / "summaries", paths.var / "params")
    texts = {str(p): p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file()}
    texts |= {name: _dump(paths, name) for name in ("airflow", "mlflow")}
    assert b"endured" in texts["airflow"]  # so the search does look at something
    assert any(b"register" in text for name, text in texts.items() if name.endswith(".log"))
    seen = [" ".join(p.cmdline()) + str(p.environ()) for p in endured.members()]
    seen = [text.replace(WEBHOOK, "") for text in seen]  # which the user has put there
    texts |= {f"process {place}": text.encode() for place, text in enumerate(seen)}
    leaks = {(name, key) for name, text in texts.items() for key in planted if planted[key] in text}
    assert not leaks


def test_two_machines_change_the_champion_one_at_a_time(far: Services, tmp_path: Path) -> None:
    """Homes that share the database and no file wait for each other, also for a killed one."""
    other = Paths(tmp_path)
    (other.var / "mlflow").mkdir(parents=True)
    shutil.copy(far.paths.var / "mlflow" / "mlflow.dsn", other.var / "mlflow")
    entered = threading.Event()

    def enter() -> None:
        with office.alone(other):
            entered.set()

    code = "import sys, pathlib; from pipelines import office, paths\n"
    code += "with office.alone(paths.Paths(pathlib.Path(sys.argv[1]))): print(flush=True); input()"
    command = [sys.executable, "-c", code, str(far.paths.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(2)
        holder.kill()
        assert entered.wait(30)
        waiting.join()


def test_secret_files_are_private(far: Services) -> None:
    """Every file that holds a secret has mode 0600."""
    held = [*(far.paths.var / "secrets").iterdir(), far.paths.mlflow_login]
    held += [airflow.home(far.paths) / name for name in ("airflow.cfg", "passwords.json")]
    held += [far.paths.var / "redis" / "redis.conf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in held} == {0o600}


def test_down_ends_the_stores_too(far: Services) -> None:
    """`down` ends every process, PostgreSQL and Redis included."""
    members = far.members()
    done = far.command("down")
    assert done.returncode == 0, done.stderr
    assert not [p for p in members if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _mlflow(up: Services, login: list[str] | None = None) -> int:
    address = f"http://127.0.0.1:{up.mlflow_port}/api/2.0/mlflow/experiments/search"
    headers = {"Content-Type": "application/json"}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    request = urllib.request.Request(address, json.dumps({"max_results": 1}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _secrets(paths: Paths) -> dict[str, bytes]:
    text = (airflow.home(paths) / "airflow.cfg").read_text()
    keys = ("fernet_key", "secret_key", "jwt_secret")
    found = dict(re.findall(rf"^({'|'.join(keys)}) = (.*)$", text, re.MULTILINE))
    found |= {"login": airflow.password(paths), "webhook": WEBHOOK}
    names = ("postgres", "redis", "mlflow", "mlflow_key")
    found |= {name: distributed.password(paths, name) for name in names}
    return {key: value.encode() for key, value in found.items()}


def _dump(paths: Paths, database: str) -> bytes:
    found = distributed.backing(paths)
    assert found is not None
    program = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1]
    command = [program, stores.connection_text(paths, found, database)]
    return subprocess.run(command, capture_output=True, check=True).stdout
