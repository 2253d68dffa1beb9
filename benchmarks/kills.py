"""Run work in a child process that may be killed in the middle of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from benchmarks.harness import metadata
from pipelines.files import write_json

__all__ = ["keep", "run_killed"]


def run_killed(
    context: ForkServerContext,
    work: Callable[..., None],
    args: tuple[Any, ...],
    after_s: float | None,
) -> float:
    """Run work in a process forked from one that has imported all; kill it if asked.

    Args:
        context: whose server has what the work needs imported already.
        work: takes `args` and a connection, to which it sends "ready" before it begins.
        args: of the work.
        after_s: when to kill it, seconds after it is ready; None lets it end.

    Returns:
        How long it ran, seconds.
    """
    here, there = context.Pipe()
    child = context.Process(target=work, args=(*args, there))
    child.start()
    assert here.recv() == "ready"
    start = time.perf_counter()
    child.join(after_s)
    if child.is_alive():
        child.kill()
    child.join()
    assert after_s is not None or child.exitcode == 0
    return time.perf_counter() - start


def keep(
    path: Path | None, name: str, seed: int, done: Sequence[Mapping[str, Any]], good: str
) -> None:
    """Write a document of kills, if a path was asked for.

    Args:
        path: of the document, or None.
        name: of the benchmark.
        seed: of the first kill's instant.
        done: what was found after each kill.
        good: names the entry that says whether a kill ended well.
    """
    if path is None:
        return
    counts = {"kills": len(done), "ended_well": sum(bool(one[good]) for one in done)}
    facts = metadata(name, seed) | {"command": f"python -m benchmarks.{name}"}
    write_json(path, {"metadata": facts, **counts, "cases": list(done)})
