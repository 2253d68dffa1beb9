"""Airflow's home: its configuration, its secrets, its database, and the programs to start.

- airflow.cfg holds only what differs from Airflow's defaults, with the secrets, at mode 0600. So
  no secret is on a command line or in the environment of a task.
- Everything listens on 127.0.0.1. Scheduler and triggerer run with --skip-serve-logs, because
  their log servers would listen on every address; the api-server reads the log files itself.
- Tasks are forked by LocalExecutor, two at a time, as many as the smallest machine has cores; or
  they are given to Celery's workers, where the home has some (see `services.distributed`).
- A task whose process is gone is noticed within a minute, and so is one that a queue has lost.
- The port may change from start to start, so it travels in the environment; it is no secret.
"""

import base64
import configparser
import contextlib
import datetime as dt
import io
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from atlas.errors import HomeError
from pipelines.files import write_bytes
from pipelines.paths import PROJECT, Paths
from services import distributed
from services.private import write_private
from services.processes import LOCALHOST, Program, clean_environment

__all__ = [
    "DAG_ID",
    "POOLS",
    "SECRET_FILES",
    "USER",
    "begin_schedule",
    "close_unfinished_runs",
    "environment",
    "home",
    "password",
    "prepare",
    "programs",
]

DAG_ID = "atlas_nightly"
USER = "admin"
SECRET_FILES = ("airflow.cfg", "airflow.db", "passwords.json")
_SECRETS = {("core", "fernet_key"): 32, ("api", "secret_key"): 64, ("api_auth", "jwt_secret"): 64}
POOLS = {"atlas_training": 2}  # trainings at once: what one small machine has memory for
HEARTBEAT_S = 45  # a task that is silent for so long is dead
LATE_MINUTES = "240"  # a run that takes longer is told of
QUEUED_S = 60  # a task that waits for a worker for so long is queued again
LOCKED_S = 30  # for so long a busy SQLite is waited for; a backfill writes beside the scheduler
_LONG_AGO = "2026-01-01T00:00:00+00:00"


def home(paths: Paths) -> Path:
    """Return AIRFLOW_HOME of an ATLAS home."""
    return paths.var / "airflow"


def prepare(paths: Paths) -> None:
    """Make Airflow's home, secrets and database, or bring an older one up to date.

    Raises:
        HomeError: with the last lines of Airflow's own message.
    """
    folder = home(paths)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write_private(folder / "airflow.cfg", _configuration(paths, folder))
    if not _password_file(folder).is_file():
        write_private(_password_file(folder), json.dumps({USER: secrets.token_urlsafe(64)}) + "\n")
    stamp = folder / "migrated"
    wanted = f"{version('apache-airflow')}\n"
    far = distributed.backing(paths) is not None
    if (far or _database(folder).is_file()) and stamp.is_file() and stamp.read_text() == wanted:
        return
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    variables = clean_environment(environment(paths, PROJECT / "params.yaml", 0))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HomeError(f"airflow db migrate failed:\n{(done.stderr or done.stdout)[-1500:]}")
    if not far:
        _database(folder).chmod(0o600)
    write_bytes(stamp, wanted.encode())


def environment(paths: Paths, params: Path, port: int) -> dict[str, str]:
    """Return what Airflow's programs need beside the caller's environment."""
    since = _since(paths)
    far = distributed.backing(paths) is not None
    return {
        **({"PGPASSFILE": str(distributed.passfile(paths))} if far else {}),
        "AIRFLOW_HOME": str(home(paths)),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{LOCALHOST}:{port}/",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{LOCALHOST}:{port}/execution/",
        "ATLAS_HOME": str(paths.home),
        "ATLAS_SINCE": since.read_text().strip() if since.is_file() else _LONG_AGO,
        "ATLAS_PARAMS": str(params),
        "ATLAS_DEADLINE_MINUTES": os.environ.get("ATLAS_DEADLINE_MINUTES", LATE_MINUTES),
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # threads of the api-server would each keep an arena
    }


def programs(paths: Paths, params: Path, port: int, *, scheduled: bool) -> tuple[Program, ...]:
    """Return the programs of Airflow: all of them, or the fewest that can run one night.

    Args:
        scheduled: whether the DAG's own schedule starts nights, as the services do; without it
            only what is asked for runs, and there is no triggerer, which nothing here needs.
    """
    variables = environment(paths, params, port)
    variables["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] = str(scheduled)

    def component(name: str, *options: str, port: int | None = None) -> Program:
        command = (sys.executable, "-m", "airflow", name, *options)
        return Program(f"airflow-{name}", command, variables, port)

    def worker(name: str) -> Program:
        options = ("--celery-hostname", f"{name}@%h", "--pid", str(paths.var / "run" / name))
        alone = ("--skip-serve-logs", "--without-mingle", "--without-gossip")
        command = (sys.executable, "-m", "airflow", "celery", "worker", *options, *alone)
        return Program(name, command, {**variables, "ATLAS_WORKER": name})

    fewest = (
        component("api-server", port=port),
        component("scheduler", "--skip-serve-logs"),
        component("dag-processor"),
    )
    if not scheduled:
        return fewest
    found = distributed.backing(paths)
    workers = tuple(worker(name) for name in found.names) if found else ()
    return (*fewest, component("triggerer", "--skip-serve-logs"), *workers)


def begin_schedule(paths: Paths) -> None:
    """Let the home's schedule begin now, unless it began at an earlier start of the services.

    Otherwise the first start would run last night at once, and nobody asked for it. A night missed
    while the services were down later on is made up for.
    """
    if not _since(paths).is_file():
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        write_bytes(_since(paths), f"{now}\n".encode())


def password(paths: Paths) -> str:
    """Return the generated password of the one user."""
    found: Mapping[str, str] = json.loads(_password_file(home(paths)).read_text(encoding="utf-8"))
    return found[USER]


def close_unfinished_runs(paths: Paths) -> int:
    """Mark runs that a killed scheduler left open as failed; return how many.

    Only for a home whose scheduler does not run: a new one would carry on with them first.
    """
    with contextlib.closing(sqlite3.connect(_database(home(paths)))) as database, database:
        database.execute(
            "update task_instance set state = 'failed' where (dag_id, run_id) in"
            " (select dag_id, run_id from dag_run where state in ('queued', 'running'))"
            " and (state is null or state not in"
            " ('success', 'failed', 'skipped', 'upstream_failed', 'removed'))"
        )
        done = database.execute(
            "update dag_run set state = 'failed' where state in ('queued', 'running')"
        )
        return done.rowcount


def _configuration(paths: Paths, folder: Path) -> str:
    settings: dict[str, dict[str, Any]] = {
        "core": {
            "dags_folder": PROJECT / "dags",
            "plugins_folder": PROJECT / "dags" / "plugins",
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": 2,
            "dags_are_paused_at_creation": False,
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": _password_file(folder),
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{_database(folder)}?timeout={LOCKED_S}"},
        "logging": {"base_log_folder": folder / "logs", "colored_console_log": False},
        "api": {"host": LOCALHOST, "workers": 1},
        "api_auth": {},
        # a finished task is noticed within this many seconds; the second number keeps the
        # patience with a busy api-server at a minute
        "workers": {"min_heartbeat_interval": 1, "max_failed_heartbeats": 60},
        "dag_processor": {"parsing_processes": 1},
        "scheduler": {
            "scheduler_idle_sleep_time": 0.5,
            "task_instance_heartbeat_timeout": HEARTBEAT_S,
            "task_queued_timeout": QUEUED_S,
            "task_queued_timeout_check_interval": 15,
            "num_stuck_in_queued_retries": 60,  # an hour: a queue that was lost costs no retry
            "orphaned_tasks_check_interval": 30,
        },
        "usage_data_collection": {"enabled": False},
    }
    if found := distributed.backing(paths):
        for section, more in distributed.settings(paths, found).items():
            settings.setdefault(section, {}).update(more)
    for (section, key), length in _SECRETS.items():
        settings[section][key] = _kept(folder, section, key) or _secret(length)
    parser = configparser.RawConfigParser()
    parser.read_dict(
        {name: {k: str(v) for k, v in rows.items()} for name, rows in settings.items()}
    )
    buffer = io.StringIO("")
    parser.write(buffer)
    return buffer.getvalue()


def _kept(folder: Path, section: str, key: str) -> str:
    parser = configparser.RawConfigParser()
    parser.read(folder / "airflow.cfg")
    return parser.get(section, key, fallback="")


def _secret(length: int) -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(length)).decode()


def _since(paths: Paths) -> Path:
    return home(paths) / "since"


def _database(folder: Path) -> Path:
    return folder / "airflow.db"


def _password_file(folder: Path) -> Path:
    return folder / "passwords.json"
