"""MLflow's server over the very database and files that the stages write to directly.

It listens on 127.0.0.1 only, answers no foreign Host or Origin (MLflow's default), and runs no
jobs. Files are not proxied: runs record where theirs lie, and the server reads them there.
"""

import sys
from pathlib import Path

from pipelines.paths import PROJECT, Paths
from services.processes import LOCALHOST, Program

__all__ = ["prepare", "program"]


def prepare(paths: Paths) -> None:
    """Make MLflow's home."""
    paths.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    (paths.var / "mlflow").chmod(0o700)


def program(paths: Paths, params: Path, port: int) -> Program:
    """Return the server as a program."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOCALHOST, "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", paths.tracking_uri]
    command += ["--no-serve-artifacts", "--default-artifact-root", paths.mlflow_artifacts.as_uri()]
    variables = {
        "ATLAS_PARAMS": str(params),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONPATH": str(PROJECT),
    }
    return Program("mlflow", tuple(command), variables, port)
