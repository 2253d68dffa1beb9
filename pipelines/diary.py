"""The diary of nights: what each stage did, when, and why it failed, line by line as it happens.

- A line is appended to var/nights.jsonl when a night begins, when a part of a stage (a market, a
  variant) begins, and when it is done, kept (nothing new to do) or has failed. No line is ever
  changed, and lines of parts that run at once may mix.
- A killed process writes no end. So a part that began, has no end and whose process is gone was
  killed; one that began once more was tried again. Nobody has to be there to write that down.
- Stamps say what need not be done again; they know neither when nor why. A copied home keeps its
  diary, whatever becomes of the times of its files.
"""

import datetime as dt
import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psutil

from pipelines import claim
from pipelines.paths import Paths

__all__ = ["Line", "begin_night", "is_living", "read", "told"]

log = logging.getLogger(__name__)

NIGHT = "night"  # the stage that a line of a night's own begin names
LETTERS = 400  # of a reason
_TEXTS = ("as_of", "stage", "part", "event", "reason", "run", "host")
_BYTES = 400_000  # at the end of the file, which hold some fifty nights


class Line(NamedTuple):
    """One line: `event` is begun, done, kept or failed; `run` names a scheduler's run."""

    at: dt.datetime
    as_of: str
    stage: str
    part: str
    event: str
    reason: str
    run: str
    host: str
    pid: int
    created: float


def begin_night(paths: Paths, as_of: str, run: str = "") -> None:
    """Write down that a night begins: by hand in this process, or as a scheduler's `run`."""
    _write(paths, as_of, NIGHT, "", "begun", run=run)


class told:  # noqa: N801, used as a function is
    """Tell of one part of a stage: its begin, and how it ends. Set `kept` if it had nothing to do.

    Args:
        paths: the home.
        as_of: the night's date.
        stage: its name.
        part: the market or variant, empty for a stage that is one piece.
    """

    def __init__(self, paths: Paths, as_of: str, stage: str, part: str = "") -> None:
        self._about = (paths, as_of, stage, part)
        self.kept = False

    def __enter__(self) -> Self:
        _write(*self._about, "begun")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            _write(*self._about, "kept" if self.kept else "done")
        else:
            _write(*self._about, "failed", reason=str(error) or type(error).__name__)


def read(paths: Paths) -> list[Line]:
    """Return the diary's newest lines, oldest first; what is cut or no line of it is passed over.

    Raises:
        OSError: it is there and cannot be read.
    """
    path = _path(paths)
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _BYTES))
        texts = file.read().decode("utf-8", "replace").splitlines()
    return [line for text in texts if (line := _parsed(text)) is not None]


def is_living(paths: Paths, line: Line) -> bool:
    """Return whether what began with a line may still be under way.

    A scheduler's night is while its run holds the home; else the process has to live. That of
    another machine cannot be looked at: it counts as living for as long as a claim would.
    """
    if line.run:
        return claim.claimed_by(paths) == line.run
    if line.host != socket.gethostname():
        return time.time() - line.at.timestamp() < claim.LEASE_S
    try:
        return abs(psutil.Process(line.pid).create_time() - line.created) < 1
    except psutil.Error:
        return False


def _write(
    paths: Paths,
    as_of: str,
    stage: str,
    part: str,
    event: str,
    *,
    reason: str = "",
    run: str = "",
) -> None:
    line = {"at": time.time(), "as_of": as_of, "stage": stage, "part": part, "event": event}
    line |= {"reason": reason[:LETTERS], "run": run, "host": socket.gethostname()}
    line |= {"pid": os.getpid(), "created": psutil.Process().create_time()}
    path = _path(paths)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")  # in one piece: lines of other processes stay whole
    except OSError as error:  # no reason to stop a night
        log.warning("%s cannot be written: %s", path, error)


def _parsed(text: str) -> Line | None:
    try:
        found: dict[str, Any] = json.loads(text)
        at = dt.datetime.fromtimestamp(float(found["at"]), dt.UTC)
        texts = {name: str(found[name]) for name in _TEXTS}
        return Line(at=at, **texts, pid=int(found["pid"]), created=float(found["created"]))
    except (ArithmeticError, KeyError, OSError, TypeError, ValueError):
        return None


def _path(paths: Paths) -> Path:
    return paths.var / "nights.jsonl"
