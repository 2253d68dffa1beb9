"""Claim a home for a night whose stages are processes of their own.

A night in one process holds the file lock of `pipelines.home`. A night of Airflow is many short
processes, none of which lives through it; so it leaves a claim, a file that names the run and the
scheduler whose tasks they are. A claim counts while that scheduler lives: pid and start time are in
it, so a killed night blocks nobody, and the next task of a restarted scheduler renews it.

Both look at each other: a claim is only made while nobody holds the file lock, and the file lock
is only of use to a night that finds no living claim.
"""

import contextlib
import os
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from atlas.errors import HomeError
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["claim", "claimed_by", "refuse", "release"]

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
            write_json(_token(paths), token)
    except Timeout:
        raise HomeError(
            f"home {paths.home}: a night started by hand is under way; wait until it ends"
        ) from None


def claimed_by(paths: Paths) -> str | None:
    """Return the run that has claimed the home and whose scheduler lives, or None."""
    try:
        found = read_json(_token(paths))
        process = psutil.Process(found["pid"])
        is_living = abs(process.create_time() - found["created"]) < 1
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
    if claimed_by(paths) == holder:
        _token(paths).unlink(missing_ok=True)


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
