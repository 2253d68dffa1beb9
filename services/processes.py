"""Start programs that outlive a command, find them again, and stop all they started.

- Each program leads a session of its own, so that one signal reaches all its children and Ctrl-C
  in the terminal reaches none of them.
- A record under var/run names the process by pid *and* start time: a pid alone is soon another's.
- Stopping ends only when nothing of the session is left, whatever its leader says.
"""

import contextlib
import datetime as dt
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from atlas.errors import HomeError
from pipelines.files import read_json, write_json
from pipelines.launch import bound_to
from pipelines.paths import PROJECT, Paths

__all__ = [
    "LOCALHOST",
    "Program",
    "alive",
    "clean_environment",
    "free_port",
    "is_free",
    "log_path",
    "note",
    "record",
    "start",
    "stop",
    "tail",
]

LOCALHOST = "127.0.0.1"
GRACE_S = 10.0  # a scheduler whose tasks were ended waits for them in vain


@dataclass(frozen=True)
class Program:
    """One program to run: its command line, what it adds to the environment, the port it opens."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    port: int | None = None


def start(paths: Paths, program: Program, *, bound: bool) -> int:
    """Start a program in a session of its own and record it; return its pid.

    Args:
        bound: whether the kernel ends the program when the calling process dies.
    """
    log = log_path(paths, program.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_file():  # why it ended the last time may be asked after
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            program.command,
            cwd=PROJECT,
            env=clean_environment(program.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=bound_to(os.getpid(), signal.SIGTERM) if bound else None,
        )
    created = psutil.Process(process.pid).create_time()
    entry = {
        "pid": process.pid,
        "created": created,
        "port": program.port,
        "bound": bound,
        "params": program.environment.get("ATLAS_PARAMS", ""),
    }
    write_json(_record_path(paths, program.name), entry)
    return process.pid


def clean_environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment without settings of Airflow and MLflow, and what is added.

    A variable left over in a shell would silently override the home's configuration.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "MLFLOW_"))}
    return {**kept, **added}


def record(paths: Paths, name: str) -> dict[str, Any] | None:
    """Return what is recorded of a program, or None."""
    path = _record_path(paths, name)
    try:
        found: dict[str, Any] = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    return found


def alive(paths: Paths, name: str) -> dict[str, Any] | None:
    """Return the record of a program that is running, or None."""
    found = record(paths, name)
    return found if found and _leader(found) else None


def stop(paths: Paths, names: Iterable[str]) -> list[str]:
    """Stop programs with everything they started and remove their records; return who was running.

    Raises:
        HomeError: naming a process that will not end.
    """
    chosen = {name: found for name in names if (found := record(paths, name))}
    family = {name: _family(found) for name, found in chosen.items()}
    for sign in (signal.SIGTERM, signal.SIGKILL):
        reached = {found["pid"] for found in chosen.values() if _signal(found, sign)}
        for process in _left(chosen, family):  # of a session of its own, or of a dead leader's
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) not in reached:
                    process.send_signal(sign)
        deadline = time.monotonic() + GRACE_S
        while (left := _left(chosen, family)) and time.monotonic() < deadline:
            time.sleep(0.1)
        if not left:
            break
    if left:
        raise HomeError(f"processes {sorted(p.pid for p in left)} do not end; end them by hand")
    for name in chosen:
        _record_path(paths, name).unlink(missing_ok=True)
    return [name for name, members in family.items() if members]


def is_free(port: int) -> bool:
    """Return whether a port of 127.0.0.1 can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def free_port(preferred: int) -> int:
    """Return `preferred` if it is free, else a port the system gives."""
    if is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        port: int = probe.getsockname()[1]
    return port


def log_path(paths: Paths, name: str) -> Path:
    """Return the file that takes a program's output."""
    return paths.var / "logs" / f"{name}.log"


def note(paths: Paths, text: str) -> None:
    """Add a line with the time to var/logs/services.log, which tells of the programs themselves."""
    file = log_path(paths, "services")
    file.parent.mkdir(parents=True, exist_ok=True)
    moment = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{moment} {text}\n")


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a text file, or a dash."""
    if not path.is_file():
        return "-"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _record_path(paths: Paths, name: str) -> Path:
    return paths.var / "run" / f"{name}.json"


def _leader(found: Mapping[str, Any]) -> psutil.Process | None:
    try:
        process = psutil.Process(found["pid"])
        same = abs(process.create_time() - found["created"]) < 1
        dead = process.status() == psutil.STATUS_ZOMBIE
    except (KeyError, psutil.NoSuchProcess):
        return None
    return process if same and not dead else None


def _family(found: Mapping[str, Any]) -> list[psutil.Process]:
    # The session, and children that made sessions of their own.
    leader = _leader(found)
    if leader is None and not found.get("pid"):
        return []
    members = {p.pid: p for p in psutil.process_iter() if _in_session(p, found)}
    if leader is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            members |= {p.pid: p for p in leader.children(recursive=True)}
    return list(members.values())


def _in_session(process: psutil.Process, found: Mapping[str, Any]) -> bool:
    try:
        return (
            os.getsid(process.pid) == found["pid"]
            and process.create_time() >= found["created"] - 1
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.NoSuchProcess, ProcessLookupError, PermissionError):
        return False


def _signal(found: Mapping[str, Any], sign: signal.Signals) -> bool:
    # Only while the leader lives: its pid names the group, and a dead one's may be another's.
    if _leader(found) is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(found["pid"], sign)
    return True


def _left(
    chosen: Mapping[str, Mapping[str, Any]], family: Mapping[str, list[psutil.Process]]
) -> list[psutil.Process]:
    known = {p.pid: p for name in chosen for p in (*family[name], *_family(chosen[name]))}
    return [p for p in known.values() if _runs(p)]


def _runs(process: psutil.Process) -> bool:
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        if process.ppid() == os.getpid():
            process.wait(0)  # our own child: take its exit status
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass
    return False
