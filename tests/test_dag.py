"""The nightly DAG parses fast, holds no heavy import, and has the order of dvc.yaml."""

import datetime as dt
import importlib
import importlib.util
import inspect
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from dags import notices
from pipelines.night import VARIANTS
from pipelines.paths import PROJECT
from services.airflow import POOLS

FILE = PROJECT / "dags" / "atlas_nightly.py"
HEAVY = ("torch", "pandas", "numpy", "mlflow", "great_expectations", "dvc", "atlas", "pipelines")
PARSE_S = 0.5


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("atlas_nightly", FILE)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def dag(module: ModuleType) -> Any:
    return module.atlas_nightly()


def test_parses_fast_and_light() -> None:
    """Parsing loads none of the heavy packages and takes half a second at most."""
    code = (
        "import json, runpy, sys, time, airflow.sdk; from airflow.sdk import dag, task\n"
        "before = set(sys.modules); began = time.process_time()\n"
        f"runpy.run_path({str(FILE)!r})\n"
        "seconds = time.process_time() - began\n"
        "print(json.dumps([seconds, sorted(set(sys.modules) - before)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = json.loads(done.stdout.splitlines()[-1])
    assert seconds <= PARSE_S
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []


@pytest.mark.parametrize(
    ("name", "schedule"), [("atlas_tune", "0 6 * * 6"), ("atlas_pretrain", "0 6 * * 0")]
)
def test_a_weekly_dag_is_as_light(name: str, schedule: str) -> None:
    """It loads none of the heavy packages and runs once a week, one at a time."""
    file = FILE.with_name(f"{name}.py")
    code = (
        "import json, runpy, sys; from airflow.sdk import dag, task\n"
        "before = set(sys.modules)\n"
        f"found = runpy.run_path({str(file)!r})[{name!r}]()\n"
        "loaded = sorted(set(sys.modules) - before)\n"
        "print(json.dumps([loaded, found.dag_id, found.schedule, found.max_active_runs]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, *rest = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []
    assert rest == [name, schedule, 1]


def test_schedule(dag: Any) -> None:
    """It runs at 02:00 UTC, one night at a time, and does not catch up."""
    assert dag.dag_id == "atlas_nightly"
    assert dag.schedule == "0 2 * * *"
    assert dag.timezone.name == "UTC"
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


def test_order(dag: Any) -> None:
    """Every stage waits for the one before it, and the report is a teardown."""
    order = ["begin", "ingest", "snapshot", "markets.validate", "markets.fingerprint"]
    order += ["train", "benchmark", "register", "promote", "report"]
    assert {task.task_id for task in dag.tasks} == set(order)
    for before, after in itertools.pairwise(order):
        assert before in dag.get_task(after).upstream_task_ids
    assert dag.get_task("report").is_teardown
    assert dag.get_task("train").trigger_rule == "none_failed"


def test_retries(dag: Any) -> None:
    """Every task is retried twice with back-off, but the first one waits an hour for its turn.

    Each says when it has failed for good, and none can hang for ever.
    """
    for task in dag.tasks:
        assert task.has_on_failure_callback
        assert task.execution_timeout is not None
        if task.task_id != "begin":
            assert task.retries == 2
            assert task.retry_exponential_backoff
    first = dag.get_task("begin")
    assert first.retries * first.retry_delay == dt.timedelta(hours=1)
    assert not first.retry_exponential_backoff


def test_a_late_night_is_told_of_and_a_hanging_one_ended(
    dag: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the services say so, a run has a deadline whose callback can be awaited."""
    assert not dag.deadline  # dag.test() could not end with one
    monkeypatch.setenv("ATLAS_DEADLINE_MINUTES", "240")
    alert = notices.on_time()
    assert alert is not None
    assert alert.interval == dt.timedelta(hours=4)
    module, _, name = alert.callback.path.rpartition(".")
    assert inspect.iscoroutinefunction(getattr(importlib.import_module(module), name))
    assert dag.dagrun_timeout == dt.timedelta(hours=12)


def test_trainings_share_a_pool_that_the_services_make(dag: Any) -> None:
    """The pool that trainings wait for is one that a start of the services makes."""
    assert dag.get_task("train").pool in POOLS
    assert {task.pool for task in dag.tasks} <= {"default_pool", *POOLS}


def test_outlets(dag: Any) -> None:
    """Other DAGs can wait for new bars and for a decision on the champion."""
    outlets = {task.task_id: [a.uri.rstrip("/") for a in task.outlets] for task in dag.tasks}
    assert outlets["snapshot"] == ["atlas://bars"]
    assert outlets["promote"] == ["atlas://champion"]


def test_structure_equals_dvc(dag: Any) -> None:
    """The stages that the DAG shares with dvc.yaml stand in the same order in both."""
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    del stages["truth"]  # in the DAG it is a part of ingest
    names = {task.task_id: task.task_id.split(".")[-1] for task in dag.tasks}
    shared = {task_id for task_id, name in names.items() if name in stages}
    assert {names[task_id] for task_id in shared} == set(stages)
    from_dag = {
        (names[before], names[task_id])
        for task_id in shared
        for before in dag.get_task(task_id).upstream_task_ids & shared
    }
    assert from_dag == _dvc_edges(stages)


def test_variants(module: ModuleType) -> None:
    """DAG, dvc.yaml and the command line train the same variants."""
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    assert module.VARIANTS == VARIANTS
    assert tuple(stages["train"]["foreach"]) == VARIANTS


def test_tiny_params_differ_in_size_only() -> None:
    """The tests' params.yaml has the markets, labels and gates of the real one."""
    real = yaml.safe_load((PROJECT / "params.yaml").read_text())
    tiny = yaml.safe_load((Path(__file__).parent / "params_tiny.yaml").read_text())
    assert tiny["moe"] == real["moe"]
    for name, market in real["markets"].items():
        assert {**tiny["markets"][name], "cut": None} == {**market, "cut": None}


def _dvc_edges(stages: dict[str, Any]) -> set[tuple[str, str]]:
    # An edge for each direct dependency; those that follow from others are left out, as in the DAG.
    bodies = {name: stage.get("do", stage) for name, stage in stages.items()}
    folders = {
        name: {"/".join(str(out).split("/")[:2]) for out in body["outs"]}
        for name, body in bodies.items()
    }
    direct = {
        (before, after)
        for after, body in bodies.items()
        for before in bodies
        if before != after
        and any("/".join(str(dep).split("/")[:2]) in folders[before] for dep in body["deps"])
    }
    return {
        (a, c) for a, c in direct if not any((a, b) in direct and (b, c) in direct for b in bodies)
    }
