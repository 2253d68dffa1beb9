"""The command `ingest`: ranges, dry runs, and progress on a terminal or as plain lines.

A command that finds the home busy waits for it, so that two ingests at once both finish.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from atlas.errors import ConfigError
from pipelines import ingest
from pipelines import night as nights

__all__ = ["ingest_markets"]

WAIT_S = 600.0
Say = Callable[[str, dict[str, Any]], None]


def ingest_markets(
    night: nights.Night,
    markets: list[str],
    console: Console,
    say: Say,
    *,
    start: str | None,
    dry_run: bool,
) -> None:
    """Ingest markets one after the other, or say what that would fetch.

    Raises:
        ConfigError: `start` is no date before the night.
    """
    first = _date(start)
    if dry_run:
        for market in markets:
            _show(_run(night, market, first, dry_run=True), console)
        return
    with nights.alone(night.paths, wait_s=WAIT_S):
        for market in markets:
            with _progress(console) as progress:
                summary = _run(night, market, first, progress=progress)
            say(f"ingest {market}", summary)


def _run(
    night: nights.Night, market: str, start: pd.Timestamp | None, **how: Any
) -> dict[str, Any]:
    return ingest.run(
        night.paths,
        night.config,
        as_of=night.as_of,
        market=market,
        folder=night.folder,
        start=start,
        wait_s=WAIT_S,
        **how,
    )


def _date(text: str | None) -> pd.Timestamp | None:
    try:
        return pd.Timestamp(dt.date.fromisoformat(text), tz="UTC") if text else None
    except ValueError:
        raise ConfigError(f"--from {text!r}: expected a date such as 2026-11-20") from None


def _minute(time: str) -> str:
    return f"{pd.Timestamp(time):%Y-%m-%d %H:%M}"  # UTC; whole even where a terminal is narrow


def _show(summary: dict[str, Any], console: Console) -> None:
    asks = summary["asks"]
    table = Table("symbol", "from", "to", "bars expected", "pieces", box=None, pad_edge=False)
    for ask in asks:
        bars = "as in the source" if ask["bars"] < 0 else str(ask["bars"])
        begin = _minute(ask["from"]) if ask["from"] else "the beginning"
        table.add_row(ask["symbol"], begin, _minute(ask["to"]), bars, str(ask["pieces"]))
    nothing = "" if asks else ": nothing to fetch"
    heading = f"{summary['market']} from {summary['source']}, dry run, nothing is written{nothing}"
    console.print(heading, markup=False, highlight=False, soft_wrap=True)
    if asks:
        console.print(table, highlight=False)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Give what ingest tells its progress to: a bar on a terminal, a line in ten elsewhere."""
    if not console.is_terminal:

        def line(what: str, done: int, pieces: int) -> None:
            if done == pieces or done % max(1, pieces // 10) == 0:
                console.print(f"  {what}: {done} of {pieces}", markup=False, highlight=False)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def move(what: str, done: int, pieces: int) -> None:
            bar.update(task, description=what, completed=done, total=pieces)

        yield move
