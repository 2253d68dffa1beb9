"""MLflow's server behind a login, over PostgreSQL: `python -m services.mlflow_login`.

MLflow's own command hands its settings to a child in the environment, where `ps e` shows them. So
the very same application is run here in this process, which reads the secrets from files and sets
them where only it sees them. Addresses hold no password: libpq takes it from PGPASSFILE.
"""

import argparse
import os
from pathlib import Path

import uvicorn

__all__ = ["main"]

_INI = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {login_uri}
admin_username = {user}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def main(arguments: list[str] | None = None) -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description="Serve MLflow behind a login.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--hosts", default="", help="names that a request may ask for, by comma")
    parser.add_argument("--store-uri", required=True, help="database of runs and models")
    parser.add_argument("--login-uri", required=True, help="database of users")
    parser.add_argument("--artifacts", required=True, help="address of the files")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True, help="of cookies and forms")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for its settings")
    given = parser.parse_args(arguments)
    ini = given.scratch / "mlflow-login.ini"
    ini.write_text(_INI.format(login_uri=given.login_uri, user=given.user), encoding="utf-8")
    os.environ.update(  # as `mlflow server` does for its workers
        _MLFLOW_SERVER_FILE_STORE=given.store_uri,
        _MLFLOW_SERVER_ARTIFACT_ROOT=given.artifacts,
        _MLFLOW_SGI_NAME="uvicorn",
        MLFLOW_AUTH_CONFIG_PATH=str(ini),
        MLFLOW_AUTH_ADMIN_PASSWORD=given.password_file.read_text(encoding="utf-8").strip(),
        MLFLOW_FLASK_SERVER_SECRET_KEY=given.key_file.read_text(encoding="utf-8").strip(),
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    if given.hosts:
        os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = given.hosts
    uvicorn.run(
        "mlflow.server.auth:create_app",
        factory=True,
        host=given.host,
        port=given.port,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
