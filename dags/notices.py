"""Who hears of a task that failed for good, and of a run that is late: the log and the webhook.

Schedules import this file while they are parsed, so nothing heavy stands at its head.
"""

import asyncio
import datetime as dt
import os
from typing import Any

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

__all__ = ["late", "on_failure", "on_time", "webhook"]


def on_failure(context: dict[str, Any]) -> None:
    """Say which task failed for good, in the log and to the webhook."""
    from pipelines import tasks

    failed = context["task_instance"]
    reason = context.get("exception")
    text = f"{failed.dag_id} {failed.run_id}: {failed.task_id} failed: {reason}"
    tasks.alert(text, webhook())


def webhook() -> str | None:
    """Return the address that the connection `atlas_webhook` keeps as its password, if it is set.

    Without the connection the environment's `ATLAS_WEBHOOK` counts.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowException

    try:
        password: str | None = Connection.get("atlas_webhook").password
    except AirflowException:
        return None
    return password


def on_time() -> DeadlineAlert | None:
    """Return the deadline of a run: so long after it was queued, `late` is told.

    The environment's `ATLAS_DEADLINE_MINUTES`, which the services set, says how long. Without it
    there is none: `dag.test()` of Airflow 3.3 fails at the end of a run that has a deadline.
    """
    minutes = float(os.environ.get("ATLAS_DEADLINE_MINUTES") or 0)
    if not minutes:
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=dt.timedelta(minutes=minutes),
        callback=AsyncCallback("dags.notices.late", {"minutes": minutes}),
    )


async def late(minutes: float, context: dict[str, Any] | None = None) -> None:
    """Say that a run has not ended in time; the triggerer calls this, once a run."""
    from pipelines import tasks

    run = (context or {}).get("dag_run", {})
    name = f"{run.get('dag_id', 'a run')} {run.get('dag_run_id', '')}".strip()
    text = f"{name}: still going {minutes:g} minutes after it was asked for"
    await asyncio.to_thread(tasks.alert, text)
