"""Ideas for direction on real bars, each against the usual mixture, chosen on validation alone.

`python -m benchmarks.ideas --home HOME` trains every row of `idea_table.IDEAS` at one cut, keeps
each training in `benchmarks/results/ideas.json` as it ends, and writes docs/ideas.md. The home is
an archive's, its night fingerprinted; every trial goes to its ledger, so give it a copy.

- An idea is judged by its log-loss less that of its own question's base rate, mean over markets, on
  sessions before the cut that no training has seen (`idea_bench`).
- If the best one is ahead of the usual mixture, it alone is scored on the test span, once, by the
  weights that it has. What is trained later is shown, and no second one is scored there.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from atlas.evaluation import POOLED
from benchmarks.idea_bench import NAME, Bench
from benchmarks.idea_table import BLENDS, ENSEMBLE, IDEAS, REREADINGS, USUAL
from benchmarks.ideas_page import page
from benchmarks.units import Results, resumed, write_page

__all__ = ["chosen", "seeds_of"]

COMMAND = "python -m benchmarks.ideas --home HOME"
_ENOUGH = 60.0  # minutes for what trains nothing
Work = Callable[[], dict[str, Any]]


def seeds_of(name: str, many: int) -> tuple[int, ...]:
    """Return the seeds of an idea or blend when ideas have `many` of them."""
    own = BLENDS[name].seeds if name in BLENDS else None
    return own or tuple(range(1, many + 1))


def chosen(units: Mapping[str, Any]) -> str:
    """Return the idea that is furthest below its base rate on the judged rows, all seeds as one."""
    found = {key: unit for key, unit in units.items() if key.startswith("compared ")}
    best = min(found, key=lambda key: float(found[key]["base"][POOLED]["value"]))
    return best.removeprefix("compared ")


def main(
    home: Annotated[Path, typer.Option(help="of an archive's night; its ledger is written to")],
    seeds: Annotated[int, typer.Option(min=1, max=3, help="of each idea")] = 1,
    judge: Annotated[bool, typer.Option(help="compare and choose among what is trained")] = True,
    settle: Annotated[
        bool, typer.Option(help="score the best on the test, though some wait")
    ] = False,
    minutes: Annotated[float, typer.Option(help="after which no training is begun")] = 120.0,
) -> None:
    """Train what is missing, then choose and write the page."""
    bench = Bench(home)
    done = partial(resumed, NAME, COMMAND, 1, bench.settings())
    trainings = _trainings(bench, seeds)
    units = done(units=trainings, minutes=minutes)["units"]
    if not judge:
        return
    units = done(units=_readings(bench, seeds, units), minutes=_ENOUGH)["units"]
    names = [n for n in (*IDEAS, *REREADINGS, *BLENDS) if _is_there(n, seeds, units)]
    compared: dict[str, Work] = {
        f"compared {n}": partial(bench.compared, n, seeds_of(n, seeds)) for n in names
    }
    units = done(units=compared, minutes=_ENOUGH)["units"]
    best = chosen(units)
    if best != USUAL and (settle or set(trainings) <= set(units)) and "tested" not in units:
        tested = {"tested": partial(bench.tested, best, seeds_of(best, seeds))}
        done(units=tested, minutes=_ENOUGH)
    write_page(NAME, page(Results(NAME).read()))


def _trainings(bench: Bench, many: int) -> dict[str, Work]:
    """Return the rivals, the ideas seed by seed, and the ensemble's other members."""
    units: dict[str, Work] = {"rivals": bench.rivals}
    for seed in range(1, many + 1):
        for idea in IDEAS:
            units[f"train {idea} {seed}"] = partial(bench.train, idea, seed)
    for seed in ENSEMBLE:
        units.setdefault(f"train {USUAL} {seed}", partial(bench.train, USUAL, seed))
    return units


def _readings(bench: Bench, many: int, units: Mapping[str, Any]) -> dict[str, Work]:
    """Return the rereadings and blends of what is trained."""
    found: dict[str, Work] = {}
    for seed in range(1, many + 1):
        if f"train {USUAL} {seed}" in units:
            for name in REREADINGS:
                found[f"reread {name} {seed}"] = partial(bench.reread, name, seed)
    for name, blend in BLENDS.items():
        for seed in seeds_of(name, many):
            own = [(one, seed if of is None else of) for one, of in blend.members if one in IDEAS]
            if all(f"train {one} {of}" in units for one, of in own):
                found[f"blend {name} {seed}"] = partial(bench.blend, name, seed)
    return found


def _is_there(name: str, many: int, units: Mapping[str, Any]) -> bool:
    kinds = ("train", "reread", "blend")
    return all(any(f"{k} {name} {seed}" in units for k in kinds) for seed in seeds_of(name, many))


if __name__ == "__main__":
    typer.run(main)
