"""Snapshot: record data/ in data.dvc and push it, so that a night's bars can be had again.

DVC is called as a program in the home. A home outside the project gets a DVC of its own (without
git) whose remote is its var/dvc-remote, so that its bars never enter the project's. If no file of
data/ has changed in size or time since the last push, there is nothing to do and DVC is not
started.
"""

import configparser
import hashlib
import logging
import os
import subprocess
import sys
from typing import Any

import pandas as pd
import yaml

from atlas.config import ATLASConfig
from atlas.errors import DataError, HomeError
from pipelines.files import read_json, write_bytes, write_json
from pipelines.paths import Paths

__all__ = ["data_version", "remote_of", "run"]

log = logging.getLogger(__name__)

_CONFIG = """\
[core]
    no_scm = True
    analytics = false
    check_update = false
    remote = local
['remote "local"']
    url = ../var/dvc-remote
"""
_IGNORE = "# what a killed write left behind\n.*.tmp\n"
_CALM = {"DVC_NO_ANALYTICS": "1"}


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:  # noqa: ARG001 (one signature for all stages)
    """Record data/ in data.dvc, push it to the default remote, and note the night it is for.

    Returns:
        data_version, pushed (whether the default remote holds it; false without one), skipped.

    Raises:
        DataError: there is no data/ yet.
        HomeError: DVC failed; its message is in the error's.
    """
    if not paths.data.is_dir():
        raise DataError(f"{paths.data} is missing: run ingest first")
    write_json(paths.night, {"as_of": str(as_of.date())})
    _prepare(paths)
    listing = _listing(paths)
    stamp = paths.var / "stamps" / "snapshot.json"
    found = read_json(stamp) if stamp.is_file() else None
    if found and found["listing"] == listing and _holds(paths, found["data_version"]):
        log.info("snapshot: data/ is unchanged, skipped")
        return {"data_version": found["data_version"], "pushed": found["pushed"], "skipped": True}
    _dvc(paths, "add", paths.data.name)
    pushed = remote_of(paths) is not None
    if pushed:
        # this target alone: outputs of dvc.yaml's stages may not be in the cache
        _dvc(paths, "push", paths.data_dvc.name)
    version = data_version(paths)
    write_json(stamp, {"listing": listing, "data_version": version, "pushed": pushed})
    return {"data_version": version, "pushed": pushed, "skipped": False}


def data_version(paths: Paths) -> str:
    """Return the data version: the md5 of data/ that data.dvc records.

    Raises:
        HomeError: data.dvc is missing or records none.
    """
    try:
        recorded = yaml.safe_load(paths.data_dvc.read_text(encoding="utf-8"))
        return str(recorded["outs"][0]["md5"])
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError) as error:
        raise HomeError(
            f"{paths.data_dvc}: expected the md5 of data/ ({error!r}): run snapshot"
        ) from None


def _prepare(paths: Paths) -> None:
    """Give a home that is not under DVC yet one of its own, as `dvc init --no-scm` does.

    Written file by file, so that a kill in the middle leaves nothing that a second run trips over.
    """
    folder = paths.home / ".dvc"
    if not (folder / "config").is_file():
        write_bytes(paths.home / ".dvcignore", _IGNORE.encode())
        write_bytes(folder / ".gitignore", b"/config.local\n/tmp\n/cache\n")
        write_bytes(folder / "config", _CONFIG.encode())


def _listing(paths: Paths) -> str:
    """Return a digest over path, size and time of every file of data/."""
    total = hashlib.sha256()
    for folder, subfolders, names in os.walk(paths.data):
        subfolders.sort()
        for name in sorted(names):
            if not name.endswith(".tmp"):
                status = os.stat(f"{folder}/{name}")  # noqa: PTH116 (many files: os is quick)
                total.update(f"{folder}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _holds(paths: Paths, version: str) -> bool:
    """Return whether data.dvc still records `version`, and a remote that is a folder has it."""
    if not paths.data_dvc.is_file() or data_version(paths) != version:
        return False
    url = remote_of(paths)
    if url is None or "://" in url:
        return True
    path = paths.home / ".dvc" / url / "files" / "md5" / version[:2] / version[2:]
    return path.is_file()


def remote_of(paths: Paths) -> str | None:
    """Return the address of DVC's default remote, as its configuration files have it, or None."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read([paths.home / ".dvc" / "config", paths.home / ".dvc" / "config.local"])
    name = settings.get("core", "remote", fallback=None)
    section = f"'remote \"{name}\"'"
    return settings.get(section, "url", fallback="") if name else None


def _dvc(paths: Paths, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command],  # no -q: it hides errors too
        cwd=paths.home,
        env={**os.environ, **_CALM},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = " ".join(said) or done.stderr.strip()[-1000:]
        raise HomeError(f"dvc {' '.join(command)} failed in {paths.home}: {reason}")
