"""One night through Airflow: check the input, trigger `atlas_nightly`, show how it goes, report.

Input is checked before anything is started, so that a mistake costs a second and changes nothing.
The night runs in the home's services if they run, else in the fewest programs, started for it.
"""

import contextlib
import datetime as dt
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from atlas.errors import AtlasError, HomeError
from pipelines.night import Night, open_night
from services import airflow, control
from services.progress import Progress, failures
from services.rest import Airflow

__all__ = ["nightly"]

POLL_S = 1.0
PATIENCE_S = 60.0


def nightly(
    console: Console,
    *,
    home: Path | None,
    params: Path,
    source: str | None,
    data: Path | None,
    as_of: str | None,
    port: int,
) -> int:
    """Run one night and print its table; return the exit code.

    Raises:
        AtlasError: the input is wrong, or Airflow cannot be started.
    """
    night = open_night(home, params, source=source, folder=data, as_of=as_of, trains=True)
    began = time.monotonic()
    with control.interruptible(), _airflow(night, params, port, console) as client:
        run_id = f"nightly__{night.as_of.date()}__{_stamp()}"
        client.trigger(airflow.DAG_ID, run_id, {"as_of": str(night.as_of.date())})
        try:
            state = _follow(client, run_id, console)
        except KeyboardInterrupt:
            console.print("interrupted: the night is ended; another run carries on where it was")
            with contextlib.suppress(AtlasError, OSError):
                client.fail_run(airflow.DAG_ID, run_id)
            raise
        if state != "success":
            failures(client, airflow.DAG_ID, run_id, console)
            console.print(f"the night of {night.as_of.date()} failed", style="bold red")
            return 1
    _report(night, console)
    console.print(f"the night of {night.as_of.date()} took {time.monotonic() - began:.0f} s")
    return 0


@contextlib.contextmanager
def _airflow(night: Night, params: Path, port: int, console: Console) -> Iterator[Airflow]:
    found = control.running(night.paths, params)
    if found is not None:
        console.print(f"night {night.as_of.date()} in the running services of {night.paths.home}")
        password = airflow.password(night.paths)
        yield Airflow(found["airflow-api-server"], airflow.USER, password)
        return
    console.print(f"night {night.as_of.date()} of {night.paths.home}: starting Airflow …")
    with control.temporarily(night.paths, params, port) as client:
        yield client


def _follow(client: Airflow, run_id: str, console: Console) -> str:
    lost_since: float | None = None
    with Progress(console) as progress:
        while True:
            try:
                state = client.run_state(airflow.DAG_ID, run_id)
                progress.show(client.tasks(airflow.DAG_ID, run_id))
                lost_since = None
            except (HomeError, OSError) as error:  # an api-server may be busy for a while
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > PATIENCE_S:
                    raise HomeError(f"Airflow no longer answers: {error}") from None
                state = "running"
            if state in ("success", "failed"):
                return state
            time.sleep(POLL_S)


def _report(night: Night, console: Console) -> None:
    from pipelines import report  # after the night: what it needs is slow to import

    report.show(night.paths, console)


def _stamp() -> str:
    # Two runs of one night within a second still have names of their own.
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}_{secrets.token_hex(3)}"
