"""Lose things while nights run on two workers: they must end as they end undisturbed.

`python -m benchmarks faults`; `--help` tells its options. One set of services, PostgreSQL and Redis
included, is started; each night empties the home's data, artifacts and registry and runs two of the
tiny markets of tests/params_tiny.yaml, one of charts and one of surfaces. It loses four
things (`benchmarks.fault_kinds`), each at a random moment within a random stage, and each in a
later stage than the one before: so the night got past that without the next one's help. A program
that has ended is started again, as a restart policy would. All four end well if

- the night succeeds, at the latest when it is asked for a second time,
- no task is left queued or running,
- champion, weights, table, bars and every other file of data/ and artifacts/ are byte for byte
  those of the undisturbed night, and there is no file beside them (`benchmarks.fault_rig.outcome`),
- and some log names the cause, in a line written after the loss and before the next one.

Nights that are done stand in faults.json of the folder of work, so that a broken-off run goes on.
As root the home is a small file system of its own, so that it can be filled; else that kind is left
out.
"""

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.fault_kinds import KINDS, STAGES
from benchmarks.fault_rig import (
    ENDED,
    Rig,
    begin,
    eager,
    follow,
    lose_during,
    named,
    outcome,
)
from benchmarks.harness import metadata
from pipelines.files import read_json, write_json
from pipelines.paths import PROJECT
from services import airflow, control, stores

__all__ = ["Loss", "plan"]

SEED = 17
COMMAND = "python -m benchmarks faults"
MARKETS = ("equity_daily", "options_skew")
TOGETHER = 4  # a night
DELAY_S = 2.0  # at most, after the stage has begun


class Loss(NamedTuple):
    """What is lost, when."""

    kind: str
    stage: str
    delay_s: float


def plan(losses: int, names: Sequence[str], seed: int = SEED) -> list[tuple[Loss, ...]]:
    """Draw nights of `TOGETHER` losses: every kind as often as any other, each in a later stage.

    Args:
        losses: in all, a multiple of `TOGETHER`.
        names: the kinds to draw from.
    """
    draw, deck, nights = random.Random(seed), list[str](), list[tuple[Loss, ...]]()
    while len(nights) * TOGETHER < losses:
        if len(deck) < TOGETHER:
            deck += draw.sample(names, len(names))
        chosen, deck = deck[:TOGETHER], deck[TOGETHER:]
        nights.append(_night(chosen, draw))
    return nights


def _night(kinds: Sequence[str], draw: random.Random) -> tuple[Loss, ...]:
    """Draw an order of the kinds and a stage for each, later and later; all are as likely."""
    possible = [
        (order, stages)
        for order in itertools.permutations(kinds)
        for stages in itertools.combinations(STAGES, len(kinds))
        if all(stage in KINDS[kind].stages for kind, stage in zip(order, stages, strict=True))
        and not {"markets.validate", "markets.fingerprint"} <= set(stages)  # they run side by side
    ]
    assert possible, f"{kinds} strike in the same stage"
    delays = [round(draw.uniform(0, DELAY_S), 2) for _ in kinds]
    return tuple(itertools.starmap(Loss, zip(*draw.choice(possible), delays, strict=True)))


def one_night(
    rig: Rig, number: int, losses: tuple[Loss, ...], calm: dict[str, str]
) -> dict[str, Any]:
    """Run one night with its losses; say how it went."""
    rig.empty()
    began, before = time.monotonic(), list[dict[int, int] | None]()
    run_id = f"fault-{number}-{int(time.time())}"
    begin(rig, run_id)
    for loss in losses:
        before.append(lose_during(rig, run_id, KINDS[loss.kind], loss.stage, loss.delay_s))
    state, runs = follow(rig, run_id), 1
    if state == "failed":
        runs, run_id = 2, f"{run_id}-again"
        begin(rig, run_id)
        state = follow(rig, run_id)
    left = [t for t in rig.client.tasks(airflow.DAG_ID, run_id) if t["state"] not in ENDED]
    found = outcome(rig.paths)
    differing = sorted(k for k in calm.keys() | found.keys() if calm.get(k) != found.get(k))
    is_same = state == "success" and None not in before and not left and not differing
    told = [
        named(rig.paths, KINDS[loss.kind].cause, at or {}, after)
        for loss, at, after in zip(losses, before, [*before[1:], None], strict=True)
    ]
    return {
        "night": number,
        "state": state,
        "runs": runs,
        "left": len(left),
        "differing": differing[:5],
        "seconds": round(time.monotonic() - began, 1),
        "losses": [
            {
                **loss._asdict(),
                "cause": cause.replace(str(rig.paths.home), "HOME"),
                "well": is_same and (bool(cause) or not KINDS[loss.kind].is_noticed),
            }
            for loss, cause in zip(losses, told, strict=True)
        ],
    }


def _calm(rig: Rig) -> dict[str, Any]:
    """Run two nights that lose nothing, which must be the same; the second is timed."""
    found = [_undisturbed(rig, number) for number in range(2)]
    (first, _), (second, seconds) = found
    assert first == second, sorted(name for name in second if second[name] != first.get(name))
    assert "champion" in second
    return {"calm": second, "calm_s": seconds}


def _undisturbed(rig: Rig, number: int) -> tuple[dict[str, str], float]:
    rig.empty()
    began, run_id = time.monotonic(), f"calm-{number}-{int(time.time())}"
    begin(rig, run_id)
    state = follow(rig, run_id)
    assert state == "success", state
    return outcome(rig.paths), round(time.monotonic() - began, 1)


@contextlib.contextmanager
def _home(work: Path) -> Iterator[Path]:
    """Give a home, on a file system of two GiB of its own where this process may mount one."""
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    if os.getuid():
        yield home
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", str(home)]
    subprocess.run(mount, check=True)
    try:
        yield home
    finally:
        subprocess.run(["umount", str(home)], check=False)  # noqa: S607


def main(
    losses: Annotated[int, typer.Option(help="how many in all, four a night")] = 60,
    work: Annotated[Path, typer.Option(help="where the home and the record lie")] = (
        PROJECT / "var" / "faults"
    ),
    kind: Annotated[str, typer.Option(help="lose only this, once, and keep no record")] = "",
    stage: Annotated[str, typer.Option(help="with --kind: during this stage")] = "",
    minutes: Annotated[float, typer.Option(help="begin no night after so many")] = 170,
    port: Annotated[int, typer.Option(help="the first of three ports")] = 28080,
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Run the nights that are not done yet and print how many losses ended well."""
    record = work / "faults.json"
    document = read_json(record) if record.is_file() else {"nights": []}
    names = [name for name in KINDS if name != "disk_full" or not os.getuid()]
    end = time.monotonic() + minutes * 60
    with _home(work) as home:
        rig = Rig(home, eager(work, MARKETS), (port, port + 1, port + 2))
        try:
            rig.restore()
            if "calm" not in document:
                document |= _calm(rig)
                write_json(record, document)
                typer.echo(f"undisturbed: {document['calm_s']} s")
            done = {one["night"] for one in document["nights"]}
            chosen = list(enumerate(plan(losses, names)))
            for wanted in kind.split(",") if kind else ():
                only = Loss(wanted, stage or KINDS[wanted].stages[0], 0.5)
                _show(one_night(rig, 0, (only,), document["calm"]))
                chosen = []
            for number, night in chosen:
                if number in done or time.monotonic() > end:
                    continue
                document["nights"].append(one_night(rig, number, night, document["calm"]))
                document["metadata"] = metadata("faults", SEED) | {"command": COMMAND}
                write_json(record, document)
                _show(document["nights"][-1])
        finally:
            control.down(rig.paths)
            shutil.rmtree(stores.cluster(rig.paths), ignore_errors=True)
    ended = [one["well"] for night in document["nights"] for one in night["losses"]]
    typer.echo(f"{sum(ended)} of {len(ended)} ended well")
    if json_path is not None:
        kept = {name: value for name, value in document.items() if name != "calm"}
        write_json(json_path, kept)


def _show(night: dict[str, Any]) -> None:
    typer.echo(" ".join(f"{k}={v}" for k, v in night.items() if k != "losses"))
    for loss in night["losses"]:
        typer.echo("  " + " ".join(f"{key}={value}" for key, value in loss.items()))


if __name__ == "__main__":
    typer.run(main)
