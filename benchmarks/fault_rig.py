"""A home on two workers that something is lost of while its night runs, and what is asked after.

`Rig` keeps the services up and forgets nights; `begin`, `lose_during` and `follow` run one;
`outcome` and `named` are what a night that was disturbed is judged by.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg2
import yaml

from atlas.errors import HomeError
from benchmarks.fault_kinds import Kind
from pipelines import tracking
from pipelines.files import digest, write_bytes
from pipelines.paths import PROJECT, Paths
from services import airflow, control, distributed, stores
from services.processes import alive
from services.rest import Airflow

__all__ = [
    "AS_OF",
    "ENDED",
    "Rig",
    "begin",
    "eager",
    "follow",
    "lose_during",
    "marks",
    "named",
    "outcome",
]

TINY = PROJECT / "tests" / "params_tiny.yaml"
AS_OF = "2026-11-20"
NIGHT_S = 900.0  # then a task hangs
KEPT = ("airflow", "mlflow", "redis", "secrets", "run", "logs", "postgres")  # of var/
BEFORE, AFTER = 70, 30  # letters of a line around the cause
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
MOVING = ("registration.json", "promotion.json", "champions.json")  # they hold the version's key
ROWS = ("alembic_version", "experiments", "workspaces")  # of MLflow's tables: its own set-up


def eager(folder: Path, markets: tuple[str, ...] = ()) -> Path:
    """Write the tiny markets' params with a gate so low that their first candidate is promoted.

    Args:
        markets: to keep; all if none is named.
    """
    params = yaml.safe_load(TINY.read_text(encoding="utf-8"))
    for section in (params, params["simulated"]):
        wanted = markets or tuple(section["markets"])
        section["markets"] = {name: section["markets"][name] for name in wanted}
    params["promotion"]["confidence"] = 0.6
    write_bytes(folder / TINY.name, yaml.safe_dump(params, sort_keys=False).encode())
    return folder / TINY.name


class Rig:
    """A home on two workers, whose services are kept up."""

    def __init__(self, home: Path, params: Path, ports: tuple[int, int, int]) -> None:
        self.paths, self.params, self.ports = Paths(home), params, ports

    def up(self) -> Airflow:
        """Start what does not run."""
        main, mlflow, dashboard = self.ports
        return control.up(
            self.paths,
            self.params,
            airflow_port=main,
            mlflow_port=mlflow,
            dashboard_port=dashboard,
            workers=2,
        )

    def restore(self) -> None:
        """Start again what has ended, until all runs; a start may itself meet the loss."""
        deadline = time.monotonic() + 180
        while not self.is_whole():
            with contextlib.suppress(HomeError):
                self.up()
            if time.monotonic() > deadline:
                raise HomeError("the services do not come back")

    def is_whole(self) -> bool:
        """Return whether every program runs."""
        names = [name for name in control.NAMES if name not in distributed.WORKERS[2:]]
        return all(alive(self.paths, name) for name in names)

    @property
    def client(self) -> Airflow:
        """Return a client of Airflow."""
        return Airflow(self.ports[0], airflow.USER, airflow.password(self.paths))

    def empty(self) -> None:
        """Forget every night: bars, artifacts, registry. The services go on."""
        for folder in (self.paths.data, self.paths.artifacts):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.paths.var.iterdir():
            if path.is_dir() and path.name not in KEPT:
                shutil.rmtree(path)
        shutil.rmtree(self.paths.mlflow_artifacts, ignore_errors=True)
        self.paths.data_dvc.unlink(missing_ok=True)
        found = distributed.backing(self.paths)
        assert found is not None
        where = stores.connection_text(self.paths, found, "mlflow")
        with contextlib.closing(psycopg2.connect(where)) as server, server, server.cursor() as rows:
            rows.execute("select tablename from pg_tables where schemaname = 'public'")
            names = [f'"{name}"' for (name,) in rows.fetchall() if name not in ROWS]
            if names:  # MLflow makes its tables at its first request
                rows.execute(f"truncate {', '.join(names)} cascade")
                rows.execute("delete from experiments where experiment_id <> 0")


def begin(rig: Rig, run_id: str) -> None:
    """Ask for the night."""
    rig.client.trigger(airflow.DAG_ID, run_id, {"as_of": AS_OF})


def lose_during(
    rig: Rig, run_id: str, kind: Kind, stage: str, delay_s: float
) -> dict[int, int] | None:
    """Lose something once `stage` of a run is at work, and start again what has ended.

    Returns:
        How long each log was then; None if the run came not so far, or had ended.
    """
    deadline = time.monotonic() + NIGHT_S
    while not _has_begun(rig, run_id, stage):
        if time.monotonic() > deadline:
            return None
        rig.restore()  # a scheduler may end some time after it has lost its database
        time.sleep(0.3)
    time.sleep(delay_s)
    rig.restore()
    is_under_way = rig.client.run_state(airflow.DAG_ID, run_id) == "running"
    before = marks(rig.paths)
    kind.lose(rig.paths)
    time.sleep(kind.away_s)
    rig.restore()
    return before if is_under_way else None


def follow(rig: Rig, run_id: str) -> str:
    """Wait until a run ends, keeping the services up; return its state."""
    deadline = time.monotonic() + NIGHT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(HomeError, OSError):
            state = rig.client.run_state(airflow.DAG_ID, run_id)
            if state in ("success", "failed"):
                return state
        if not rig.is_whole():
            rig.restore()
        time.sleep(1)
    return "hangs"


def outcome(paths: Paths) -> dict[str, str]:
    """Return digests of what a night leaves, down to a temporary file that nobody removed.

    Those of data/ and artifacts/ but for three files that name the version by a random key, whose
    presence counts; and the champion: its number, its weights.
    """
    files = sorted(p for f in (paths.data, paths.artifacts) for p in f.rglob("*") if p.is_file())
    found = {
        str(p.relative_to(paths.home)): "there" if p.name in MOVING else digest(p) for p in files
    }
    if champion := tracking.champion(paths):
        weights = sorted(tracking.files_of(paths, champion).rglob("*.safetensors"))
        found["champion"] = " ".join([str(champion.version), *map(digest, weights)])
    return found


def _has_begun(rig: Rig, run_id: str, stage: str) -> bool:
    try:
        tasks = rig.client.tasks(airflow.DAG_ID, run_id)
        state = rig.client.run_state(airflow.DAG_ID, run_id)
    except (HomeError, OSError):  # an api-server that is being started again
        return False
    waiting = (None, "scheduled", "queued")
    begun = any(one["task_id"] == stage and one["state"] not in waiting for one in tasks)
    return begun or state in ("success", "failed")


def marks(paths: Paths) -> dict[int, int]:
    """Return how long each log is now, by inode: a program that starts moves its old log away."""
    return {path.stat().st_ino: path.stat().st_size for path in _logs(paths)}


def named(
    paths: Paths, cause: str, before: Mapping[int, int], after: Mapping[int, int] | None = None
) -> str:
    """Return a piece of the first line that names the cause in some log.

    Args:
        cause: a regular expression.
        before: how long each log was when something was lost (`marks`).
        after: and when the next thing was; None if nothing else was lost.
    """
    pattern = re.compile(cause)
    for path in _logs(paths):
        place = path.stat().st_ino
        end = None if after is None else after.get(place, 0)
        text = path.read_bytes()[before.get(place, 0) : end]
        for line in text.decode(errors="replace").splitlines():
            if match := pattern.search(line):
                said = line[max(0, match.start() - BEFORE) : match.end() + AFTER]
                return f"{path.name}: {said.strip()}"
    return ""


def _logs(paths: Paths) -> list[Path]:
    folders = (paths.var / "logs", paths.var / "airflow" / "logs")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]
