"""Claim a home for a night whose stages are processes of their own.

A night in one process holds the file lock of `pipelines.home`. A night of Airflow is many short
processes, none of which lives through it; so it leaves a claim, a file that names the run and the
scheduler whose tasks they are. A claim counts while that scheduler lives: pid and start time are in
it, so a killed night blocks nobody, and the next task of a restarted scheduler renews it. Where
tasks run on several machines or in containers, one cannot see whether another's process lives:
there a claim counts until the longest task would have renewed it.

Both look at each other: a claim is only made while nobody holds the file lock, and the file lock
is only of use to a night that finds no living claim.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from atlas.errors import HomeError
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["claim", "claimed_by", "refuse", "release"]

LEASE_S = 3.5 * 3600  # of a claim from elsewhere; a training is ended after three hours
PROBE_S = 5.0  # tasks of one night may look at the lock at the same moment


def claim(paths: Paths, holder: str) -> None:
    """Claim the home for `holder`, a run of the scheduler whose session this process is in.

    Raises:
        HomeError: another night has the home; it says which.
    """
    paths.var.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(paths.lock, timeout=PROBE_S):
            other = claimed_by(paths)
            if other not in (None, holder):
                raise HomeError(
                    f"home {paths.home}: the run {other} is under way; wait until it ends"
                )
            scheduler = _head_of_session()
            token = {"holder": holder, "pid": scheduler.pid, "created": scheduler.create_time()}
            token |= {"host": socket.gethostname(), "at": time.time()}
            write_json(_token(paths), token)
    except Timeout:
        raise HomeError(
            f"home {paths.home}: a night started by hand is under way; wait until it ends"
        ) from None


def claimed_by(paths: Paths) -> str | None:
    """Return the run that has claimed the home and whose scheduler lives, or None."""
    try:
        found = read_json(_token(paths))
        is_living = _lives(found)
    except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return str(found["holder"]) if is_living else None


def refuse(paths: Paths) -> None:
    """Refuse a night in one process while a scheduler has the home; ask with the file lock held.

    Raises:
        HomeError: naming the run that has it.
    """
    if holder := claimed_by(paths):
        raise HomeError(
            f"home {paths.home}: the scheduler's run {holder} is under way; wait until it ends"
        )


def release(paths: Paths, holder: str) -> None:
    """Give the home back, if `holder` has it."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        if read_json(_token(paths))["holder"] == holder:  # from whichever machine
            _token(paths).unlink(missing_ok=True)


def _lives(found: Mapping[str, Any]) -> bool:
    if found.get("host", socket.gethostname()) != socket.gethostname():
        return float(time.time() - found["at"]) < LEASE_S
    process = psutil.Process(found["pid"])
    return abs(process.create_time() - float(found["created"])) < 1


def _head_of_session() -> psutil.Process:
    """Return the highest living ancestor in this process's session: the scheduler of a task.

    The session's leader itself may be gone (a shell that was closed) or out of sight (a container
    entered from outside has session 0).
    """
    head = psutil.Process()
    session = os.getsid(0)
    with contextlib.suppress(ProcessLookupError):  # an ancestor may end meanwhile
        for ancestor in head.parents():
            if os.getsid(ancestor.pid) != session:
                break
            head = ancestor
    return head


def _token(paths: Paths) -> Path:
    return paths.var / "night.claim"
