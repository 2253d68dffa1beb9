"""What can be wrong with a set-up, one function a question.

Each function looks and changes nothing; it answers with what it found, or raises an AtlasError that
says what was found and what to do about it.
"""

import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from atlas.errors import HomeError
from pipelines.claim import claimed_by
from pipelines.home import binding
from pipelines.night import read_config
from pipelines.paths import PROJECT, Paths
from services import airflow
from services.control import NAMES
from services.processes import alive, is_free, record

__all__ = ["CHECKS", "SetUp"]

DISK_GIB = 5.0
MEMORY_GIB = 3.5
GIB = 2**30


@dataclass(frozen=True)
class SetUp:
    """What is examined: a home, its configuration, and the ports its services would take."""

    paths: Paths
    params: Path
    ports: Mapping[str, int]


def python(_: SetUp) -> str:
    """Is this the Python that the lock is for?"""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] != (3, 11):
        raise HomeError(f"{found}; needed is 3.11: remove .venv, then make setup")
    return found


def packages(_: SetUp) -> str:
    """Are the packages those of requirements.lock?"""
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    wanted = dict(line.split("==") for line in lines if "==" in line and line[0] != "#")
    bad = []
    for name, needed in wanted.items():
        try:
            found = version(name).split("+")[0]  # torch's CPU build says 2.13.0+cpu
        except PackageNotFoundError:
            found = "missing"
        if found != needed:
            bad.append(f"{name} {found}, not {needed}")
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise HomeError(f"{', '.join(bad[:3])}{more}: rm .venv/lock.sha256, then make setup")
    return f"{len(wanted)} as locked"


def programs(_: SetUp) -> str:
    """Are the programs there that the stages call?"""
    missing = [name for name in ("git", "make") if shutil.which(name) is None]
    if missing:
        raise HomeError(f"{', '.join(missing)} not found: install with the system's packages")
    return "git, make"


def params(setup: SetUp) -> str:
    """Is the configuration readable and right?"""
    bound = binding(setup.paths)
    config = read_config(setup.params, source=bound.source if bound else None)
    return f"{setup.params.name}: {len(config.markets)} markets, source {config.source}"


def source(setup: SetUp) -> str:
    """Is the home bound to a source that is there?"""
    bound = binding(setup.paths)
    if bound is None:
        return "not bound yet; the first night does that"
    if bound.folder is not None and not bound.folder.is_dir():
        raise HomeError(f"the archive {bound.folder} is gone: bring it back, or take another home")
    return f"{bound.source}{f' {bound.folder}' if bound.folder else ''}"


def ports(setup: SetUp) -> str:
    """Are the ports free, or taken by this home's own services?"""
    own = {found["port"] for name in NAMES if (found := alive(setup.paths, name))}
    taken = [
        f"{port} ({name}=… chooses another)"
        for name, port in setup.ports.items()
        if port not in own and not is_free(port)
    ]
    if taken:
        raise HomeError(f"taken by another program: {', '.join(taken)}")
    return ", ".join(f"{port} {'ours' if port in own else 'free'}" for port in setup.ports.values())


def disk(setup: SetUp) -> str:
    """Is there room for a night's artifacts?"""
    free = shutil.disk_usage(_existing(setup.paths.home)).free / GIB
    if free < DISK_GIB:
        raise HomeError(f"{free:.1f} GiB free; a night wants {DISK_GIB:.0f}: make room")
    return f"{free:.0f} GiB free"


def memory(_: SetUp) -> str:
    """Is there memory for a night?"""
    free = psutil.virtual_memory().available / GIB
    if free < MEMORY_GIB:
        raise HomeError(f"{free:.1f} GiB available; a night wants {MEMORY_GIB}: end something")
    return f"{free:.1f} GiB available"


def secrets(setup: SetUp) -> str:
    """Can only the owner read the secrets?"""
    folder, var = airflow.home(setup.paths), setup.paths.var
    held = [*(folder / name for name in airflow.SECRET_FILES), setup.paths.mlflow_login]
    held += [var / "redis" / "redis.conf", *(var / "secrets").glob("*")]
    found = [path for path in held if path.is_file()]
    loose = [path for path in found if stat.S_IMODE(path.stat().st_mode) != 0o600]
    if loose:
        raise HomeError(f"{', '.join(map(str, loose))}: others can read it: chmod 600")
    return f"{len(found)} files, owner only" if found else "none yet; the first start makes them"


def services(setup: SetUp) -> str:
    """Do the services run that are recorded as running?"""
    recorded = [name for name in NAMES if record(setup.paths, name)]
    dead = [name for name in recorded if not alive(setup.paths, name)]
    if dead:
        raise HomeError(f"{', '.join(dead)} ended unasked, see var/logs: make down, then make up")
    return f"{len(recorded)} running" if recorded else "none running"


def locks(setup: SetUp) -> str:
    """Does a night hold the home?"""
    if run := claimed_by(setup.paths):
        return f"a night is under way: {run}"
    if not setup.paths.lock.is_file():
        return "free"
    try:
        with FileLock(setup.paths.lock, blocking=False):
            return "free"
    except Timeout:
        return "a night is under way, started by hand"


def store(setup: SetUp) -> str:
    """Do the bytes in data/ agree with data.dvc?"""
    if not setup.paths.data_dvc.is_file():
        return "no data.dvc yet"
    if not setup.paths.data.is_dir():
        raise HomeError("data.dvc is there, data/ is not: make data")
    command = [sys.executable, "-m", "dvc", "status", "-q", "data.dvc"]
    done = subprocess.run(command, cwd=setup.paths.home, capture_output=True, check=False)
    if done.returncode != 0:
        raise HomeError("data/ differs from data.dvc: python -m pipelines snapshot records it")
    return f"data/ is {_data_version(setup.paths)}"


def _sound_database(paths: Paths) -> None:
    file = paths.tracking_uri.removeprefix("sqlite:///")
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise HomeError(f"{file}: {error}; put a copy in its place, or move it away") from None


def registry(setup: SetUp) -> str:
    """Can the champion's data still be had?"""
    far = setup.paths.mlflow_server.is_file()
    if far and not alive(setup.paths, "mlflow"):
        return "behind MLflow's server, which is not up"
    if not far and not (setup.paths.var / "mlflow" / "mlflow.db").is_file():
        return "no registry yet"
    if not far:
        _sound_database(setup.paths)
    from pipelines import tracking  # loads MLflow, which takes a while

    champion = tracking.champion(setup.paths)
    if champion is None:
        return "no champion yet"
    wanted = champion.tags.get("data_version", "none")
    if wanted == _data_version(setup.paths):
        return f"champion {champion.version} was trained on this data"
    remote = setup.paths.var / "dvc-remote" / "files" / "md5" / wanted[:2] / wanted[2:]
    if not remote.is_file():
        raise HomeError(
            f"champion {champion.version} was trained on data {wanted}, which is neither in data/ "
            "nor in DVC's remote: it cannot be reproduced; dvc pull from where it was made"
        )
    return f"champion {champion.version} was trained on earlier data, which the remote has"


CHECKS: tuple[tuple[str, Callable[[SetUp], str]], ...] = (
    ("Python", python),
    ("packages", packages),
    ("programs", programs),
    ("configuration", params),
    ("source", source),
    ("ports", ports),
    ("disk", disk),
    ("memory", memory),
    ("secrets", secrets),
    ("services", services),
    ("night lock", locks),
    ("store and DVC", store),
    ("registry", registry),
)


def _data_version(paths: Paths) -> str:
    text = paths.data_dvc.read_text(encoding="utf-8") if paths.data_dvc.is_file() else ""
    found = re.search(r"md5: (\w+(?:\.dir)?)", text)
    return found[1] if found else "none"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)
