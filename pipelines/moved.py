"""A home that was copied or moved: its registry must name its own files.

MLflow keeps absolute addresses. In a copy they would lead to the original: a night there would
write into it, a reader would stand on its files, and a prune could not tell whose they are. So
whoever opens the registry of such a home first gives its addresses the home's own place, in one
transaction. Only a home's own SQLite is changed; where a server keeps the registry, addresses are
those that its machines agreed on.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from pipelines.paths import Paths

__all__ = ["settle"]

log = logging.getLogger(__name__)

_ADDRESSES = (  # of MLflow's tables
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def settle(paths: Paths, named: str) -> bool:
    """Make a registry that names files under `named` name those of the home.

    Nothing is done where they are the same, or the home does not hold the models that are named:
    then only the registry was copied.

    Args:
        named: the address under which the registry's experiment keeps its files.

    Returns:
        Whether addresses were changed.
    """
    own = paths.mlflow_artifacts.resolve().as_uri()
    database = paths.var / "mlflow" / "mlflow.db"
    if named == own or paths.mlflow_server.is_file() or not database.is_file():
        return False
    with closing(sqlite3.connect(database)) as store, store:
        rows = store.execute("select artifact_location from logged_models").fetchall()
        if not any(_held(paths, address.removeprefix(f"{named}/")) for (address,) in rows):
            return False
        for table, column in _ADDRESSES:  # a name between the quotes cannot come from outside
            store.execute(
                f"update {table} set {column} = ? || substr({column}, ?) "  # noqa: S608
                f"where {column} = ? or substr({column}, 1, ?) = ?",
                (own, len(named) + 1, named, len(named) + 1, f"{named}/"),
            )
    log.warning("home %s was copied or moved: its registry named files in %s", paths.home, named)
    return True


def _held(paths: Paths, place: str) -> bool:
    """Say whether a model's folder, by its place among MLflow's files, is in the home."""
    return not Path(place).is_absolute() and (paths.mlflow_artifacts / place).is_dir()
