"""A home whose nights run on many workers: Celery over PostgreSQL and Redis, all on this machine.

- Which form a home has is decided at its first start and kept in var/executor.json: its registry
  lies in SQLite or in PostgreSQL, and never moves by itself from one to the other.
- The ports of PostgreSQL and Redis stand there too, so that a program that was started again finds
  the others where they were.
- No address holds a password: PostgreSQL's lies in a passfile, Redis's in airflow.cfg and its own
  configuration, each at mode 0600. So none is in a command line or in an environment.
"""

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atlas.errors import HomeError
from pipelines.files import read_json, write_json
from pipelines.paths import Paths
from services.private import write_private
from services.processes import LOCALHOST, free_port

__all__ = [
    "MAX_WORKERS",
    "USER",
    "WORKERS",
    "Backing",
    "address",
    "backing",
    "passfile",
    "password",
    "settings",
    "settle",
]

MAX_WORKERS = 8
WORKERS = tuple(f"airflow-worker-{number}" for number in range(1, MAX_WORKERS + 1))
USER = "atlas"
POSTGRES_PORT = 5433  # beside a system's own PostgreSQL and Redis
REDIS_PORT = 6380
LONGEST_TASK_S = 6 * 3600


@dataclass(frozen=True)
class Backing:
    """What stands behind a distributed home, and how many workers it has."""

    workers: int
    postgres_port: int
    redis_port: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the workers' programs."""
        return WORKERS[: self.workers]


def backing(paths: Paths) -> Backing | None:
    """Return what a home is backed by, or None if it runs on this process's own executor."""
    file = _file(paths)
    return Backing(**read_json(file)) if file.is_file() else None


def settle(paths: Paths, workers: int) -> Backing | None:
    """Decide a home's form at its first start; later check it, and keep the number of workers.

    Args:
        workers: how many; 0 for whatever the home has.

    Raises:
        HomeError: the home has its registry in SQLite already, or too many workers are asked for.
    """
    if not 0 <= workers <= MAX_WORKERS:
        raise HomeError(f"expected 1 to {MAX_WORKERS} workers, got {workers}")
    found = backing(paths)
    if found is None and workers and (paths.var / "mlflow" / "mlflow.db").is_file():
        raise HomeError(
            f"home {paths.home} has its registry in SQLite and runs without workers; "
            "give another home for workers (HOME_DIR=…)"
        )
    if found is None and not workers:
        return None
    chosen = Backing(
        workers or (found.workers if found else 0),
        found.postgres_port if found else free_port(POSTGRES_PORT),
        found.redis_port if found else free_port(REDIS_PORT),
    )
    write_json(_file(paths), asdict(chosen))
    return chosen


def password(paths: Paths, name: str) -> str:
    """Return the generated password of `postgres`, `redis` or `mlflow`, made at its first use."""
    file = _folder(paths) / name
    if not file.is_file():
        write_private(file, secrets.token_urlsafe(64))
    return file.read_text(encoding="utf-8")


def passfile(paths: Paths) -> Path:
    """Return libpq's passfile, written anew if it is not right."""
    file = _folder(paths) / "pgpass"
    write_private(file, f"{LOCALHOST}:*:*:{USER}:{password(paths, 'postgres')}\n")
    return file


def address(found: Backing, database: str, scheme: str = "postgresql+psycopg2") -> str:
    """Return where a database is; the password is in the passfile."""
    return f"{scheme}://{USER}@{LOCALHOST}:{found.postgres_port}/{database}"


def settings(paths: Paths, found: Backing) -> dict[str, dict[str, Any]]:
    """Return what airflow.cfg says beside what it says of every home."""
    return {
        "core": {
            "executor": "CeleryExecutor",
            # as many as there are hands: a task never waits in Redis behind a long training,
            # where it would look like a task that Redis has lost
            "parallelism": found.workers,
            "hostname_callable": "services.hostname.name",
        },
        "database": {"sql_alchemy_conn": address(found, "airflow")},
        "celery": {
            "broker_url": f"redis://:{password(paths, 'redis')}@{LOCALHOST}:{found.redis_port}/0",
            "result_backend": "db+" + address(found, "airflow"),
            "worker_concurrency": 1,
        },
        # a message that no worker has acknowledged by then is given to another one
        "celery_broker_transport_options": {"visibility_timeout": LONGEST_TASK_S},
    }


def _folder(paths: Paths) -> Path:
    return paths.var / "secrets"


def _file(paths: Paths) -> Path:
    return paths.var / "executor.json"
