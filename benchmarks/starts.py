"""Do kernels need their templates? The same mixture, its kernels begun as noise of equal norm.

`python -m benchmarks.starts --home HOME` trains both on a night's simulated markets at the small
budget of `benchmarks.balance`, keeps each training in `benchmarks/results/starts.json` as it ends,
and writes docs/learned.md anew, which shows them. On real bars it is an idea among others:
`benchmarks.ideas`, `random_kernels`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from atlas.training import train
from benchmarks import learned
from benchmarks.balance import BUDGET, TESTED, configuration, load, score
from benchmarks.idea_networks import random_kernels, usual
from benchmarks.units import Results, resumed, write_page

__all__ = ["STARTS"]

COMMAND = "python -m benchmarks.starts --home HOME"
STARTS = {"templates": usual, "noise": random_kernels}


def main(
    home: Annotated[Path, typer.Option(help="of a simulated night")],
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    minutes: Annotated[float, typer.Option(help="after which no unit is begun")] = 60.0,
) -> None:
    """Train what is missing, then write the page."""
    held: list[Any] = []

    def work(start: str, seed: int) -> dict[str, Any]:
        if not held:
            held.append(load(home.resolve()))
        config = configuration()
        torch.manual_seed(seed)
        model = STARTS[start](config)
        train(model, held[0], config.training, seed=seed)
        found = score(model, held[0])
        return {"lift": found.lift, "gain": found.gain}

    units: dict[str, Callable[[], dict[str, Any]]] = {
        f"train {start} {seed}": partial(work, start, seed)
        for seed in range(1, seeds + 1)
        for start in STARTS
    }
    resumed("starts", COMMAND, 1, {**BUDGET, "tested": TESTED}, units, minutes)
    write_page("learned", learned.page(Results(learned.NAME).read()))


if __name__ == "__main__":
    typer.run(main)
