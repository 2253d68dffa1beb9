"""The daily watch as a DAG, and what nightly and watch leave in the scheduler's database."""

import json
import subprocess
import sys

import pytest

from pipelines.paths import PROJECT
from pipelines.tasks import XCOM_BYTES, brief

HEAVY = ("torch", "pandas", "numpy", "mlflow", "great_expectations", "dvc", "atlas", "pipelines")


def test_the_watch_is_a_light_dag_after_the_night() -> None:
    """It loads nothing heavy, runs daily at 06:00, one at a time; a night is its last task."""
    code = (
        "import json, runpy, sys; from airflow.sdk import dag, task\n"
        "from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator\n"
        "before = set(sys.modules)\n"
        f"found = runpy.run_path({str(PROJECT / 'dags' / 'atlas_monitor.py')!r})\n"
        "found = found['atlas_monitor']()\n"
        "loaded = sorted(set(sys.modules) - before)\n"
        "order = [[t.task_id, sorted(t.upstream_task_ids), t.retries] for t in found.tasks]\n"
        "rest = [found.dag_id, found.schedule, found.max_active_runs, found.catchup]\n"
        "print(json.dumps([loaded, order, rest, found.get_task('nightly').trigger_dag_id]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, order, rest, triggered = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []
    assert sorted(order) == [
        ["is_wanted", ["watch"], 2],
        ["nightly", ["is_wanted"], 2],
        ["watch", [], 2],
    ]
    assert rest == ["atlas_monitor", "0 6 * * *", 1, False]
    assert triggered == "atlas_nightly"


@pytest.mark.parametrize("symbols", [0, 10, 5_000, 100_000])
def test_no_summary_is_too_long_for_a_scheduler(symbols: int) -> None:
    """Whatever a market's size: figures stay, lists of symbols become their size."""
    names = [f"SYM{place:06d}" for place in range(symbols)]
    summary = {
        "market": "equity_daily",
        "rows": 320 * symbols,
        "stale": dict.fromkeys(names, 4),
        "unreadable": names,
        "reason": "no row of " + ", ".join(names),
        "figures": {"evidence": 3.5},
    }
    small = brief(summary)
    assert len(json.dumps(small)) <= XCOM_BYTES
    assert (small["rows"], small["figures"]) == (320 * symbols, {"evidence": 3.5})
    assert small["unreadable"] == (names if symbols <= 10 else f"{symbols} entries")


def test_many_short_collections_are_cut_too() -> None:
    """If collections are short but many, all of them become their sizes."""
    summary = {f"rule_{place}": ["a row that breaks it"] * 30 for place in range(60)}
    small = brief(summary)
    assert len(json.dumps(small)) <= XCOM_BYTES
    assert set(small.values()) == {"30 entries"}
