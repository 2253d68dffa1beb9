"""Free what no kept version needs: old versions, their files, and data that only they stood on.

- Kept are the newest N versions, and whatever their number the champion, the challenger, every
  version that rollbacks can reach, and the ones from whose weights a warm start of these began.
- Of data, each object of DVC's cache and of a remote that is a folder stays if a kept version, the
  home as it is, or a commit of the home's git names it: by data.dvc, dvc.lock, or the listing of a
  folder. Plain `dvc gc` knows commits alone and would take the data of versions. A listing that
  cannot be read ends the pruning of data before it begins; dvc.lock also names what stages read
  (code, a market's folder within data/), of which DVC keeps no listing: only what they wrote must
  have one.
- A version goes from the registry first, then its files, then data: a kill in between leaves files
  that the next prune takes.
- Runs stay with their figures, tables and cards: what was decided can still be read.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mlflow.entities.model_registry import ModelVersion

from atlas.errors import ConfigError, ModelError
from pipelines import history, snapshot, tracking
from pipelines.paths import Paths

__all__ = ["Plan", "plan", "run"]

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
_NAMED = re.compile(r"md5: ([0-9a-f]{32}(?:\.dir)?)")


class Plan(NamedTuple):
    """What is kept and why, and what goes.

    Attributes:
        kept: the reason by version.
        versions: that go, by number, oldest first.
        folders: of model files that go; those of killed nights are among them.
        objects: of DVC that go.
        note: what could not be looked at, or nothing.
    """

    kept: dict[str, str]
    versions: list[str]
    folders: list[Path]
    objects: list[Path]
    note: str

    @property
    def freed_bytes(self) -> int:
        """The size of all that goes."""
        files = [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in (*files, *self.objects))


def plan(paths: Paths, keep: int) -> Plan:
    """Decide what goes, and touch nothing.

    Raises:
        ConfigError: `keep` is below 1.
        ModelError: a listing of a kept version's data cannot be read.
    """
    if keep < 1:
        raise ConfigError(f"--keep {keep}: expected at least 1, the newest version")
    client = tracking.open_registry(paths)
    found = client.search_model_versions(f"name = '{tracking.MODEL}'")
    versions = {str(v.version): v for v in sorted(found, key=lambda v: int(v.version))}
    kept = _reasons(paths, list(versions), keep)
    kept |= _parents(versions, kept)
    staying = [version for number, version in versions.items() if number in kept]
    needed = {tracking.files_of(paths, version).resolve() for version in staying}
    models = paths.mlflow_artifacts / "models"
    folders = [folder for folder in sorted(models.glob("*")) if folder.is_dir()]
    stores = list(_stores(paths))
    named = _named(paths, staying, stores)
    objects = [
        path
        for store in stores
        for path in sorted(store.glob("??/*"))
        if _OBJECT.fullmatch(name := path.parent.name + path.name) and name not in named
    ]
    url = snapshot.remote_of(paths)
    note = f"the remote {url} is no folder and was left alone" if url and "://" in url else ""
    return Plan(
        kept,
        [number for number in versions if number not in kept],
        [folder for folder in folders if not _holds(folder.resolve(), needed)],
        objects,
        note,
    )


def run(paths: Paths, keep: int) -> Plan:
    """Free what `plan` says; the caller holds the home.

    Raises:
        ConfigError, ModelError: as `plan`.
    """
    found = plan(paths, keep)
    client = tracking.open_registry(paths)
    for version in found.versions:
        client.delete_model_version(tracking.MODEL, version)
    for folder in found.folders:
        shutil.rmtree(folder)
    for path in found.objects:
        path.unlink(missing_ok=True)
    return found


def _reasons(paths: Paths, versions: list[str], keep: int) -> dict[str, str]:
    kept = dict.fromkeys(versions[-keep:], f"among the newest {keep}")
    for place in history.rollback_targets(paths):
        kept[place] = "a rollback can reach it"
    for name in (tracking.PREVIOUS, tracking.CHALLENGER, tracking.CHAMPION):
        if (held := tracking.alias(paths, name)) is not None:
            kept[str(held.version)] = name
    return {version: kept[version] for version in versions if version in kept}


def _parents(versions: dict[str, ModelVersion], kept: dict[str, str]) -> dict[str, str]:
    """Return the versions without which a kept one could not be trained again."""
    parents = {str(versions[one].tags.get("parent_version", "none")): one for one in kept}
    return {
        parent: f"version {one} began from its weights"
        for parent, one in parents.items()
        if parent in versions and parent not in kept
    }


def _holds(folder: Path, needed: set[Path]) -> bool:
    return any(path == folder or folder in path.parents for path in needed)


def _stores(paths: Paths) -> Iterator[Path]:
    """Yield the folders of objects: the home's cache, and its remote if that is a folder."""
    yield paths.home / ".dvc" / "cache" / "files" / "md5"
    url = snapshot.remote_of(paths)
    if url and "://" not in url:
        yield (paths.home / ".dvc" / url).resolve() / "files" / "md5"


def _named(paths: Paths, staying: list[ModelVersion], stores: list[Path]) -> set[str]:
    """Return the objects that must stay, as md5 with `.dir` for listings."""
    lock = _text(paths.home / "dvc.lock")
    texts = [str(version.tags.get("data_dvc", "")) for version in staying]
    texts.append(_text(paths.data_dvc))
    must = {name for text in texts for name in _NAMED.findall(text)} | _written(lock)
    may = {name for text in (lock, *_committed(paths)) for name in _NAMED.findall(text)}
    named = must | may
    for name in [name for name in named if name.endswith(".dir")]:
        listing = _listing(name, stores)
        if listing is None and name in must:
            raise ModelError(
                f"prune: the listing {name} of data that is kept is in neither cache nor remote: "
                "nothing was freed; get it back with `dvc fetch`, or push it from where it is"
            )
        named |= {str(entry["md5"]) for entry in listing or []}
    return named


def _written(lock: str) -> set[str]:
    """Return what the stages of a dvc.lock wrote."""
    stages = (yaml.safe_load(lock) or {}).get("stages") or {}
    return {str(out["md5"]) for stage in stages.values() for out in stage.get("outs", ())}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _committed(paths: Paths) -> Iterator[str]:
    """Yield data.dvc and dvc.lock of every commit of the home's own git."""
    if not (paths.home / ".git").exists():
        return
    for name in ("data.dvc", "dvc.lock"):
        commits = _git(paths, "log", "--all", "--format=%H", "--", name).split()
        yield from (_git(paths, "show", f"{commit}:{name}") for commit in commits)


def _git(paths: Paths, *arguments: str) -> str:
    command = ["git", "-C", str(paths.home), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _listing(name: str, stores: list[Path]) -> list[dict[str, Any]] | None:
    for store in stores:
        path = store / name[:2] / name[2:]
        if path.is_file():
            found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return None
