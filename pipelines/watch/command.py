"""`python -m pipelines monitor`: watch a home now and print what was found."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from atlas.config import LIVE_SOURCES
from pipelines import night as nights
from pipelines.files import read_json

__all__ = ["add_to", "monitor"]

Home = Annotated[Path | None, typer.Option("--home", help="Folder of data/, artifacts/, var/.")]
Params = Annotated[Path | None, typer.Option(help="Configuration; default: params.yaml.")]
AsOf = Annotated[
    str | None, typer.Option(help="The day; default: of live sources today, else the last night.")
]
console = Console()


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(monitor)


def monitor(home: Home = None, params: Params = None, as_of: AsOf = None) -> None:
    """Watch a home: freshness, drift, gate, experts, live edge; alarms do not fail it."""
    from pipelines import monitor as watch
    from pipelines.watch.table import show

    night = nights.open_night(home, params, as_of=as_of, begins=False)
    day = night.as_of
    if as_of is None and night.config.sources() & LIVE_SOURCES:
        day = pd.Timestamp(dt.datetime.now(dt.UTC)).floor("D")  # the last night may be long ago
    path = watch.path_of(night.paths, watch.run(night.paths, night.config, as_of=day)["as_of"])
    show(read_json(path), console)
    console.print(str(path), soft_wrap=True, markup=False, highlight=False)
