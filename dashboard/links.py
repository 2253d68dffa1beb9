"""Where the neighbors are: the addresses of a home's running MLflow and Airflow.

`make up` records each program with its port under var/run; a program that has ended is not linked
to. Inside Airflow the addresses are the same: all of them listen on this machine.
"""

from typing import NamedTuple
from urllib.parse import quote

import psutil

from atlas.errors import AtlasError
from dashboard.reading import json_of
from pipelines.paths import Paths

__all__ = ["Links", "find_links"]


class Links(NamedTuple):
    """Base addresses, empty where a program does not run."""

    mlflow: str
    airflow: str

    def run(self, experiment_id: str, run_id: str) -> str:
        """Return MLflow's page of a run, or nothing."""
        if not self.mlflow or not run_id:
            return ""
        return f"{self.mlflow}/#/experiments/{quote(experiment_id or '0')}/runs/{quote(run_id)}"

    def version(self, number: int) -> str:
        """Return MLflow's page of a registered version, or nothing."""
        return f"{self.mlflow}/#/models/atlas-moe/versions/{number}" if self.mlflow else ""

    def dag_run(self, run_id: str) -> str:
        """Return Airflow's page of a run of the nightly DAG, or nothing."""
        if not self.airflow or not run_id:
            return ""
        return f"{self.airflow}/dags/atlas_nightly/runs/{quote(run_id, safe='')}"


def find_links(paths: Paths) -> Links:
    """Return the addresses of the programs that run now."""
    return Links(_address(paths, "mlflow"), _address(paths, "airflow-api-server"))


def _address(paths: Paths, name: str) -> str:
    try:
        found = json_of(paths.var / "run" / f"{name}.json")
        process = psutil.Process(int(found["pid"]))
        if abs(process.create_time() - float(found["created"])) < 1 and found["port"]:
            return f"http://127.0.0.1:{int(found['port'])}"
    except (AtlasError, KeyError, TypeError, ValueError, psutil.Error):
        pass
    return ""
