"""The weekly pre-training of the kernels on unlabelled charts, before the test span.

It reads the night last begun and writes artifacts/pretraining/; with `pretraining: latest` in
params the nights that follow start from it. A task that was killed goes on from its last epoch.
"""

import datetime as dt
import os

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException

from dags.notices import on_failure, on_time

SINCE = os.environ.get("ATLAS_SINCE", "2026-01-01T00:00:00+00:00")
TIMEOUT = dt.timedelta(hours=4)


@task(execution_timeout=TIMEOUT)
def pretrain() -> object:
    """Pre-train in a process of its own, which dies with this task."""
    from atlas.errors import ConfigError, DataError
    from pipelines import tasks

    try:
        return tasks.pretrain()
    except (ConfigError, DataError) as error:
        raise AirflowFailException(str(error)) from error


@dag(
    schedule="0 6 * * 0",
    start_date=dt.datetime.fromisoformat(SINCE),
    catchup=False,
    max_active_runs=1,
    deadline=on_time(),
    default_args={
        "retries": 2,
        "retry_delay": dt.timedelta(minutes=1),
        "on_failure_callback": on_failure,
    },
    doc_md=__doc__,
    tags=["atlas"],
)
def atlas_pretrain() -> None:
    """Pre-train the kernels."""
    pretrain()


atlas_pretrain()
