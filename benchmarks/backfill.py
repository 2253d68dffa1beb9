"""Backfill a month while the services run: every night registers, none promotes, never two at once.

`python -m benchmarks backfill`; `--help` tells its options. On two workers over PostgreSQL a first
night of one tiny market of tests/params_tiny.yaml gets a champion. While it runs a second one is
asked for, which must wait. Then `airflow backfill create` runs the nights before it again, one
after another. In its midst the DAG is paused for a while: the night under way ends, no other
begins, and after the pause the backfill goes on. Asked in the end:

- did every night succeed, and register a version of its own if there were new bars;
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
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from atlas.calendars import sessions
from atlas.errors import HomeError
from benchmarks.fault_rig import AS_OF, eager
from benchmarks.harness import Ratio, Report, metadata, timing
from pipelines import tracking
from pipelines.files import write_json
from pipelines.paths import PROJECT, Paths
from services import airflow, control, stores
from services.processes import clean_environment
from services.rest import Airflow

__all__ = ["overlaps", "run"]

SEED = 7
MARKET = "equity_daily"
NIGHT_S, CALM_S = 1_800.0, 30.0
ENDED = ("success", "failed")
Span = tuple[dt.datetime, dt.datetime]


def run(nights: int = 21, port: int = 28180) -> Report:
    """Run the first night, one that waits, and the backfill.

    Args:
        nights: how many to run again.
        port: the first of three.
    """
    with tempfile.TemporaryDirectory() as work:
        paths, params = Paths(Path(work) / "home"), eager(Path(work), (MARKET,))
        ports = {"airflow_port": port, "mlflow_port": port + 1, "dashboard_port": port + 2}
        control.up(paths, params, workers=2, **ports)
        client = Patient(port, airflow.USER, airflow.password(paths))
        try:
            waited = _two_at_once(client)
            before = tracking.champion(paths)
            began = time.monotonic()
            _backfill(paths, params, port, nights)
            begun_in_pause = _pause(client)
            _until(lambda: len(_runs(client, *ENDED)) == nights, nights)
            seconds = time.monotonic() - began
            states = _runs(client, *ENDED)
            told = [_told(client, run_id) for run_id in states]
            spans = [_spans(client, run_id) for run_id in states]
            after = tracking.champion(paths)
        finally:
            control.down(paths)
            shutil.rmtree(stores.cluster(paths), ignore_errors=True)
    assert before is not None
    assert after is not None
    claims = [
        Ratio("nights", len([one for one in states.values() if one == "success"]), nights),
        Ratio("registered", sum(bool(one["registered"]) for one in told), _with_bars(nights)),
        Ratio("promoted", sum(bool(one["promoted"]) for one in told), 0),
        Ratio("champion_changed", float(after.version != before.version), 0),
        Ratio("tasks_of_two_nights_at_once", overlaps(spans), 0),
        Ratio("second_night_waited", float(waited), 1),
        Ratio("begun_while_paused", begun_in_pause, 0),
    ]
    return Report([timing("a_night_of_the_backfill", "s", [seconds / nights])], claims)


def _with_bars(nights: int) -> int:
    """Return how many of the nights follow a session: any other has nothing new to register."""
    last = pd.Timestamp(AS_OF) - pd.Timedelta(days=2)  # the session before the last night
    return len(sessions("XNYS", last - pd.Timedelta(days=nights - 1), last))


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


def _two_at_once(client: Airflow) -> bool:
    """Run two nights that are asked for at once; return whether the second waited all the time."""
    for run_id in ("first", "second"):
        client.trigger(airflow.DAG_ID, run_id, {"as_of": AS_OF})
    waited = True
    while client.run_state(airflow.DAG_ID, "first") not in ENDED:
        second = client.run_state(airflow.DAG_ID, "second")
        waited &= second == "queued" or client.run_state(airflow.DAG_ID, "first") in ENDED
        time.sleep(1)
    _until(lambda: client.run_state(airflow.DAG_ID, "second") in ENDED)
    return waited


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


def _pause(client: Airflow) -> int:
    """Pause once two nights have ended, for a while; return how many began in it."""
    _until(lambda: len(_runs(client, *ENDED)) >= 2)
    client.pause(airflow.DAG_ID, is_paused=True)
    _until(lambda: not _runs(client, "running"))
    before = set(_runs(client, *ENDED))
    time.sleep(CALM_S)
    begun = set(_runs(client, "running", *ENDED)) - before
    client.pause(airflow.DAG_ID, is_paused=False)
    return len(begun)


def _runs(client: Airflow, *states: str) -> dict[str, str]:
    found = client.runs(airflow.DAG_ID, "backfill")
    return {one["dag_run_id"]: one["state"] for one in found if one["state"] in states}


def _told(client: Airflow, run_id: str) -> dict[str, Any]:
    found = [client.result(airflow.DAG_ID, run_id, stage) for stage in ("register", "promote")]
    told = {name: value for one in found if one for name, value in one.items()}
    return {"registered": False, "promoted": False} | told


def _spans(client: Airflow, run_id: str) -> list[Span]:
    tasks = client.tasks(airflow.DAG_ID, run_id)
    return [
        (dt.datetime.fromisoformat(one["start_date"]), dt.datetime.fromisoformat(one["end_date"]))
        for one in tasks
        if one["task_id"] != "begin" and one["start_date"] and one["end_date"]
    ]


def _until(is_so: Callable[[], bool], nights: int = 3) -> None:
    deadline = time.monotonic() + nights * NIGHT_S
    while not is_so():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(2)


def main(
    nights: Annotated[int, typer.Option(help="how many to run again")] = 21,
    port: Annotated[int, typer.Option(help="the first of three ports")] = 28180,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Run the backfill and print what was found, beside what is expected."""
    report = run(nights, port)
    for row in report.results:
        typer.echo(f"{row.name:<30} {row.median:8.1f} {row.unit}")
    for claim in report.ratios:
        typer.echo(f"{claim.name:<30} {claim.value:8.0f} (expected {claim.target:g})")
    if json_path is not None:
        document = {
            "metadata": metadata("backfill", SEED),
            "results": [row._asdict() for row in report.results],
            "ratios": [claim._asdict() for claim in report.ratios],
        }
        write_json(json_path, document)


if __name__ == "__main__":
    typer.run(main)
