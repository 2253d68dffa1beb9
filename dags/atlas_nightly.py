"""The nightly run: which stage comes when, what is retried, and what a failure stops.

- A run is one night: its `as_of` param, else the end of its data interval, floored to 00:00 UTC.
- A market is one index of a task group, so that a bad one stops its own index alone; nothing is
  trained unless every required market is through.
- What the user has to mend (an `AtlasError`) is not retried. Anything else is, twice; so is a
  training that was killed, which goes on from its checkpoint.
- Two nights never share a home: a run waits for the one before it, its first task for one by hand.
- A night that is late is told of; one that hangs is ended.
- Nothing heavy is imported here: a task is one import and one call.
"""

import datetime as dt
import os
from typing import Any

from airflow.sdk import Asset, Param, chain, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags.notices import on_failure, on_time

VARIANTS = ("cnn", "moe_rule", "moe_mlp")
BARS = Asset("atlas_bars", uri="atlas://bars")
CHAMPION = Asset("atlas_champion", uri="atlas://champion")
TRAINING_TIMEOUT = dt.timedelta(hours=3)
STAGE_TIMEOUT = dt.timedelta(hours=1)
NIGHT_TIMEOUT = dt.timedelta(hours=12)
TRAINING_POOL = "atlas_training"
TURN_RETRIES, TURN_DELAY = 60, dt.timedelta(minutes=1)  # an hour's wait for another night
LABEL = "{{ label }}"
SINCE = os.environ.get("ATLAS_SINCE", "2026-01-01T00:00:00+00:00")


def call(stage: str, as_of: str, **extra: str) -> dict[str, Any]:
    """Run a stage; an error that the user must mend fails the task without a retry."""
    from atlas.errors import AtlasError, ModelError, SourceError
    from pipelines import tasks

    context = get_current_context()
    context["label"] = extra.get("market") or extra.get("variant")  # a mapped task's name in the UI
    try:
        return tasks.run(stage, context["run_id"], as_of, **extra)
    except AtlasError as error:
        if isinstance(error, SourceError) or (stage == "train" and isinstance(error, ModelError)):
            raise
        raise AirflowFailException(str(error)) from error


def gate(stage: str, as_of: str, market: str) -> dict[str, Any]:
    """Run a stage of one market; an optional market that fails is left out, not a failure."""
    from atlas.errors import SourceError
    from pipelines import tasks

    try:
        return call(stage, as_of, market=market)
    except (AirflowFailException, SourceError) as error:
        if tasks.is_required(market, as_of):
            raise
        raise AirflowSkipException(f"{market} is left out of this night: {error}") from error


@task(retries=TURN_RETRIES, retry_delay=TURN_DELAY, retry_exponential_backoff=False)
def begin() -> list[str]:
    """Check the input, claim the home, say which night it is, list the markets to map over."""
    from atlas.errors import AtlasError, HomeError
    from pipelines import tasks

    context = get_current_context()
    run = context["dag_run"]
    moment = run.data_interval_end or run.run_after
    try:
        night = tasks.begin(run.run_id, context["params"]["as_of"], moment)
    except HomeError:
        raise  # another night is under way: wait for the turn
    except AtlasError as error:
        raise AirflowFailException(str(error)) from error
    context["task_instance"].xcom_push("as_of", night["as_of"])
    markets: list[str] = night["markets"]
    return markets


@task(map_index_template=LABEL)
def ingest(as_of: str, market: str) -> object:
    """Add a market's bars up to the night."""
    return gate("ingest", as_of, market)


@task(outlets=[BARS], trigger_rule="none_failed")  # an optional market may have been skipped
def snapshot(as_of: str) -> object:
    """Record data/ with DVC and tell consumers which bytes are new."""
    summary = call("snapshot", as_of)
    events = get_current_context()["outlet_events"]
    events[BARS].extra = {"data_version": summary["data_version"], "as_of": as_of}
    return summary


@task(map_index_template=LABEL)
def validate(as_of: str, market: str) -> object:
    """Quarantine a market's bad rows, or fail it."""
    return gate("validate", as_of, market)


@task(map_index_template=LABEL)
def fingerprint(as_of: str, market: str) -> object:
    """Compute a market's fingerprints."""
    return gate("fingerprint", as_of, market)


@task_group
def markets(as_of: str, market: str) -> None:
    """Check one market, then describe it."""
    chain(validate(as_of, market), fingerprint(as_of, market))


@task(
    map_index_template=LABEL,
    execution_timeout=TRAINING_TIMEOUT,
    pool=TRAINING_POOL,  # as many trainings at once as there is memory for
    trigger_rule="none_failed",  # an optional market may have been skipped
)
def train(as_of: str, variant: str) -> object:
    """Train one variant in a process of its own."""
    return call("train", as_of, variant=variant)


@task
def benchmark(as_of: str) -> object:
    """Write the table and record the night's outputs with DVC."""
    return call("benchmark", as_of)


@task
def register(as_of: str) -> object:
    """Register the night's candidate."""
    return call("register", as_of)


@task(outlets=[CHAMPION])
def promote(as_of: str) -> object:
    """Make the candidate champion if it is proven better; tell consumers what was decided."""
    summary = call("promote", as_of)
    get_current_context()["outlet_events"][CHAMPION].extra = summary
    return summary


@task
def report(as_of: str) -> object:
    """Write the report and give the home back, whatever became of the night."""
    from pipelines import tasks

    return tasks.finish(get_current_context()["run_id"], as_of)


@dag(
    schedule="0 2 * * *",
    start_date=dt.datetime.fromisoformat(SINCE),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=NIGHT_TIMEOUT,
    deadline=on_time(),
    params={"as_of": Param(None, type=["null", "string"], format="date", description="The night.")},
    default_args={
        "retries": 2,
        "retry_delay": dt.timedelta(seconds=10),
        "retry_exponential_backoff": True,
        "execution_timeout": STAGE_TIMEOUT,
        "on_failure_callback": on_failure,
    },
    doc_md=__doc__,
    tags=["atlas"],
)
def atlas_nightly() -> None:
    """From bars to a promoted champion."""
    names = begin()
    as_of = names["as_of"]
    stages = (
        ingest.partial(as_of=as_of).expand(market=names),
        snapshot(as_of),
        markets.partial(as_of=as_of).expand(market=names),
        train.partial(as_of=as_of).expand(variant=VARIANTS),
        benchmark(as_of),
        register(as_of),
        promote(as_of),
    )
    chain(*stages)
    chain(list(stages), report(as_of).as_teardown())


atlas_nightly()
