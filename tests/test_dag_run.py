"""A night of the real DAG on tiny simulated markets, in this process, twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.paths import PROJECT

PARAMS = PROJECT / "tests" / "params_tiny.yaml"
RUN = """
import json, sys
sys.path.insert(0, "dags")
import pendulum
from airflow.models.asset import AssetEvent
from airflow.utils.session import create_session
from atlas_nightly import atlas_nightly

dag = atlas_nightly()
answers = []
for _ in range(2):
    run = dag.test(run_conf={"as_of": "2026-11-20"})
    tasks = run.get_task_instances()
    answers.append({
        "state": run.state,
        "tasks": sorted((t.task_id, t.map_index, t.state) for t in tasks),
        "results": {
            name: next(t for t in tasks if t.task_id == name).xcom_pull(task_ids=name)
            for name in ("snapshot", "register", "promote")
        },
    })
with create_session() as session:
    answers[0]["events"] = {e.asset.uri: e.extra for e in session.query(AssetEvent)}
print("ANSWERS " + json.dumps(answers, default=str))
"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Run the DAG twice in a home of its own; return the home and both outcomes."""
    home = tmp_path_factory.mktemp("home")
    airflow = tmp_path_factory.mktemp("airflow")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(airflow),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow}/airflow.db",
        "ATLAS_HOME": str(home),
        "ATLAS_PARAMS": str(PARAMS),
        "PYTHONPATH": str(PROJECT),
        "OMP_NUM_THREADS": "1",
    }
    for command in (["-m", "airflow", "db", "migrate"], ["-c", RUN]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    answers = json.loads(line.removeprefix("ANSWERS "))
    assert answers[0]["state"] == "success", done.stdout[-6000:]
    return home, answers


def test_every_task_succeeds(night: tuple[Path, list[dict[str, Any]]]) -> None:
    """A night ends with every task green, one index per market and variant."""
    _, (first, _) = night
    assert {state for *_, state in first["tasks"]} == {"success"}
    count = {name: sum(t[0] == name for t in first["tasks"]) for name, *_ in first["tasks"]}
    assert count["ingest"] == count["markets.validate"] == count["markets.fingerprint"] == 6
    assert count["train"] == 3


def test_writes_the_table_and_the_registry(night: tuple[Path, list[dict[str, Any]]]) -> None:
    """The home holds data.dvc, the table and a registered version, and no claim is left."""
    home, _ = night
    assert (home / "data.dvc").is_file()
    table = json.loads((home / "artifacts" / "benchmark" / "table.json").read_text())
    assert table
    assert (home / "var" / "mlflow" / "mlflow.db").is_file()
    assert not (home / "var" / "night.claim").exists()


def test_the_asset_event_says_which_bytes_are_new(
    night: tuple[Path, list[dict[str, Any]]],
) -> None:
    """Consumers of atlas://bars get the data version that data.dvc records, and the night."""
    home, (first, _) = night
    event = next(extra for uri, extra in first["events"].items() if "bars" in uri)
    version = first["results"]["snapshot"]["data_version"]
    assert event == {"data_version": version, "as_of": "2026-11-20"}
    assert f"md5: {version}" in (home / "data.dvc").read_text()


def test_the_same_night_again_changes_nothing(
    night: tuple[Path, list[dict[str, Any]]],
) -> None:
    """A second run of a night has the same data version and registers nothing new."""
    _, (first, second) = night
    assert second["state"] == "success", second["tasks"]
    before, after = first["results"], second["results"]
    assert before["snapshot"]["data_version"] == after["snapshot"]["data_version"]
    assert (before["register"]["registered"], after["register"]["registered"]) == (True, False)
    assert before["register"]["candidate_version"] == after["register"]["candidate_version"] == "1"
