"""Write a tuning's trials into MLflow: one run a trial, in an experiment of their own."""

from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param

from pipelines import tracking
from pipelines.paths import Paths

__all__ = ["EXPERIMENT", "log_trial"]

EXPERIMENT = "atlas-tuning"


def log_trial(paths: Paths, study: str, trial: Mapping[str, Any]) -> None:
    """Log one ended trial: its settings, its losses on the way, its end, the bytes it saw.

    A trial that is there already, by study and number, is left as it is.
    """
    client = tracking.open_registry(paths)
    found = client.get_experiment_by_name(EXPERIMENT)
    location = paths.mlflow_artifacts.resolve().as_uri()
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment(EXPERIMENT, artifact_location=location)
    )
    name = f"{study} trial {trial['number']}"
    if client.search_runs([experiment], f"attributes.run_name = '{name}'"):
        return
    tags = {"study": study, "end": trial["state"], "data_version": tracking.data_version(paths)}
    run = client.create_run(experiment, run_name=name, tags=tags)
    now = run.info.start_time
    metrics = [
        Metric("loss_so_far", float(loss), now, int(step))
        for step, loss in trial["reported"].items()
    ]
    if trial["loss"] is not None:
        metrics.append(Metric("loss", trial["loss"], now, 0))
    params = [Param(key, str(value)) for key, value in trial["params"].items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    client.set_terminated(run.info.run_id)
