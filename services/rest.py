"""Airflow's REST interface, as much of it as a night needs. Nothing but the standard library."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from atlas.errors import HomeError
from services.processes import LOCALHOST

__all__ = ["Airflow"]

TIMEOUT_S = 30.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Airflow:
    """A logged-in client of one api-server on this machine."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.address = f"http://{LOCALHOST}:{port}"
        self._login = {"username": user, "password": password}
        self._token: str | None = None

    def is_healthy(self) -> bool:
        """Return whether database, scheduler and dag-processor report themselves well."""
        try:
            parts = self._call("GET", "/api/v2/monitor/health", login=False)
        except (HomeError, OSError):
            return False
        needed = ("metadatabase", "scheduler", "dag_processor")
        return all(parts[part]["status"] == "healthy" for part in needed)

    def has_dag(self, dag_id: str) -> bool:
        """Return whether a DAG has been parsed and takes runs."""
        try:
            found = self._call("GET", f"/api/v2/dags/{dag_id}")
        except (HomeError, OSError):
            return False
        return not found["is_paused"]

    def import_errors(self) -> list[str]:
        """Return why DAG files could not be imported."""
        found = self._call("GET", "/api/v2/importErrors")
        return [str(error["stack_trace"]) for error in found["import_errors"]]

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run of a DAG that has no logical date of its own."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def make_pool(self, name: str, slots: int) -> None:
        """Make a pool, or leave one that somebody has made as it is."""
        try:
            self._call("GET", f"/api/v2/pools/{quote(name)}")
        except HomeError:
            self._call("POST", "/api/v2/pools", {"name": name, "slots": slots})

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return queued, running, success or failed."""
        return str(self._call("GET", _run(dag_id, run_id))["state"])

    def fail_run(self, dag_id: str, run_id: str) -> None:
        """End a run as failed; its running tasks are ended too."""
        self._call("PATCH", _run(dag_id, run_id), {"state": "failed"})

    def runs(self, dag_id: str, kind: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG: those that are `manual`, `scheduled` or `backfill`."""
        query = urlencode({"run_type": kind, "limit": 100})
        return list(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{query}")["dag_runs"])

    def pause(self, dag_id: str, *, is_paused: bool) -> None:
        """Let no run of a DAG begin, or let them begin again; a run under way goes on."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": is_paused})

    def pauses(self, dag_id: str) -> list[tuple[str, bool]]:
        """Return when a DAG was paused (True) and let go on (False), oldest first."""
        query = urlencode({"dag_id": dag_id, "event": "patch_dag", "order_by": "when"})
        found = self._call("GET", f"/api/v2/eventLogs?{query}")["event_logs"]
        return [(one["when"], bool(json.loads(one["extra"])["is_paused"])) for one in found]

    def backfills(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the backfills of a DAG; one that goes on has no `completed_at`."""
        query = urlencode({"dag_id": dag_id})
        return list(self._call("GET", f"/api/v2/backfills?{query}")["backfills"])

    def cancel_backfill(self, number: int) -> None:
        """Begin no further run of a backfill; one under way goes on."""
        self._call("PUT", f"/api/v2/backfills/{number}/cancel")

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        answer = self._call("GET", f"{_run(dag_id, run_id)}/taskInstances?limit=100")
        return list(answer["task_instances"])

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what an unmapped task returned, or None."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/return_value"
        try:
            return self._call("GET", f"{path}?deserialize=false")["value"]
        except HomeError:
            return None

    def log(self, dag_id: str, run_id: str, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the log of a task's last attempt, one entry a line."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task['task_id'])}"
        query = urlencode({"map_index": task["map_index"], "full_content": "true"})
        try:
            content = self._call("GET", f"{path}/logs/{max(1, task['try_number'])}?{query}")
        except (HomeError, OSError):
            return []
        lines = [line if isinstance(line, dict) else {"event": line} for line in content["content"]]
        return [{**line, "event": _ANSI.sub("", str(line.get("event", "")))} for line in lines]

    def wait(self, ready: Callable[[], bool], timeout_s: float, alive: Callable[[], None]) -> None:
        """Ask until `ready`; `alive` raises if waiting has become pointless.

        Raises:
            HomeError: after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            alive()
            if time.monotonic() > deadline:
                raise HomeError(f"Airflow at {self.address} is not ready after {timeout_s:.0f} s")
            time.sleep(0.3)

    def _call(self, method: str, path: str, body: Any = None, *, login: bool = True) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if login:
            self._token = self._token or self._log_in()
            headers["Authorization"] = f"Bearer {self._token}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - always http, on this machine
            self.address + path, content, headers, method=method
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:500]
            if error.code == 401 and login:
                self._token = None
            raise HomeError(f"Airflow answered {error.code} to {method} {path}: {text}") from None

    def _log_in(self) -> str:
        return str(self._call("POST", "/auth/token", self._login, login=False)["access_token"])


def _run(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
