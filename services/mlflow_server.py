"""MLflow's server over the very database and files that the stages write to directly.

It listens on 127.0.0.1 only, answers no foreign Host or Origin (MLflow's default), and runs no
jobs. Files are not proxied: runs record where theirs lie, and the server reads them there.
A distributed home's server is behind a login, and the stages ask it instead of its database.
"""

import sys
from pathlib import Path

from pipelines.files import write_bytes, write_json
from pipelines.paths import PROJECT, Paths
from services import distributed, stores
from services.distributed import Backing
from services.private import write_private
from services.processes import LOCALHOST, Program

__all__ = ["USER", "prepare", "program"]

USER = "admin"


def prepare(paths: Paths) -> None:
    """Make MLflow's home."""
    paths.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    (paths.var / "mlflow").chmod(0o700)


def program(paths: Paths, params: Path, port: int) -> Program:
    """Return the server as a program."""
    if found := distributed.backing(paths):
        return _behind_login(paths, params, port, found)
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


def _behind_login(paths: Paths, params: Path, port: int, found: Backing) -> Program:
    folder = paths.var / "mlflow"
    for name in ("mlflow", "mlflow_key"):
        distributed.password(paths, name)  # made at its first use
    login = f"{USER}\n{distributed.password(paths, 'mlflow')}\n"
    write_private(paths.mlflow_login, login)
    write_json(paths.mlflow_server, {"uri": f"http://{LOCALHOST}:{port}"})
    for name in ("mlflow", "airflow"):  # for the dashboard, which asks the databases themselves
        place = paths.var / name / f"{name}.dsn"
        write_bytes(place, stores.connection_text(paths, found, name).encode())
    secrets = paths.var / "secrets"
    command = [sys.executable, "-m", "services.mlflow_login", "--host", LOCALHOST]
    command += ["--port", str(port), "--store-uri", distributed.address(found, "mlflow")]
    command += ["--login-uri", distributed.address(found, "mlflow_login")]
    command += ["--artifacts", paths.mlflow_artifacts.as_uri(), "--user", USER]
    command += ["--password-file", str(secrets / "mlflow"), "--scratch", str(folder)]
    command += ["--key-file", str(secrets / "mlflow_key")]
    variables = {
        "ATLAS_PARAMS": str(params),
        "PGPASSFILE": str(distributed.passfile(paths)),
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
    }
    return Program("mlflow", tuple(command), variables, port)
