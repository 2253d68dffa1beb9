"""Show how a run goes: a live table on a terminal, one line per event elsewhere."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.rest import Airflow

__all__ = ["Progress", "failures"]

ENDED = ("success", "failed", "skipped", "upstream_failed", "removed")
_STYLE = {"success": "green", "failed": "red", "upstream_failed": "red", "running": "cyan"}
_LOG_LINES = 20
Task = Mapping[str, Any]


class Progress:
    """A run's tasks as they change; a context manager, because a terminal must be left tidy."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[tuple[str, int], str] = {}
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, tasks: Sequence[Task]) -> None:
        """Show the run's present state."""
        if self._live:
            self._live.update(_table(tasks))
            return
        for task in sorted(tasks, key=lambda task: task["start_date"] or "~"):
            key, state = (task["task_id"], task["map_index"]), task["state"]
            if self._seen.get(key) != state and state in (*ENDED, "running", "up_for_retry"):
                self._seen[key] = state
                self._console.print(_line(task), soft_wrap=True, markup=False, highlight=False)


def failures(client: Airflow, dag_id: str, run_id: str, console: Console) -> None:
    """Print the failed tasks of a run, the end of each one's log, and the reason."""
    for task in client.tasks(dag_id, run_id):
        if task["state"] != "failed":
            continue
        console.print(f"\n{_name(task)} failed", style="bold red", markup=False)
        entries = client.log(dag_id, run_id, task)
        for entry in entries[-_LOG_LINES:]:
            if not entry["event"].startswith("::"):
                line = f"  {entry['event']}"[:500]
                console.print(line, soft_wrap=True, markup=False, highlight=False)
        for reason in _reasons(entries):
            console.print(f"reason: {reason}", style="red", soft_wrap=True, markup=False)


def _reasons(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [
        f"{detail['exc_type']}: {detail['exc_value']}"
        for entry in entries
        for detail in entry.get("error_detail") or ()
    ]
    return found[-1:]


def _table(tasks: Sequence[Task]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "state", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    for task_id in dict.fromkeys(task["task_id"] for task in sorted(tasks, key=_began)):
        rows = [task for task in tasks if task["task_id"] == task_id]
        states = Counter(task["state"] or "waiting" for task in rows)
        shown = "  ".join(
            f"[{_STYLE.get(state, 'dim')}]{state}{f' {n}' if len(rows) > 1 else ''}[/]"
            for state, n in sorted(states.items())
        )
        table.add_row(task_id, shown, f"{sum(map(_seconds, rows)):.0f}")
    return table


def _line(task: Task) -> str:
    now = dt.datetime.now(dt.UTC).strftime("%H:%M:%S")
    seconds = f" {_seconds(task):.1f} s" if task["state"] in ENDED and task["start_date"] else ""
    attempt = f" (attempt {task['try_number']})" if task["try_number"] > 1 else ""
    return f"{now} {_name(task):<40} {task['state']}{seconds}{attempt}"


def _name(task: Task) -> str:
    label = task.get("rendered_map_index")
    if label is None and task["map_index"] >= 0:
        label = task["map_index"]
    return task["task_id"] if label is None else f"{task['task_id']} [{label}]"


def _began(task: Task) -> str:
    return task["start_date"] or "~"


def _seconds(task: Task) -> float:
    if not task["start_date"]:
        return 0.0
    end = dt.datetime.now(dt.UTC) if not task["end_date"] else _time(task["end_date"])
    return (end - _time(task["start_date"])).total_seconds()


def _time(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)
