"""What the registry says: versions, aliases, tags, runs; read from MLflow's own tables.

MLflow is not imported: its client takes seconds and hundreds of megabytes, and makes the tables
where there are none. A read-only look at four tables does neither.
"""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from dashboard.reading import json_of, rows_of, stored
from pipelines.paths import Paths

__all__ = ["MODEL", "Registry", "Version", "decision_of", "read_registry"]

MODEL = "atlas-moe"  # as pipelines.tracking registers it; importing that would load MLflow
DECISION = "promotion.json"


class Version(NamedTuple):
    """One registered version, newest facts first."""

    number: int
    created_ms: int
    run_id: str
    experiment_id: str
    artifacts: str
    tags: dict[str, str]
    aliases: tuple[str, ...]


class Registry(NamedTuple):
    """All versions, newest first."""

    versions: tuple[Version, ...]

    def holder(self, alias: str) -> Version | None:
        """Return the version that an alias names."""
        return next((found for found in self.versions if alias in found.aliases), None)


def read_registry(paths: Paths) -> Registry:
    """Read all versions of the model.

    Raises:
        HomeError: there is no registry, or it cannot be read.
    """
    database = paths.var / "mlflow" / "mlflow.db"
    if paths.mlflow_server.is_file():  # whose changes no file's time tells
        return _read(database)
    return stored([database, Path(f"{database}-wal")], "registry", lambda: _read(database))


def decision_of(version: Version) -> dict[str, Any]:
    """Return what was decided of a version, as its run keeps it; empty if nothing was.

    Raises:
        DataError: the file is no JSON object.
    """
    found = urlsplit(version.artifacts)
    if found.scheme not in ("", "file") or not found.path:
        return {}
    return json_of(Path(unquote(found.path)) / DECISION)


def _read(database: Path) -> Registry:
    tags: dict[int, dict[str, str]] = {}
    for row in rows_of(
        database, "select version, key, value from model_version_tags where name = ?", [MODEL]
    ):
        tags.setdefault(int(row["version"]), {})[row["key"]] = str(row["value"])
    aliases: dict[int, list[str]] = {}
    for row in rows_of(
        database, "select alias, version from registered_model_aliases where name = ?", [MODEL]
    ):
        aliases.setdefault(int(row["version"]), []).append(row["alias"])
    versions = [
        Version(
            int(row["version"]),
            int(row["creation_time"] or 0),
            str(row["run_id"] or ""),
            str(row["experiment_id"] or ""),
            str(row["artifact_uri"] or ""),
            tags.get(int(row["version"]), {}),
            tuple(sorted(aliases.get(int(row["version"]), []))),
        )
        for row in rows_of(
            database,
            "select v.version, v.creation_time, v.run_id, r.experiment_id, r.artifact_uri"
            " from model_versions v left join runs r on r.run_uuid = v.run_id"
            " where v.name = ? order by v.version desc",
            [MODEL],
        )
    ]
    return Registry(tuple(versions))
