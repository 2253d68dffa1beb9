"""Backfill a month while the services run: every night registers, none promotes, never two at once.

`python -m benchmarks backfill`; `--help` tells its options. On two workers over PostgreSQL a first
night of one tiny market of tests/params_tiny.yaml gets a champion. While it runs a second one is
asked for, which must wait. Then `airflow backfill create` runs the nights before it again, one
after another. In its midst the DAG is paused for a while: the night under way ends, no other
begins, and after the pause the backfill goes on. Asked in the end:

- did every night succeed, and register a version of its own;
- is the champion the first night's, as it was before;
- did the tasks of two nights ever run at the same time (but for `begin`, which waits its turn).
"""

import datetime as dt
import itertools
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from atlas.errors import HomeError
from benchmarks.fault_rig import AS_OF, eager
from benchmarks.harness import Ratio, Report, metadata, timing, write_report
from pipelines import tracking
from pipelines.paths import PROJECT, Paths
from services import airflow, control, stores
from services.processes import clean_environment
from services.rest import Airflow

__all__ = ["overlaps", "report", "run"]

SEED = 7
MARKET = "equity_daily"
NIGHT_S, CALM_S = 1_800.0, 30.0
ENDED = ("success", "failed")
FIRST = ("first", "second")  # nights that are asked for at once
Span = tuple[dt.datetime, dt.datetime]


def run(nights: int = 21, minutes: float = 170, port: int = 28180) -> Report:
    """Run the first night, one that waits, and the backfill.

    Args:
        nights: how many to run again.
        minutes: after so many the nights that have not begun are cancelled.
        port: the first of three.
    """
    with tempfile.TemporaryDirectory() as work:
        paths, params = Paths(Path(work) / "home"), eager(Path(work), (MARKET,))
        ports = {"airflow_port": port, "mlflow_port": port + 1, "dashboard_port": port + 2}
        end = time.monotonic() + minutes * 60
        control.up(paths, params, workers=2, **ports)
        client = Patient(port, airflow.USER, airflow.password(paths))
        try:
            for run_id in FIRST:
                client.trigger(airflow.DAG_ID, run_id, {"as_of": AS_OF})
            _until(lambda: len(_runs(client, "manual", *ENDED)) == len(FIRST))
            _backfill(paths, params, port, nights)
            _pause(client)
            _until(lambda: time.monotonic() > end or _left(client) == 0, nights)
            return report(client, paths)
        finally:
            control.down(paths)
            shutil.rmtree(stores.cluster(paths), ignore_errors=True)


def report(client: Airflow, paths: Paths) -> Report:
    """Cancel what has not begun, and judge the rest by what Airflow and MLflow have recorded."""
    for one in client.backfills(airflow.DAG_ID):
        if one["completed_at"] is None:
            client.cancel_backfill(one["id"])
    _until(lambda: not _runs(client, "backfill", "running"))
    begun = {k: run for k, run in _runs(client, "backfill", *ENDED).items() if run["start_date"]}
    told = [_told(client, run_id) for run_id in begun]
    starts = [_moment(run["start_date"]) for run in begun.values()]
    first, second = (_span(_runs(client, "manual", *ENDED)[run_id]) for run_id in FIRST)
    champion = tracking.champion(paths)
    assert champion is not None
    seconds = [(stop - start).total_seconds() for start, stop in map(_span, begun.values())]
    claims = [
        Ratio("nights_that_succeed", _count(begun, "success"), len(begun)),
        Ratio("registered", sum(bool(one["registered"]) for one in told), len(begun)),
        Ratio("promoted", sum(bool(one["promoted"]) for one in told), 0),
        Ratio("version_of_the_champion", float(champion.version), 1),
        Ratio("tasks_of_two_nights_at_once", overlaps([_tasks(client, k) for k in begun]), 0),
        Ratio("second_night_waited", float(second[0] >= first[1]), 1),
        Ratio("begun_while_paused", _within(starts, client.pauses(airflow.DAG_ID)), 0),
    ]
    return Report([timing("a_night_of_the_backfill", "s", seconds)], claims)


def overlaps(nights: list[list[Span]]) -> int:
    """Return how many pairs of tasks of different nights ran at the same time."""
    return sum(
        one[0] < other[1] and other[0] < one[1]
        for first, second in itertools.combinations(nights, 2)
        for one, other in itertools.product(first, second)
    )


class Patient(Airflow):
    """A client that asks again while a busy api-server does not answer."""

    def _call(self, method: str, path: str, body: Any = None, *, login: bool = True) -> Any:
        deadline, again = time.monotonic() + NIGHT_S, False
        while True:
            try:
                return super()._call(method, path, body, login=login)
            except HomeError as error:
                if again and "answered 409" in str(error):
                    return {}  # it was done the first time, though the answer was lost
                raise
            except OSError:
                if time.monotonic() > deadline:
                    raise
                again = True
                time.sleep(1)


def _backfill(paths: Paths, params: Path, port: int, nights: int) -> None:
    last = dt.date.fromisoformat(AS_OF) - dt.timedelta(days=1)
    first = last - dt.timedelta(days=nights - 1)
    command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", airflow.DAG_ID]
    command += ["--from-date", str(first), "--to-date", f"{last}T23:00:00"]
    command += ["--max-active-runs", "1", "--reprocess-behavior", "completed"]
    variables = clean_environment(airflow.environment(paths, params, port))
    done = subprocess.run(
        command, env=variables, cwd=PROJECT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _pause(client: Airflow) -> None:
    """Pause once two nights have ended, for a while."""
    _until(lambda: len(_runs(client, "backfill", *ENDED)) >= 2)
    client.pause(airflow.DAG_ID, is_paused=True)
    _until(lambda: not _runs(client, "backfill", "running"))
    time.sleep(CALM_S)
    client.pause(airflow.DAG_ID, is_paused=False)


def _left(client: Airflow) -> int:
    return len(_runs(client, "backfill", "queued", "running"))


def _runs(client: Airflow, kind: str, *states: str) -> dict[str, dict[str, Any]]:
    found = client.runs(airflow.DAG_ID, kind)
    return {one["dag_run_id"]: one for one in found if one["state"] in states}


def _count(runs: Mapping[str, Mapping[str, Any]], state: str) -> int:
    return sum(one["state"] == state for one in runs.values())


def _told(client: Airflow, run_id: str) -> dict[str, Any]:
    found = [client.result(airflow.DAG_ID, run_id, stage) for stage in ("register", "promote")]
    told = {name: value for one in found if one for name, value in one.items()}
    return {"registered": False, "promoted": False} | told


def _tasks(client: Airflow, run_id: str) -> list[Span]:
    tasks = client.tasks(airflow.DAG_ID, run_id)
    return [
        _span(one)
        for one in tasks
        if one["task_id"] != "begin" and one["start_date"] and one["end_date"]
    ]


def _span(one: Mapping[str, Any]) -> Span:
    return _moment(one["start_date"]), _moment(one["end_date"])


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def _within(moments: list[dt.datetime], changes: list[tuple[str, bool]]) -> int:
    """Return how many moments lie in a pause; `changes` are moments at which one begins or ends."""
    spans = [
        (_moment(start), _moment(stop))
        for (start, is_paused), (stop, _) in itertools.pairwise(changes)
        if is_paused
    ]
    assert spans, "the DAG was never paused"
    return sum(start < moment < stop for moment in moments for start, stop in spans)


def _until(is_so: Callable[[], bool], nights: int = 3) -> None:
    deadline = time.monotonic() + nights * NIGHT_S
    while not is_so():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(2)


def main(
    nights: Annotated[int, typer.Option(help="how many to run again")] = 21,
    minutes: Annotated[float, typer.Option(help="cancel the others after so many")] = 170,
    port: Annotated[int, typer.Option(help="the first of three ports")] = 28180,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Run the backfill and print what was found, beside what is expected."""
    found = run(nights, minutes, port)
    for row in found.results:
        typer.echo(f"{row.name:<30} {row.median:8.1f} {row.unit}")
    for claim in found.ratios:
        typer.echo(f"{claim.name:<30} {claim.value:8.0f} (expected {claim.target:g})")
    write_report(found, json_path, metadata("backfill", SEED))


if __name__ == "__main__":
    typer.run(main)
