"""Run the long benchmark: do the units that are missing, then score, write, print and log.

Units run as children that die with this process, as many at once as there are cores. Where one
fails the others go on, and the failure is told at the end; a second call takes up what is missing.
"""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atlas.config import ATLASConfig
from atlas.errors import ConfigError, ModelError
from pipelines import baskets, reach
from pipelines.evidence import plan
from pipelines.evidence.drawn import is_kept
from pipelines.files import write_bytes
from pipelines.launch import child_environment, stream
from pipelines.night import Night, alone, prepare

__all__ = ["complete", "cores", "everything", "one"]

log = logging.getLogger(__name__)


def everything(
    night: Night,
    say: Callable[[str, dict[str, Any]], None],
    console: Console,
    *,
    jobs: int | None = None,
    seeds: int | None = None,
) -> None:
    """Do what is missing, write the table and its pages, print it and log it to MLflow.

    Args:
        night: home, configuration and as_of; an archive is ingested and fingerprinted first.
        say: told what each stage did.
        console: shows progress and table.
        jobs: units at once; by default one a core.
        seeds: only the first so many; a later run with more takes these up.

    Raises:
        AtlasError: bad input, or units that failed.
    """
    from pipelines.evidence import pages

    begun = time.monotonic()
    night = replace(night, config=_first(night.config, seeds))
    if not plan.units(night.config):
        raise ConfigError("benchmark.cuts: an archive's benchmark needs at least one date")
    reach.require_models(night.config)
    with alone(night.paths):
        if night.config.source != plan.SIMULATED:
            prepare(night, say)
            baskets.require(night.paths, night.config, night.as_of)
        done = complete(night, console, jobs=jobs)
        pages.publish(night, console, pages.Took(begun, done, jobs or cores()))


def _first(config: ATLASConfig, seeds: int | None) -> ATLASConfig:
    """Keep the first seeds."""
    kept = config.benchmark.model_copy(update={"seeds": config.benchmark.seeds[:seeds]})
    return config.model_copy(update={"benchmark": kept})


def complete(night: Night, console: Console, *, jobs: int | None = None) -> int:
    """Do every unit that is not done; return how many were.

    Raises:
        ModelError: units failed; each is named with its last lines.
    """
    paths, config = night.paths, night.config
    left = [unit for unit in plan.units(config) if not plan.is_done(paths, config, unit)]
    first = [
        unit
        for unit in plan.draws(config)
        if left and not is_kept(paths, unit, plan.key_of(paths, config, unit))
    ]
    params = paths.var / "params" / "evidence.yaml"
    write_bytes(params, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
    common = [sys.executable, "-m", "pipelines", "evidence", "--home", str(paths.home)]
    common += ["--params", str(params), "--as-of", str(night.as_of.date())]
    environment = child_environment(config.training.threads)
    environment["PYTHONPATH"] += f"{os.pathsep}{Path.cwd()}"  # where a model of one's own may lie

    def child(unit: plan.Unit) -> None:
        deque(stream([*common, "--unit", unit.name], environment, f"unit {unit.name}"), 0)

    failed: list[BaseException] = []
    workers = jobs or cores()
    with _Watch(console, len(first) + len(left)) as watch, ThreadPoolExecutor(workers) as pool:
        for batch in _batches(first, left):
            running = {pool.submit(child, unit): unit for unit in batch}
            for future in as_completed(running):
                watch.say(running[future].name)
                if error := future.exception():
                    failed.append(error)
            if failed:
                break
    for error in failed:
        if not isinstance(error, ModelError):
            raise error
    if failed:
        raise ModelError("\n".join(str(error) for error in failed))
    return len(left)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _batches(first: list[plan.Unit], left: list[plan.Unit]) -> list[list[plan.Unit]]:
    """Order units by what they wait for.

    All wait for their windows, ceilings for the posterior too; the clock is read when all is quiet.
    """
    last = [unit for unit in left if unit.model == plan.CEILINGS]
    timed = [unit for unit in left if unit.model == plan.LATENCY]
    learned = [unit for unit in first if unit.model == plan.POSTERIOR]
    windows = [unit for unit in first if unit.model != plan.POSTERIOR]
    fitted = [unit for unit in left if unit not in (*last, *timed)]
    return [windows, [*learned, *fitted], last, timed]


def one(night: Night, name: str) -> None:
    """Do the unit of this name, in this process.

    Raises:
        ConfigError: the configuration has no such unit.
    """
    from pipelines.evidence import work

    known = (*plan.draws(night.config), *plan.units(night.config))
    chosen = [unit for unit in known if unit.name == name]
    if not chosen:
        raise ConfigError(f"unit {name!r}: expected one such as {plan.units(night.config)[0].name}")
    work.do(night.paths, night.config, chosen[0], as_of=night.as_of)


class _Watch:
    """Show how many units are done: a bar on a terminal, a line for each elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._done = console, total, 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task("models", total=total) if self._bar else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, name: str) -> None:
        """Count one more."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, description=name)
        else:
            self._console.print(f"{self._done}/{self._total} {name}", highlight=False)
