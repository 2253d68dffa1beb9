"""Examine a set-up and show what was found, one line a question."""

from rich.console import Console
from rich.table import Table

from atlas.errors import AtlasError
from services.checks import CHECKS, SetUp

__all__ = ["doctor"]


def doctor(setup: SetUp, console: Console) -> int:
    """Print the outcome of every check; return 0 if all is well, else 1."""
    table = Table(box=None, show_header=False, pad_edge=False)
    failed = 0
    for name, check in CHECKS:
        try:
            mark, text = "[green]✓[/]", check(setup)
        except (AtlasError, OSError) as error:
            mark, text, failed = "[red]✗[/]", str(error), failed + 1
        table.add_row(mark, name, text)
    console.print(table)
    console.print(f"{failed} of {len(CHECKS)} need attention" if failed else "all is well")
    return 1 if failed else 0
