"""The one place that opens MLflow: its database, its experiment, the runs of nights, the aliases.

- A home has one registry: SQLite under var/mlflow, files beside it, one experiment, one registered
  model. The experiment is created once with an absolute file location, because runs created on
  SQLite and through a server otherwise resolve their files differently.
- A run is what one night found for one key, a digest over everything the result depends on. Its
  tags name data, code and parameters, and never the machine or the user.
- A version is registered in one transaction with its tags, as the last step of a run. So a run
  without a version is a night that was killed: it is marked so, and the next one starts afresh.
- Nothing is sent anywhere: MLflow's usage reports are turned off before it is imported.
"""

import hashlib
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

os.environ.update(  # read by MLflow while it is being imported
    GIT_PYTHON_REFRESH="quiet",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # five idle processes less
)

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from atlas.errors import ModelError
from pipelines import moved, office
from pipelines.paths import PROJECT, Paths

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "DECISION",
    "EXPERIMENT",
    "MANIFEST",
    "MODEL",
    "PREVIOUS",
    "REPRODUCTION",
    "STOOD_DOWN",
    "Revision",
    "alias",
    "champion",
    "data_version",
    "digest_of",
    "files_of",
    "log_benchmark",
    "night_run",
    "open_benchmark",
    "open_registry",
    "register_version",
    "resolve",
    "revision",
    "roll_back",
    "stand",
    "stand_down",
    "swap",
    "told",
    "version_of",
]

EXPERIMENT = "atlas-nightly"
MODEL = "atlas-moe"
CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
DECISION = "promotion.json"  # the artifact of a run that says what was decided of its version
REPRODUCTION = "reproduction"  # a version's tag: the digest of its reproduction.json
MANIFEST = "manifest"  # a version's tag: the digest of its manifest.json
STOOD_DOWN = "stood_down"  # a version's tag: why it never stands against a champion again
_QUIET = ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "mlflow.models", "mlflow.pyfunc")
_DATA_FILES = (":!data.dvc", ":!dvc.lock")  # a night writes them and never commits


class Revision(NamedTuple):
    """The git commit of the running code, and whether a file differs from it."""

    commit: str
    dirty: bool


def open_registry(paths: Paths) -> MlflowClient:
    """Open the home's MLflow database, making it at first use, and return a client of it."""
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = paths.var / "mlflow"
    paths.mlflow_artifacts.mkdir(parents=True, exist_ok=True)
    _log_in(paths)
    mlflow.set_tracking_uri(paths.tracking_uri)
    mlflow.set_registry_uri(paths.tracking_uri)
    with FileLock(folder / "open.lock"):  # two processes must not both make the tables
        client = MlflowClient()
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            moved.settle(paths, found.artifact_location)
        else:
            location = paths.mlflow_artifacts.resolve().as_uri()
            client.create_experiment(EXPERIMENT, artifact_location=location)
        if not client.search_registered_models(f"name = '{MODEL}'"):
            client.create_registered_model(MODEL, description="ATLAS: experts over market charts")
    return client


def champion(paths: Paths) -> ModelVersion | None:
    """Return the version that holds the alias `champion`, or None if there is none yet."""
    return _holder(open_registry(paths), CHAMPION)


def alias(paths: Paths, name: str) -> ModelVersion | None:
    """Return the version that holds an alias, or None."""
    return _holder(open_registry(paths), name)


def resolve(paths: Paths, which: str = CHAMPION) -> ModelVersion:
    """Return the version that an alias or a number names.

    Raises:
        ModelError: if there is no such version, saying what to do.
    """
    client = open_registry(paths)
    if which.isdigit():
        try:
            return client.get_model_version(MODEL, which)
        except MlflowException:
            raise ModelError(f"{MODEL} has no version {which} in this home") from None
    version = _holder(client, which)
    if version is None and which == CHAMPION:
        raise ModelError(
            f"no champion yet: no version of {MODEL} in this home has been promoted; run a night "
            "(`make nightly`), whose report says why a candidate is or is not promoted"
        )
    if version is None:
        raise ModelError(
            f"{which}: expected a version's number or an alias ({CHAMPION}, {CHALLENGER}, "
            f"{PREVIOUS}); no version of {MODEL} holds this one now"
        )
    return version


def version_of(client: MlflowClient, key: str) -> ModelVersion | None:
    """Return the newest version registered under a key, or None."""
    found = client.search_model_versions(f"name = '{MODEL}' and tag.`key` = '{key}'")
    return max(found, key=lambda version: int(version.version), default=None)


def files_of(paths: Paths, version: ModelVersion) -> Path:
    """Return the folder that a version's files lie in; files on this machine are not copied."""
    address = open_registry(paths).get_model_version_download_uri(MODEL, str(version.version))
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=address))


def told(client: MlflowClient, version: ModelVersion | None) -> dict[str, Any] | None:
    """Return the decision that a version's run keeps, or None if none was told yet."""
    run_id = version.run_id if version else None
    if not run_id or DECISION not in {item.path for item in client.list_artifacts(run_id)}:
        return None
    found: dict[str, Any] = mlflow.artifacts.load_dict(
        f"{client.get_run(run_id).info.artifact_uri}/{DECISION}"
    )
    return found


@contextmanager
def night_run(client: MlflowClient, name: str, key: str, tags: Mapping[str, str]) -> Iterator[Run]:
    """Open the run of one night and key; it ends FINISHED, or FAILED if the block raises.

    Runs of the same key that are there already led to no version: whoever opens this one has
    looked. They are what a killed night left, and are marked KILLED.
    """
    experiment = mlflow.set_experiment(EXPERIMENT).experiment_id
    for left in client.search_runs([experiment], f"tags.key = '{key}'"):
        if left.info.status in ("RUNNING", "FINISHED"):
            client.set_terminated(left.info.run_id, "KILLED")
    run = client.create_run(experiment, tags={**tags, "key": key}, run_name=name)
    status = "FAILED"
    try:
        # not as the context manager of MLflow's run, which would tag the user and the script
        mlflow.start_run(run_id=run.info.run_id)
        yield run
        status = "FINISHED"
    finally:
        mlflow.end_run(status)


def open_benchmark(paths: Paths) -> str:
    """Begin the run of a long benchmark and return its id, which the results then name."""
    client = open_registry(paths)
    experiment = mlflow.set_experiment(EXPERIMENT).experiment_id
    run = client.create_run(experiment, tags={"kind": "benchmark"}, run_name="benchmark")
    return str(run.info.run_id)


def log_benchmark(
    paths: Paths, run: str, facts: Mapping[str, Any], metrics: Mapping[str, float], folder: Path
) -> None:
    """Log a long benchmark's table and metrics to its run, and end the run."""
    open_registry(paths)
    mlflow.set_experiment(EXPERIMENT)
    tags = {name: str(value) for name, value in facts.items() if not isinstance(value, dict)}
    status = "FAILED"
    try:
        mlflow.start_run(run_id=run)
        mlflow.set_tags(tags)
        mlflow.log_metrics(dict(metrics))
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            mlflow.log_artifact(str(path), "benchmark")
        status = "FINISHED"
    finally:
        mlflow.end_run(status)


def register_version(
    client: MlflowClient, run: Run, model: Any, tags: Mapping[str, str], description: str
) -> ModelVersion:
    """Register a logged model with its tags in one transaction, and return its version."""
    return client.create_model_version(
        MODEL,
        source=f"models:/{model.model_id}",
        run_id=run.info.run_id,
        model_id=model.model_id,
        tags=dict(tags),
        description=description,
    )


def swap(paths: Paths, version: str, expected: str | None) -> bool:
    """Make `version` the champion if the champion still is `expected`; return whether it was done.

    `previous` is set first and `champion` last, which is the single commit point: a kill between
    the two leaves the old champion in office.
    """
    client = open_registry(paths)
    with office.alone(paths):
        holder = _holder(client, CHAMPION)
        if (str(holder.version) if holder else None) != expected:
            return False
        if holder is not None:
            client.set_registered_model_alias(MODEL, PREVIOUS, str(holder.version))
        client.set_registered_model_alias(MODEL, CHAMPION, version)
    return True


def roll_back(paths: Paths, expected: str, to: str, previous: str | None) -> bool:
    """Give the office from `expected` to `to`; return False if it is not `expected` that has it.

    `previous` becomes the version that may be rolled back to next, or nobody. The champion is
    moved first here: a kill in between leaves the right champion, and `previous` as it was.
    """
    client = open_registry(paths)
    with office.alone(paths):
        holder = _holder(client, CHAMPION)
        if holder is None or str(holder.version) != expected:
            return False
        client.set_model_version_tag(MODEL, expected, STOOD_DOWN, f"rolled back to version {to}")
        client.set_registered_model_alias(MODEL, CHAMPION, to)
        if previous is None:
            client.delete_registered_model_alias(MODEL, PREVIOUS)
        else:
            client.set_registered_model_alias(MODEL, PREVIOUS, previous)
    return True


def stand(paths: Paths, version: str) -> None:
    """Make a version the challenger."""
    open_registry(paths).set_registered_model_alias(MODEL, CHALLENGER, version)


def stand_down(paths: Paths, version: str, reason: str | None = None) -> None:
    """Free the alias `challenger`; with a reason, the version never stands again."""
    client = open_registry(paths)
    if reason is not None:
        client.set_model_version_tag(MODEL, version, STOOD_DOWN, reason)
    client.delete_registered_model_alias(MODEL, CHALLENGER)


def revision(folder: Path = PROJECT) -> Revision:
    """Return the commit of a folder's checkout; ("unknown", False) outside git.

    data.dvc and dvc.lock do not count as changes: a night writes them and commits nothing.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return Revision("unknown", dirty=False)
    changed = _git(folder, "status", "--porcelain", "--", ".", *_DATA_FILES)
    return Revision(commit, dirty=bool(changed))


def data_version(paths: Paths) -> str:
    """Return the md5 that data.dvc records, or `none` while there is no data.dvc."""
    if not paths.data_dvc.is_file():
        return "none"
    found = re.search(r"md5: (\w+(\.dir)?)", paths.data_dvc.read_text(encoding="utf-8"))
    if found is None:
        raise ModelError(f"{paths.data_dvc}: no md5 in it; run `python -m pipelines snapshot`")
    return found[1]


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _log_in(paths: Paths) -> None:
    """Let MLflow's client in this process know the server's login; SQLite needs none."""
    if paths.mlflow_login.is_file():
        user, password = paths.mlflow_login.read_text(encoding="utf-8").split()
        os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)


def _holder(client: MlflowClient, alias: str) -> ModelVersion | None:
    aliases = client.get_registered_model(MODEL).aliases
    return client.get_model_version(MODEL, str(aliases[alias])) if alias in aliases else None


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
