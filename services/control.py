"""Bring the services of a home up and down, or up for the length of one block.

A home's services are Airflow's components, MLflow's server and the dashboard. `up` leaves them
running; a night that finds none starts the fewest it needs and stops them whatever happens.
"""

import logging
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from atlas.errors import ConfigError, HomeError
from pipelines.home import hold
from pipelines.paths import Paths
from services import airflow, dashboard_server, distributed, mlflow_server, stores
from services.processes import (
    Program,
    alive,
    free_port,
    is_free,
    log_path,
    note,
    record,
    start,
    stop,
    tail,
)
from services.rest import Airflow

__all__ = ["NAMES", "down", "interruptible", "running", "tell_of_ended", "temporarily", "up"]

log = logging.getLogger(__name__)

NAMES = (
    "airflow-scheduler",  # first to stop: it gives the others work
    *distributed.WORKERS,
    "airflow-triggerer",
    "airflow-dag-processor",
    "airflow-api-server",
    "mlflow",
    "dashboard",
    *stores.NAMES,
)
START_TIMEOUT_S = 180.0
STORES_TIMEOUT_S = 60.0


def up(
    paths: Paths,
    params: Path,
    *,
    airflow_port: int,
    mlflow_port: int,
    dashboard_port: int,
    workers: int = 0,
) -> Airflow:
    """Start what does not run yet of a home's services and wait until a night can be triggered.

    Args:
        workers: how many Celery workers over PostgreSQL and Redis; 0 for what the home has, which
            at first is none: tasks are then forked by the scheduler, over SQLite.

    Raises:
        HomeError: a port is taken, a program ended, or it took too long. What was started by this
            call is stopped again.
    """
    with hold(_lock(paths), f"home {paths.home}: a night or a start of services"):
        wanted = {
            "airflow-api-server": ("AIRFLOW_PORT", airflow_port),
            "mlflow": ("MLFLOW_PORT", mlflow_port),
            "dashboard": ("DASHBOARD_PORT", dashboard_port),
        }
        distributed.settle(paths, workers)
        return _up(paths, params, wanted)


def _up(paths: Paths, params: Path, wanted: Mapping[str, tuple[str, int]]) -> Airflow:
    # workers go on with their tasks though a scheduler has ended; a scheduler's own forks do not
    found = running(paths, params, survivors=distributed.backing(paths) is not None)
    tell_of_ended(paths)
    stop(paths, [name for name in NAMES if found is None or not alive(paths, name)])  # of a crash
    found = found or {}
    for name, (variable, port) in wanted.items():
        if name not in found and not is_free(port):
            raise HomeError(f"port {port} is taken; choose another: make up {variable}=…")
        found.setdefault(name, port)
    _start_stores(paths)
    airflow.prepare(paths)
    airflow.begin_schedule(paths)
    mlflow_server.prepare(paths)
    programs = (
        *airflow.programs(paths, params, found["airflow-api-server"], scheduled=True),
        mlflow_server.program(paths, params, found["mlflow"]),
        dashboard_server.program(paths, params, found["dashboard"]),
    )
    return _start(paths, programs, found["airflow-api-server"], bound=False)


def tell_of_ended(paths: Paths) -> None:
    """Write down which programs had ended by themselves: nothing else tells of a kill."""
    for name in NAMES:
        found = record(paths, name)
        if found and not found["bound"] and not alive(paths, name):
            text = f"{name} (pid {found['pid']}) had ended without `down`; it is started again"
            log.warning("%s; its last lines are in %s.1", text, log_path(paths, name))
            note(paths, text)


def down(paths: Paths) -> list[str]:
    """Stop a home's services; return which ran.

    Raises:
        HomeError: a process does not end, or a port is still taken.
    """
    ports = [found["port"] for name in NAMES if (found := record(paths, name))]
    stopped = stop(paths, [name for name in NAMES if name not in stores.NAMES])
    stopped += stop(paths, stores.NAMES)  # last: the others still write
    taken = [port for port in ports if port and stopped and not is_free(port)]
    if taken:
        raise HomeError(f"the services ended, but ports {taken} are still taken by others")
    return stopped


def running(paths: Paths, params: Path, *, survivors: bool = False) -> dict[str, int] | None:
    """Return the ports of services that can run a night, or None if none run.

    Args:
        survivors: whether to return those of whatever runs, though it can run no night.

    Raises:
        ConfigError: they run with another params.yaml.
    """
    records = {
        name: found
        for name in NAMES
        if (found := alive(paths, name)) and not found["bound"]  # those are another night's
    }
    if not {"airflow-scheduler", "airflow-api-server"} <= records.keys() and not survivors:
        return None
    others = {found["params"] for found in records.values()} - {str(params), ""}  # of the stores
    if others:
        raise ConfigError(
            f"the services of {paths.home} run with {others.pop()}, not with {params}; "
            f"stop them first: make down, with HOME_DIR={paths.home} if that is not the project"
        )
    return {name: found["port"] for name, found in records.items() if found["port"]}


@contextmanager
def temporarily(paths: Paths, params: Path, port: int) -> Iterator[Airflow]:
    """Run the fewest programs a night needs, and stop them whatever happens in the block.

    Raises:
        HomeError: the home's nights run on workers, which `up` starts.
    """
    if distributed.backing(paths):
        raise HomeError(
            f"home {paths.home} runs its nights on workers, which are not up: make up first, with "
            f"HOME_DIR={paths.home}"
        )
    with hold(_lock(paths), f"home {paths.home}: a night or a start of services"):
        stop(paths, NAMES)  # what a crash may have left
        airflow.prepare(paths)
        if left := airflow.close_unfinished_runs(paths):
            log.warning("%d unfinished runs of an interrupted night were closed as failed", left)
        port = free_port(port)
        programs = airflow.programs(paths, params, port, scheduled=False)
        try:
            yield _start(paths, programs, port, bound=True)
        finally:
            with _deaf():
                stop(paths, NAMES)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt the block as Ctrl-C does, so that it can clean up."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    chosen = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in chosen}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    # A second Ctrl-C must not leave half of the programs behind.
    chosen = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in chosen}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lock(paths: Paths) -> Path:
    return paths.var / "services.lock"


def _start_stores(paths: Paths) -> None:
    found = distributed.backing(paths)
    if found is None:
        return
    stores.prepare(paths)
    for program in stores.programs(paths, found):
        if not alive(paths, program.name):
            start(paths, program, bound=False)
    deadline = time.monotonic() + STORES_TIMEOUT_S
    while not stores.ensure(paths, found):
        for name in stores.NAMES:
            if not alive(paths, name) or time.monotonic() > deadline:
                path = log_path(paths, name)
                stop(paths, stores.NAMES)
                raise HomeError(f"{name} does not answer; the end of {path}:\n{tail(path)}")
        time.sleep(0.2)


def _start(paths: Paths, programs: tuple[Program, ...], port: int, *, bound: bool) -> Airflow:
    fresh = [program for program in programs if not alive(paths, program.name)]
    client = Airflow(port, airflow.USER, airflow.password(paths))

    def all_alive() -> None:
        for program in programs:
            if not alive(paths, program.name):
                path = log_path(paths, program.name)
                raise HomeError(f"{program.name} ended; the end of {path}:\n{tail(path)}")

    def ready() -> bool:
        answering = all(not is_free(p.port) for p in programs if p.port)
        return answering and client.is_healthy() and client.has_dag(airflow.DAG_ID)

    try:
        for program in fresh:
            start(paths, program, bound=bound)
        client.wait(ready, START_TIMEOUT_S, all_alive)
        for name, slots in airflow.POOLS.items():
            client.make_pool(name, slots)
    except BaseException as error:
        errors = _import_errors(client)
        with _deaf():
            stop(paths, [program.name for program in fresh])
        if errors and isinstance(error, HomeError):
            raise HomeError(f"{error}\n{errors}") from None
        raise
    return client


def _import_errors(client: Airflow) -> str:
    try:
        return "\n".join(client.import_errors())
    except (HomeError, OSError):
        return ""
