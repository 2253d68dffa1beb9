"""The daily watch, after the night: freshness, drift, gate, experts and live edge.

- An alarm is a finding: the task succeeds, the notice goes out, and the checks become gauges of
  Airflow's own metrics (StatsD or OpenTelemetry, whichever `[metrics]` turns on).
- With `monitor.trigger_nightly: true` in params an alarm that a new night may mend (drift, gate,
  live edge) starts `atlas_nightly` for the same night; otherwise that task is skipped.
"""

import datetime as dt
import os
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, chain, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.notices import on_failure, webhook

SINCE = os.environ.get("ATLAS_SINCE", "2026-01-01T00:00:00+00:00")
NIGHT = "{{ ti.xcom_pull(task_ids='watch')['as_of'] }}"


@task
def watch() -> dict[str, Any]:
    """Watch the home as of the run's day; a home without a night has nothing to watch."""
    from airflow.sdk.observability import stats

    from atlas.errors import AtlasError, HomeError
    from pipelines import tasks

    context = get_current_context()
    run = context["dag_run"]
    moment = run.data_interval_end or run.run_after
    try:
        found, gauges = tasks.watch(context["params"]["as_of"], moment, webhook())
    except HomeError as error:
        raise AirflowSkipException(str(error)) from error
    except AtlasError as error:
        raise AirflowFailException(str(error)) from error
    for name, value in gauges:
        stats.gauge(name, value)
    return found


@task
def is_wanted(found: dict[str, Any]) -> None:
    """Go on only if params ask for a night on such an alarm."""
    if not found["wants_night"]:
        raise AirflowSkipException("no alarm that a night may mend, or params ask for none")


@dag(
    schedule="0 6 * * *",
    start_date=dt.datetime.fromisoformat(SINCE),
    catchup=False,
    max_active_runs=1,
    params={"as_of": Param(None, type=["null", "string"], format="date", description="The day.")},
    default_args={
        "retries": 2,
        "retry_delay": dt.timedelta(minutes=1),
        "on_failure_callback": on_failure,
    },
    doc_md=__doc__,
    tags=["atlas"],
)
def atlas_monitor() -> None:
    """Watch, tell, and start a night if params ask for it."""
    night = TriggerDagRunOperator(
        task_id="nightly", trigger_dag_id="atlas_nightly", conf={"as_of": NIGHT}
    )
    chain(is_wanted(watch()), night)


atlas_monitor()
