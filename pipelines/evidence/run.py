"""Do all units, as many at once as there are cores; what is done already is not done again.

Each unit is a child that dies with this process. Where one fails the others go on, and the failure
is told at the end; a second call takes up what is missing.
"""

import logging
import os
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

import pandas as pd
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from pipelines.evidence import plan
from pipelines.files import write_bytes
from pipelines.launch import child_environment, stream
from pipelines.paths import Paths

__all__ = ["complete"]

log = logging.getLogger(__name__)


def complete(
    paths: Paths,
    config: ATLASConfig,
    *,
    as_of: pd.Timestamp,
    jobs: int | None = None,
    console: Console | None = None,
) -> int:
    """Do every unit that is not done; return how many were.

    Args:
        jobs: units at once; by default one a core.
        console: shows a bar on a terminal, plain lines elsewhere.

    Raises:
        ModelError: units failed; each is named with its last lines.
    """
    left = [unit for unit in plan.units(config) if not plan.is_done(paths, config, unit)]
    params = paths.var / "params" / "evidence.yaml"
    write_bytes(params, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=True).encode())
    common = [sys.executable, "-m", "pipelines", "evidence", "--home", str(paths.home)]
    common += ["--params", str(params), "--as-of", str(as_of.date())]
    environment = child_environment(config.training.threads)

    def one(unit: plan.Unit) -> None:
        deque(stream([*common, "--unit", unit.name], environment, f"unit {unit.name}"), 0)

    failed = []
    workers = jobs or len(os.sched_getaffinity(0))
    with _Watch(console or Console(), len(left)) as say, ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(one, unit): unit for unit in left}
        for future in as_completed(running):
            say(running[future].name)
            if error := future.exception():
                failed.append(error)
    unexpected = [error for error in failed if not isinstance(error, ModelError)]
    if unexpected:
        raise unexpected[0]
    if failed:
        raise ModelError("\n".join(str(error) for error in failed))
    return len(left)


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

    def __enter__(self) -> Callable[[str], None]:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("models", total=self._total)
        return self._say

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, name: str) -> None:
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, advance=1, description=name)
        else:
            self._console.print(f"{self._done}/{self._total} {name}", highlight=False)
