"""What can be lost while a night runs, one function a loss; none tells the services about it.

Each takes a home whose services run on workers, breaks one thing, and returns a regular expression
of which some log must hold a line: a person who looks must find the cause. What has ended is
started again by whoever calls, as a restart policy of containers would do.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import redis

from pipelines.paths import Paths
from services import distributed
from services.processes import LOCALHOST, record

__all__ = ["KINDS", "Kind", "filled"]


class Kind(NamedTuple):
    """One kind of loss."""

    lose: Callable[[Paths], None]
    cause: str  # what some log says of it; empty where nothing may have been on the way
    stages: tuple[str, ...]  # during which it is tried
    away_s: float = 0.0  # before what is lost is started again


ANY = ("ingest", "markets.validate", "markets.fingerprint", "train", "benchmark", "register")
REGISTRY = ("train", "benchmark", "register", "promote")


def worker(paths: Paths) -> None:
    """Lose a machine: the worker that runs a training, or any, with all it started."""
    chosen = _workers_at_work(paths) or [_process(paths, "airflow-worker-1")]
    _kill_session(chosen[0])


def worker_head(paths: Paths) -> None:
    """Kill a worker's first process alone, as the kernel's out-of-memory killer may."""
    chosen = _workers_at_work(paths) or [_process(paths, "airflow-worker-1")]
    chosen[0].kill()


def training(paths: Paths) -> None:
    """Kill a training in its own process; without one, a task."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "train" in words and str(paths.home) in words:
            process.kill()
            return
    worker(paths)


def killed(name: str) -> Callable[[Paths], None]:
    """Return what kills one program of a home with all it started."""

    def kill(paths: Paths) -> None:
        _kill_session(_process(paths, name))

    return kill


def postgres_restarted(paths: Paths) -> None:
    """Shut PostgreSQL down in order: every connection is cut."""
    process = _process(paths, "postgres")
    process.send_signal(signal.SIGINT)
    process.wait(30)


def redis_flushed(paths: Paths) -> None:
    """Drop all that Redis holds, three times in a second, so that something is on the way."""
    found = distributed.backing(paths)
    assert found is not None
    secret = distributed.password(paths, "redis")
    with redis.Redis(LOCALHOST, found.redis_port, password=secret) as store:
        for _ in range(3):
            store.flushall()
            time.sleep(0.3)


def disk_full(paths: Paths) -> None:
    """Fill the home's file system for a while; see `filled`."""
    with filled(paths.home):
        time.sleep(15)


@contextlib.contextmanager
def filled(folder: Path) -> Any:
    """Leave no byte free in a folder that is a small file system of its own."""
    ballast = folder / "ballast"
    size = os.statvfs(folder)
    assert size.f_blocks * size.f_frsize < 8 * 2**30, "only a small file system is ever filled"
    subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64K"], capture_output=True)  # noqa: S607
    try:
        yield
    finally:
        ballast.unlink()


def _workers_at_work(paths: Paths) -> list[psutil.Process]:
    found = []
    for name in distributed.WORKERS:
        if record(paths, name) and (process := _process(paths, name)):
            busy = [p for p in process.children(recursive=True) if "train" in _words(p)]
            found += [process] if busy else []
    return found


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def _process(paths: Paths, name: str) -> psutil.Process:
    found = record(paths, name)
    assert found, f"{name} does not run"
    return psutil.Process(found["pid"])


def _kill_session(leader: psutil.Process) -> None:
    family = [leader, *leader.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


_GONE = r"heartbeat|SIGKILL|was ended by|exit(ed)? .*-9|lost"
_DATABASE = r"OperationalError|server closed the connection|connection to server|shutting down"
KINDS = {
    "worker": Kind(worker, _GONE, ANY),
    "worker_head": Kind(worker_head, _GONE, ANY),
    "training": Kind(training, r"was ended by SIGKILL", ("train",)),
    "scheduler": Kind(killed("airflow-scheduler"), r"[Aa]dopt|orphan|reset|Resetting", ANY),
    "api_server": Kind(killed("airflow-api-server"), r"[Cc]onnection refused|ConnectError", ANY),
    "dag_processor": Kind(killed("airflow-dag-processor"), r"dag.processor|DagProcessor", ANY),
    "postgres_restarted": Kind(postgres_restarted, _DATABASE, ANY, 3),
    "postgres_killed": Kind(killed("postgres"), _DATABASE, ANY, 3),
    "redis_flushed": Kind(redis_flushed, "", ANY),
    "redis_killed": Kind(killed("redis"), r"ConnectionError|Connection refused|[Rr]edis", ANY, 3),
    "mlflow": Kind(killed("mlflow"), r"Max retries|Connection refused|mlflow", REGISTRY, 20),
    "disk_full": Kind(disk_full, r"No space left on device", ANY),
}
