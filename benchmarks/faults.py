"""Lose things while a night runs on two workers: it must end with the champion it ends with anyway.

`python -m benchmarks faults`; `--help` tells its options. One set of services, PostgreSQL and Redis
included, is started; each case empties the home's data, artifacts and registry, runs the tiny night
of tests/params_tiny.yaml and, at a random moment within a random stage, loses one thing
(`benchmarks.fault_kinds`). A program that has ended is started again, as a restart policy would. A
case ends well if

- the night succeeds, at the latest when it is asked for a second time,
- no task is left queued or running, and no temporary file lies in data/,
- champion, weights, table and bars are byte for byte those of the undisturbed night,
- and some log names the cause.

Cases that are done stand in faults.json of the folder of work, so that a broken-off run goes on. As
root the home is a small file system of its own, so that it can be filled; else that kind is left
out.
"""

import contextlib
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import psycopg2
import typer

from atlas.errors import HomeError
from benchmarks.fault_kinds import KINDS, Kind
from benchmarks.harness import metadata
from pipelines import tracking
from pipelines.files import digest, read_json, write_bytes, write_json
from pipelines.paths import PROJECT, Paths
from services import airflow, control, distributed, stores
from services.processes import alive, stop
from services.rest import Airflow

__all__ = [
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

SEED = 17
TINY = PROJECT / "tests" / "params_tiny.yaml"
AS_OF = "2026-11-20"
NIGHT_S = 900.0  # then a task hangs
KEPT = ("airflow", "mlflow", "redis", "secrets", "run", "logs", "postgres")  # of var/
ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")


def eager(folder: Path) -> Path:
    """Write the tiny markets' params with a gate so low that their first candidate is promoted."""
    text = TINY.read_text(encoding="utf-8").replace("confidence: 0.95", "confidence: 0.6")
    assert "confidence: 0.6" in text
    write_bytes(folder / TINY.name, text.encode())
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
        """Forget every night: bars, artifacts, registry. The services stay."""
        for folder in (self.paths.data, self.paths.artifacts):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.paths.var.iterdir():
            if path.is_dir() and path.name not in KEPT:
                shutil.rmtree(path)
        shutil.rmtree(self.paths.mlflow_artifacts, ignore_errors=True)
        self.paths.data_dvc.unlink(missing_ok=True)
        found = distributed.backing(self.paths)
        assert found is not None
        stop(self.paths, ["mlflow"])
        where = stores.connection_text(self.paths, found, "postgres")
        with contextlib.closing(psycopg2.connect(where)) as server:
            server.autocommit = True
            with server.cursor() as cursor:
                cursor.execute("drop database if exists mlflow with (force)")
                cursor.execute("create database mlflow")
        self.restore()


def begin(rig: Rig, run_id: str) -> None:
    """Ask for the night."""
    rig.client.trigger(airflow.DAG_ID, run_id, {"as_of": AS_OF})


def lose_during(rig: Rig, run_id: str, kind: Kind, stage: str, delay_s: float) -> None:
    """Lose something once `stage` of a run is at work, and start again what has ended."""
    deadline = time.monotonic() + NIGHT_S
    while not _has_begun(rig, run_id, stage):
        if time.monotonic() > deadline:
            raise HomeError(f"{run_id} does not get as far as {stage}")
        rig.restore()  # a scheduler may end some time after it has lost its database
        time.sleep(0.3)
    time.sleep(delay_s)
    kind.lose(rig.paths)
    time.sleep(kind.away_s)
    rig.restore()


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
    """Return digests of what a night leaves that must not depend on how it went."""
    files = [*paths.data.rglob("*"), *paths.model("moe_mlp").rglob("*.safetensors")]
    files += [*paths.model("moe_rule").rglob("*.safetensors"), paths.benchmark / "table.json"]
    files += [*(paths.artifacts / "fingerprints").glob("*")]
    found = {
        str(path.relative_to(paths.home)): digest(path) for path in sorted(files) if path.is_file()
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


def named(paths: Paths, cause: str, before: Mapping[int, int]) -> str:
    """Return the first line that some log has had since `before` and that names the cause."""
    pattern = re.compile(cause or "$^")
    for path in _logs(paths):
        text = path.read_bytes()[before.get(path.stat().st_ino, 0) :]
        for line in text.decode(errors="replace").splitlines():
            if pattern.search(line):
                return f"{path.name}: {line.strip()[:160]}"
    return ""


def _logs(paths: Paths) -> list[Path]:
    folders = (paths.var / "logs", paths.var / "airflow" / "logs")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def one_case(rig: Rig, number: int, name: str, calm: dict[str, str]) -> dict[str, Any]:
    """Run one night with one loss; say how it went."""
    kind, draw = KINDS[name], random.Random(SEED * 1000 + number)
    stage, delay_s = draw.choice(kind.stages), draw.uniform(0, 2)
    rig.empty()
    began, before = time.monotonic(), marks(rig.paths)
    run_id = f"fault-{number}-{int(time.time())}"
    begin(rig, run_id)
    lose_during(rig, run_id, kind, stage, delay_s)
    state, runs = follow(rig, run_id), 1
    if state == "failed":
        runs, run_id = 2, f"{run_id}-again"
        begin(rig, run_id)
        state = follow(rig, run_id)
    left = [t for t in rig.client.tasks(airflow.DAG_ID, run_id) if t["state"] not in ENDED]
    found = outcome(rig.paths)
    differing = sorted(k for k in calm.keys() | found.keys() if calm.get(k) != found.get(k))
    cause = named(rig.paths, kind.cause, before)
    well = state == "success" and not left and not differing
    well = well and (bool(cause) or not kind.cause)
    return {
        "case": number,
        "kind": name,
        "stage": stage,
        "delay_s": round(delay_s, 2),
        "state": state,
        "runs": runs,
        "left": len(left),
        "differing": differing[:5],
        "cause": cause.replace(str(rig.paths.home), "HOME"),
        "seconds": round(time.monotonic() - began, 1),
        "well": well,
    }


@contextlib.contextmanager
def _home(work: Path) -> Iterator[Path]:
    """Give a home, on a file system of two GiB of its own where this process may mount one."""
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    if os.getuid():
        yield home
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(home)]
    subprocess.run(mount, check=True)
    try:
        yield home
    finally:
        subprocess.run(["umount", str(home)], check=False)  # noqa: S607


def main(
    cases: Annotated[int, typer.Option(help="how many in all")] = 60,
    work: Annotated[Path, typer.Option(help="where the home and the record lie")] = (
        PROJECT / "var" / "faults"
    ),
    kind: Annotated[str, typer.Option(help="only this kind")] = "",
    minutes: Annotated[float, typer.Option(help="begin no case after so many")] = 170,
    port: Annotated[int, typer.Option(help="the first of three ports")] = 28080,
) -> None:
    """Run the cases that are not done yet and print how many ended well."""
    record = work / "faults.json"
    document = read_json(record) if record.is_file() else {"cases": []}
    names = [name for name in KINDS if name != "disk_full" or not os.getuid()]
    end = time.monotonic() + minutes * 60
    with _home(work) as home:
        rig = Rig(home, eager(work), (port, port + 1, port + 2))
        try:
            rig.restore()
            if "calm" not in document:
                rig.empty()
                began = time.monotonic()
                rig.client.trigger(
                    airflow.DAG_ID, run_id := f"calm-{int(time.time())}", {"as_of": AS_OF}
                )
                assert follow(rig, run_id) == "success"
                document["calm"] = outcome(rig.paths)
                document["calm_s"] = round(time.monotonic() - began, 1)
                write_json(record, document)
                typer.echo(
                    f"undisturbed: {document['calm_s']} s, champion {document['calm']['champion']}"
                )
            done = {one["case"] for one in document["cases"]}
            for number in range(cases):
                name = names[number % len(names)]
                if number in done or (kind and name != kind) or time.monotonic() > end:
                    continue
                one = one_case(rig, number, name, document["calm"])
                document["cases"].append(one)
                document["metadata"] = metadata("faults", SEED)
                write_json(record, document)
                typer.echo(" ".join(f"{key}={value}" for key, value in one.items()))
        finally:
            control.down(rig.paths)
            shutil.rmtree(stores.cluster(rig.paths), ignore_errors=True)
    well = sum(one["well"] for one in document["cases"])
    typer.echo(f"{well} of {len(document['cases'])} ended well")


if __name__ == "__main__":
    typer.run(main)
