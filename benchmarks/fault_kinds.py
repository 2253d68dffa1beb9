"""What can be lost while a night runs, one function a loss; none tells the services about it.

Each takes a home whose services run on workers and breaks one thing. Beside it stands a regular
expression of which some log must hold a line written after the loss: a person who looks must find
the cause. It is a line that no undisturbed night writes. What has ended is started again by whoever
calls, as a restart policy of containers would do.
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

__all__ = ["KINDS", "STAGES", "Kind", "filled"]


class Kind(NamedTuple):
    """One kind of loss."""

    lose: Callable[[Paths], None]
    cause: str  # what some log says of it
    stages: tuple[str, ...]  # during which it is tried
    away_s: float = 0.0  # before what is lost is started again
    is_noticed: bool = True  # False where nothing may have been on the way that could be lost


STAGES = (  # in the order of a night; the two of a market run side by side over markets
    *("ingest", "snapshot", "markets.validate", "markets.fingerprint", "train", "benchmark"),
    *("register", "promote"),
)
TRAINING_S = 60.0  # until a training has begun
REGISTRY = ("register", "promote")


def worker(paths: Paths) -> None:
    """Lose a machine: a worker that has a task, or any, with all it started."""
    _kill_family(_worker_at_work(paths))


def worker_head(paths: Paths) -> None:
    """Kill a worker's first process alone, as the kernel's out-of-memory killer may."""
    _worker_at_work(paths).kill()


def training(paths: Paths) -> None:
    """Kill a training in its own process, as soon as there is one."""
    deadline = time.monotonic() + TRAINING_S
    while not (found := [p for p in psutil.process_iter() if _trains(p, paths)]):
        assert time.monotonic() < deadline, "no training began"
        time.sleep(0.05)
    found[0].kill()


def killed(name: str) -> Callable[[Paths], None]:
    """Return what kills one program of a home with all it started."""

    def kill(paths: Paths) -> None:
        _kill_family(_process(paths, name))

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


def _worker_at_work(paths: Paths) -> psutil.Process:
    """Return a worker that has a task, the first if none has."""
    found = [_process(paths, name) for name in distributed.WORKERS if record(paths, name)]
    busy = [p for p in found if any(map(_is_task, p.children(recursive=True)))]
    return (busy or found)[0]


def _is_task(process: psutil.Process) -> bool:
    return "airflow supervisor" in " ".join(_words(process))


def _trains(process: psutil.Process, paths: Paths) -> bool:
    words = _words(process)
    return "pipelines" in words and "train" in words and str(paths.home) in words


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return list(process.cmdline())
    return []


def _process(paths: Paths, name: str) -> psutil.Process:
    found = record(paths, name)
    assert found, f"{name} does not run"
    return psutil.Process(found["pid"])


def _kill_family(leader: psutil.Process) -> None:
    family = [leader, *leader.children(recursive=True)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


_DATABASE = r"OperationalError|server closed the connection|received fast shutdown request"


def _ended(name: str) -> str:
    return rf"{name} \(pid \d+\) had ended"  # in services.log, by whoever starts it again


KINDS = {
    "worker": Kind(worker, r"without a heartbeat|" + _ended(r"airflow-worker-\d"), STAGES),
    "worker_head": Kind(
        worker_head, r"without a heartbeat|" + _ended(r"airflow-worker-\d"), STAGES
    ),
    "training": Kind(training, r"was ended by SIGKILL", ("train",)),
    "scheduler": Kind(killed("airflow-scheduler"), _ended("airflow-scheduler"), STAGES),
    "api_server": Kind(killed("airflow-api-server"), _ended("airflow-api-server"), STAGES),
    "dag_processor": Kind(killed("airflow-dag-processor"), _ended("airflow-dag-processor"), STAGES),
    "postgres_restarted": Kind(postgres_restarted, _DATABASE, STAGES, 3),
    "postgres_killed": Kind(killed("postgres"), _ended("postgres"), STAGES, 3),
    "redis_flushed": Kind(redis_flushed, r"stuck in queued", STAGES, is_noticed=False),
    "redis_killed": Kind(killed("redis"), _ended("redis"), STAGES, 3),
    "mlflow": Kind(killed("mlflow"), _ended("mlflow"), REGISTRY, 20),
    "disk_full": Kind(disk_full, r"No space left on device", STAGES),
}
