"""Show a training: a bar on a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from atlas.progress import Progress

__all__ = ["line", "watch"]

log = logging.getLogger(__name__)

LINES = 20  # a training's lines where there is no terminal


def line(progress: Progress, experts: tuple[str, ...], left_s: float) -> str:
    """Say where a training stands, in one line."""
    place = f"step {progress.step}/{progress.steps} epoch {progress.epoch}"
    return f"{place} {_figures(progress, experts)} {left_s:.0f} s left"


@contextmanager
def watch(
    name: str, experts: tuple[str, ...], *, console: Console | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Yield what `atlas.training.train` calls after each step.

    Args:
        name: of the variant.
        experts: ids of the model's experts, whose load is shown if there are several.
        console: decides whether there is a terminal; by default standard output.
    """
    console = console or Console()
    if not console.is_terminal:
        yield _lines(name, experts)
        return
    columns = (
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task(name, total=None, figures="")

        def show(progress: Progress) -> None:
            figures = _figures(progress, experts)
            bar.update(task, total=progress.steps, completed=progress.step, figures=figures)

        yield show


def _lines(name: str, experts: tuple[str, ...]) -> Callable[[Progress], None]:
    begun: list[tuple[float, int]] = []

    def show(progress: Progress) -> None:
        now = time.monotonic()
        if not begun:
            begun.append((now, progress.step))
        if progress.step % max(1, progress.steps // LINES) and progress.step != progress.steps:
            return
        start, first = begun[0]
        pace = (now - start) / max(1, progress.step - first)
        log.info("%s %s", name, line(progress, experts, pace * (progress.steps - progress.step)))

    return show


def _figures(progress: Progress, experts: tuple[str, ...]) -> str:
    text = f"loss {progress.loss:.4f} accuracy {progress.accuracy:.3f}"
    if len(experts) < 2:
        return text
    parts = zip(experts, progress.load, strict=True)
    return f"{text} load " + " ".join(f"{expert} {share:.2f}" for expert, share in parts)
