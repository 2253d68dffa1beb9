"""The last night, stage by stage: from Airflow's database if it ran there, else from the stamps.

- Airflow knows each task's state, begin and end; the reason of a failure is the last error of the
  task's own log.
- A night in one process leaves a stamp for each stage. Those written since the night's snapshot did
  work in it; older ones stand for work that had not to be done again.
"""

import datetime as dt
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from atlas.config import ATLASConfig
from atlas.errors import AtlasError, HomeError
from dashboard.reading import json_of, rows_of
from pipelines.paths import Paths

__all__ = ["STAGES", "Night", "Stage", "last_night"]

DAG = "atlas_nightly"
STAGES = (
    "ingest",
    "snapshot",
    "validate",
    "fingerprint",
    "train",
    "benchmark",
    "register",
    "promote",
)
_FAILED = ("failed", "upstream_failed")
_WORST = ("failed", "upstream_failed", "running", "up_for_retry", "queued", "scheduled")
_LINES = 400_000  # bytes at the end of a log, in which the last error stands


class Stage(NamedTuple):
    """One stage: its state in a word, when it began, how long it took, and what failed.

    `state` is one of done, kept (nothing new to do), failed, running, waiting, missing.
    """

    name: str
    state: str
    parts: int
    begun: dt.datetime | None
    seconds: float | None
    faults: tuple[str, ...]


class Night(NamedTuple):
    """The last night; `run` names Airflow's run, empty if it was run by hand."""

    as_of: str
    run: str
    state: str
    begun: dt.datetime | None
    seconds: float | None
    stages: tuple[Stage, ...]


def last_night(paths: Paths, config: ATLASConfig) -> Night:
    """Return the newer of Airflow's last run and the last night by hand.

    Raises:
        HomeError: no night was ever begun in this home.
    """
    by_hand = _by_hand(paths, config)
    try:
        by_airflow = _by_airflow(paths)
    except HomeError:
        by_airflow = None
    if by_airflow and (by_hand is None or not _is_later(by_hand, by_airflow)):
        return by_airflow
    if by_hand is None:
        raise HomeError(f"No night has been run in {paths.home} yet: run make nightly")
    return by_hand


def _is_later(by_hand: Night, by_airflow: Night) -> bool:
    """Return whether work was done by hand after Airflow's run had ended."""
    ends = [
        stage.begun for stage in by_hand.stages if stage.begun is not None and stage.state == "done"
    ]
    if by_airflow.state == "running" or not ends or by_airflow.begun is None:
        return False
    end = by_airflow.begun + dt.timedelta(seconds=(by_airflow.seconds or 0) + 60)
    return max(ends) > end


def _by_airflow(paths: Paths) -> Night | None:
    database = paths.var / "airflow" / "airflow.db"
    runs = rows_of(
        database,
        "select run_id, state, start_date, end_date, conf, data_interval_end from dag_run"
        " where dag_id = ? and start_date is not null order by start_date desc limit 1",
        [DAG],
    )
    if not runs:
        return None
    run = runs[0]
    tasks = rows_of(
        database,
        "select task_id, map_index, rendered_map_index, state, start_date, end_date, try_number"
        " from task_instance where dag_id = ? and run_id = ? order by map_index",
        [DAG, run["run_id"]],
    )
    logs = paths.var / "airflow" / "logs" / f"dag_id={DAG}" / f"run_id={run['run_id']}"
    stages = [
        _stage(name, [row for row in tasks if row["task_id"].split(".")[-1] == name], logs)
        for name in STAGES
    ]
    begun = _time(run["start_date"])
    states = {"success": "done", "failed": "failed"}
    state = states.get(str(run["state"]), "running")
    seconds = _span(begun, _time(run["end_date"]))
    return Night(_asked(run), str(run["run_id"]), state, begun, seconds, tuple(stages))


def _stage(name: str, tasks: list[Mapping[str, Any]], logs: Path) -> Stage:
    states = [str(task["state"]) for task in tasks]
    begins = [time for task in tasks if (time := _time(task["start_date"]))]
    ends = [time for task in tasks if (time := _time(task["end_date"]))]
    worst = next((state for state in _WORST if state in states), "success")
    if not begins:
        shown = "missing" if worst in _FAILED else "waiting"
        return Stage(name, shown, len(tasks), None, None, ())
    shown = {"success": "done", "failed": "failed", "upstream_failed": "missing"}.get(
        worst, "running"
    )
    faults = tuple(_fault(task, logs) for task in tasks if task["state"] == "failed")
    begun = min(begins)
    ended = max(ends) if ends and shown != "running" else None
    return Stage(name, shown, len(tasks), begun, _span(begun, ended), faults)


def _fault(task: Mapping[str, Any], logs: Path) -> str:
    label = task["rendered_map_index"] or ""
    folder = logs / f"task_id={task['task_id']}"
    if task["map_index"] is not None and int(task["map_index"]) >= 0:
        folder /= f"map_index={task['map_index']}"
    reason = _last_error(folder / f"attempt={task['try_number']}.log")
    return f"{label}: {reason}" if label else reason


def _last_error(path: Path) -> str:
    """Return the last error that a task's log tells, or where to look."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LINES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "it left no log; Airflow's page of the run says more"
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if not isinstance(event, dict) or event.get("level") not in ("error", "critical"):
            continue
        details = event.get("error_detail") or [{}]
        return str(details[0].get("exc_value") or event.get("event") or "unknown")[:400]
    return "its log names no error; Airflow's page of the run says more"


def _asked(run: Mapping[str, Any]) -> str:
    try:
        asked = json.loads(run["conf"] or "{}").get("as_of")
    except (ValueError, AttributeError):
        asked = None
    return str(asked or run["data_interval_end"] or run["start_date"])[:10]


def _by_hand(paths: Paths, config: ATLASConfig) -> Night | None:
    as_of = str(json_of(paths.night).get("as_of", ""))
    if not as_of:
        return None
    since = paths.night.stat().st_mtime
    stamps = paths.var / "stamps"
    variants = ("cnn", "moe_rule", "moe_mlp") if config.moe.enabled else ("cnn", "moe_rule")
    markets = list(config.markets)
    files = {
        "ingest": [stamps / f"ingest-{name}.json" for name in markets],
        "snapshot": [stamps / "snapshot.json"],
        "validate": [paths.validation(name) for name in markets],
        "fingerprint": [stamps / f"fingerprint-{name}.json" for name in markets],
        "train": [stamps / f"train-{name}.json" for name in variants],
        "benchmark": [stamps / "benchmark.json"],
        "register": [paths.artifacts / "registration.json"],
        "promote": [paths.artifacts / "promotion.json"],
    }
    floor = since - 3600  # ingest is before the snapshot that names the night
    spent = _spent([path for found in files.values() for path in found], floor)
    stages = [_stamped(name, files[name], spent, _faults(paths, name, markets)) for name in STAGES]
    failed = any(stage.state in ("failed", "missing") for stage in stages)
    begins = [stage.begun for stage in stages if stage.begun]
    begun = min(begins, default=dt.datetime.fromtimestamp(since, dt.UTC))
    seconds = sum(gap for _, gap in spent.values())
    return Night(as_of, "", "failed" if failed else "done", begun, seconds, tuple(stages))


def _spent(files: list[Path], floor: float) -> dict[Path, tuple[float, float]]:
    """Return for each file of this night its time and the seconds since the file before it."""
    times = sorted((path.stat().st_mtime, path) for path in files if path.is_file())
    fresh = [(time, path) for time, path in times if time >= floor]
    before = fresh[0][0] if fresh else floor
    found = {}
    for time, path in fresh:
        found[path], before = (time, time - before), time
    return found


def _stamped(
    name: str,
    files: list[Path],
    spent: Mapping[Path, tuple[float, float]],
    faults: tuple[str, ...],
) -> Stage:
    fresh = [spent[path] for path in files if path in spent]
    if faults:
        state = "failed"
    elif not all(path.is_file() for path in files):
        state = "missing"
    else:
        state = "done" if fresh else "kept"
    if not fresh:
        return Stage(name, state, len(files), None, None, faults)
    begun = dt.datetime.fromtimestamp(min(time - gap for time, gap in fresh), dt.UTC)
    return Stage(name, state, len(files), begun, sum(gap for _, gap in fresh), faults)


def _faults(paths: Paths, stage: str, markets: Iterable[str]) -> tuple[str, ...]:
    if stage != "validate":
        return ()
    found = []
    for market in markets:
        try:
            outcome = json_of(paths.validation(market))
        except AtlasError as error:
            found.append(f"{market}: {error}")
            continue
        if outcome and not outcome.get("passed", True):
            share = float(outcome.get("bad_share") or 0)
            found.append(f"{market}: {share:.1%} of its rows are bad, more than it may have")
    return tuple(found)


def _time(text: object) -> dt.datetime | None:
    if not text:
        return None
    found = dt.datetime.fromisoformat(str(text))
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _span(begun: dt.datetime | None, ended: dt.datetime | None) -> float | None:
    return (ended - begun).total_seconds() if begun and ended else None
