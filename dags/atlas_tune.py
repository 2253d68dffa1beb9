"""The weekly search: what learning rate and optimizer suit each expert, before the test span.

It reads the night last begun and writes artifacts/tuning/; with `tuning: latest` in params the
nights that follow train with it. A task that was killed goes on from the trials already made.
"""

import datetime as dt
import os
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from dags.notices import on_failure, on_time

SINCE = os.environ.get("ATLAS_SINCE", "2026-01-01T00:00:00+00:00")
TIMEOUT = dt.timedelta(hours=4)


@task(execution_timeout=TIMEOUT)
def tune() -> object:
    """Search in a process of its own, which dies with this task."""
    from atlas.errors import ConfigError, DataError
    from pipelines import tasks

    params: dict[str, Any] = get_current_context()["params"]
    try:
        return tasks.tune(params["trials"], params["timeout_s"])
    except (ConfigError, DataError) as error:
        raise AirflowFailException(str(error)) from error


@dag(
    schedule="0 6 * * 6",
    start_date=dt.datetime.fromisoformat(SINCE),
    catchup=False,
    max_active_runs=1,
    params={
        "trials": Param(20, type="integer", minimum=1, description="Trials in all."),
        "timeout_s": Param(10_800, type="integer", minimum=1, description="Then no new trial."),
    },
    deadline=on_time(),
    default_args={
        "retries": 2,
        "retry_delay": dt.timedelta(minutes=1),
        "on_failure_callback": on_failure,
    },
    doc_md=__doc__,
    tags=["atlas"],
)
def atlas_tune() -> None:
    """Tune inside each expert."""
    tune()


atlas_tune()
