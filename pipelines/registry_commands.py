"""What one asks of the registry on the command line: who is champion, why, and the way back."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines import night as nights
from pipelines.paths import PROJECT

__all__ = ["add_to"]

Home = Annotated[Path | None, typer.Option("--home", help="Folder of data/, artifacts/, var/.")]
Params = Annotated[Path | None, typer.Option(help="Configuration; default: params.yaml.")]
console = Console(soft_wrap=True, markup=False, highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(champions)
    app.command()(rollback)
    app.command()(explain)
    app.command()(reproduce)
    app.command()(prune)


def champions(home: Home = None, params: Params = None) -> None:
    """Show every change of champion, oldest first."""
    from pipelines import history

    night = nights.open_night(home, params, begins=False, asks=True)
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

    night = nights.open_night(home, params, begins=False, asks=True)
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

    opened = nights.open_night(home, params, begins=False, asks=True)
    for line in pages.page(opened.paths, night):
        console.print(line)


def reproduce(
    version: Annotated[str, typer.Option(help="A version's number, or an alias.")],
    home: Home = None,
    params: Params = None,
    work: Annotated[
        Path | None, typer.Option(help="Where to do it; default: var/reproduce.")
    ] = None,
) -> None:
    """Train a version again from its commit, data and parameters; exit 1 if a byte differs."""
    from pipelines import reproduce as reproductions

    opened = nights.open_night(home, params, begins=False, asks=True)
    folder = (work or PROJECT / "var" / "reproduce").expanduser().resolve()
    findings, differences = reproductions.run(opened.paths, version, work=folder)
    for finding in findings:
        if not finding.is_same:
            console.print(f"differs: {finding.name}: {finding.recorded} was, {finding.found} is")
    same = sum(finding.is_same for finding in findings)
    console.print(f"version {version}: {same} of {len(findings)} digests and metrics are the same")
    for line in differences:
        console.print(f"environment: {line}")
    if same < len(findings):
        if not differences:
            console.print("environment: nothing that is recorded differs; please report this")
        console.print(f"what was trained lies in {folder}")
        raise typer.Exit(1)


def prune(
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest versions stay.")],
    home: Home = None,
    params: Params = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Free old versions and data that no champion, challenger or rollback needs."""
    from pipelines import prune as pruning

    opened = nights.open_night(home, params, begins=False, asks=True)
    with nights.alone(opened.paths):
        found = pruning.plan(opened.paths, keep)
        size = found.freed_bytes
        if not dry_run:
            found = pruning.run(opened.paths, keep)
    for version, reason in found.kept.items():
        console.print(f"kept    version {version}: {reason}")
    done = "would go" if dry_run else "gone"
    console.print(
        f"{done}: versions {', '.join(found.versions) or 'none'}; {len(found.folders)} folders of "
        f"models; {len(found.objects)} objects of data; {size / 1e6:.1f} MB"
    )
    if found.note:
        console.print(found.note)
