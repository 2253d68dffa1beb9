"""The command line of the services: up, down, nightly, doctor, setup.

Bad input ends in one line on stderr and exit code 2, as it does in `python -m pipelines`.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from atlas.errors import AtlasError
from pipelines.paths import PROJECT, Paths
from services import airflow, control, mlflow_server
from services.checks import SetUp
from services.doctor import doctor as examine
from services.nightly import nightly as run_night
from services.processes import LOCALHOST

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Start and stop Airflow, MLflow and the dashboard; run a night; examine a set-up.",
)
# the table is wide: a pipe or a log file, which has no width of its own, gets all of it
console = Console() if sys.stdout.isatty() else Console(width=140)

Home = Annotated[Path | None, typer.Option("--home", help="Folder of data/, artifacts/, var/.")]
Params = Annotated[Path | None, typer.Option(help="Configuration; default: params.yaml.")]
AirflowPort = Annotated[int, typer.Option(min=1, max=65535, help="Port of Airflow.")]
MlflowPort = Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Celery workers over PostgreSQL and Redis; 0: as the home has.")
]
DashboardPort = Annotated[int, typer.Option(min=1, max=65535, help="Port of the dashboard.")]


@app.command()
def setup(home: Home = None) -> None:
    """Make Airflow's and MLflow's homes."""
    paths = _paths(home)
    airflow.prepare(paths)
    mlflow_server.prepare(paths)
    console.print(f"{paths.var}: Airflow and MLflow are set up")


@app.command()
def up(
    home: Home = None,
    params: Params = None,
    airflow_port: AirflowPort = 8080,
    mlflow_port: MlflowPort = 5000,
    dashboard_port: DashboardPort = 8050,
    workers: Workers = 0,
) -> None:
    """Start Airflow, MLflow and the dashboard on 127.0.0.1 and leave them running."""
    paths = _paths(home)
    file = _params(params)
    client = control.up(
        paths,
        file,
        airflow_port=airflow_port,
        mlflow_port=mlflow_port,
        dashboard_port=dashboard_port,
        workers=workers,
    )
    ports = control.running(paths, file) or {}
    rows = {
        "Airflow": client.address,
        "login": f"{airflow.USER} / {airflow.password(paths)}",
        "MLflow": f"http://{LOCALHOST}:{ports.get('mlflow', mlflow_port)}",
        **_mlflow_login(paths),
        "dashboard": f"http://{LOCALHOST}:{ports.get('dashboard', dashboard_port)}",
        "logs": str(paths.var / "logs"),
        "stop": f"make down{_at(paths)}",
    }
    for name, value in rows.items():
        console.print(f"{name:<9} {value}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def down(home: Home = None) -> None:
    """Stop all that `up` started."""
    stopped = control.down(_paths(home))
    console.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def nightly(
    home: Home = None,
    params: Params = None,
    source: Annotated[str | None, typer.Option(help="simulated or files.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of an archive.")] = None,
    as_of: Annotated[str | None, typer.Option(help="The night, such as 2026-11-20.")] = None,
    airflow_port: AirflowPort = 8080,
) -> None:
    """Run one night through Airflow and print its table."""
    code = run_night(
        console,
        home=home,
        params=_params(params),
        source=source,
        data=data,
        as_of=as_of,
        port=airflow_port,
    )
    raise typer.Exit(code)


@app.command()
def doctor(
    home: Home = None,
    params: Params = None,
    airflow_port: AirflowPort = 8080,
    mlflow_port: MlflowPort = 5000,
    dashboard_port: DashboardPort = 8050,
) -> None:
    """Say what is wrong with a set-up."""
    ports = {
        "AIRFLOW_PORT": airflow_port,
        "MLFLOW_PORT": mlflow_port,
        "DASHBOARD_PORT": dashboard_port,
    }
    raise typer.Exit(examine(SetUp(_paths(home), _params(params), ports), console))


def _mlflow_login(paths: Paths) -> dict[str, str]:
    if not paths.mlflow_login.is_file():
        return {}
    return {"its login": " / ".join(paths.mlflow_login.read_text(encoding="utf-8").split())}


def _at(paths: Paths) -> str:
    return "" if paths.home == PROJECT else f' HOME_DIR="{paths.home}"'


def _paths(home: Path | None) -> Paths:
    return Paths((home or PROJECT).expanduser().resolve())


def _params(params: Path | None) -> Path:
    return (params or PROJECT / "params.yaml").expanduser().resolve()


def main() -> int:
    """Run the command line; return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except AtlasError as error:
        for line in str(error).splitlines():
            Console(stderr=True).print(
                f"error: {line}", soft_wrap=True, markup=False, highlight=False
            )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
