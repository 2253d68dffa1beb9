"""What one asks of the registry on the command line: who is champion, why, and the way back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines import night as nights

__all__ = ["add_to"]

Home = Annotated[Path | None, typer.Option("--home", help="Folder of data/, artifacts/, var/.")]
Params = Annotated[Path | None, typer.Option(help="Configuration; default: params.yaml.")]
console = Console(soft_wrap=True, markup=False, highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(champions)
    app.command()(rollback)
    app.command()(explain)


def champions(home: Home = None, params: Params = None) -> None:
    """Show every change of champion, oldest first."""
    from pipelines import history

    night = nights.open_night(home, params, begins=False)
    told = history.champions(night.paths)
    if not told:
        console.print("No champion yet: `python -m pipelines explain last` says why.")
        return
    console.print(f"{'since (UTC)':<20} {'night':<11} {'version':>7} {'was':>5}  how")
    for entry in told:
        was, held = entry["previous"] or "-", entry["as_of"] or "-"
        console.print(f"{entry['at'][:19]:<20} {held:<11} {entry['version']:>7} {was:>5}  ", end="")
        console.print(f"{entry['how']}: {entry['reason']}")


def rollback(home: Home = None, params: Params = None) -> None:
    """Give the office back to the version that the champion replaced."""
    from pipelines import history

    night = nights.open_night(home, params, begins=False)
    with nights.alone(night.paths):
        told = history.rollback(night.paths)
    console.print(
        f"champion: version {told['champion_version']}; version {told['rolled_back']} lost the "
        "office and will not stand again. The next night judges its candidate anew."
    )


def explain(
    night: Annotated[str, typer.Argument(help="A date such as 2026-11-20, or last.")] = "last",
    home: Home = None,
    params: Params = None,
) -> None:
    """Tell on one page what a night ran, on which data, and why it did or did not promote."""
    from pipelines import explain as pages

    opened = nights.open_night(home, params, begins=False)
    for line in pages.page(opened.paths, night):
        console.print(line)
