"""Kill registrations and promotions at random instants: the old or the new champion, whole.

`python -m benchmarks.registry_kills --home HOME [--kills 50] [--work DIR]`. HOME has a finished
night; a copy of its artifacts gets a registry of its own with a first version in office. Each case
registers the night under other parameters and moves the champion to it, as a process that is sent
SIGKILL at an instant drawn from the time that an undisturbed one takes. Afterwards the champion
must be the old version or the new one, its files those that were registered, and MLflow must load
it; then the night is run again and must end with the new one. Cases that are done stand in
DIR/kills.json, so that a broken-off run goes on.
"""

import multiprocessing
import random
import shutil
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Annotated, Any

import mlflow
import pandas as pd
import typer

from atlas.config import ATLASConfig
from benchmarks.kills import keep, run_killed
from pipelines import challenge, register, tracking
from pipelines.files import read_json, write_json
from pipelines.night import read_config
from pipelines.paths import PROJECT, Paths

__all__ = ["one_kill", "prepare"]

SEED = 13
KEPT = ("models", "benchmark", "fingerprints", "quarantine", "truth")


def prepare(source: Paths, work: Path, config: ATLASConfig, as_of: pd.Timestamp) -> Paths:
    """Copy what a registration reads into a home of its own and put a first version in office."""
    paths = Paths(work / "home")
    for name in KEPT:
        if (source.artifacts / name).is_dir():
            shutil.copytree(source.artifacts / name, paths.artifacts / name, dirs_exist_ok=True)
    if source.data_dvc.is_file():
        shutil.copyfile(source.data_dvc, paths.data_dvc)
    if tracking.champion(paths) is None:
        night = register.run(paths, config, as_of=as_of)
        tracking.swap(paths, night["candidate_version"], None)
    return paths


def one_kill(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, after_s: float
) -> dict[str, Any]:
    """Kill one night some seconds after it began; say who is champion and whether it is whole."""
    old = str(tracking.resolve(paths).version)
    _night(paths, config, as_of, after_s)
    held = str(tracking.resolve(paths).version)
    challenge.check(paths, held)
    loads = _loads(paths)
    _night(paths, config, as_of, None)
    new = str(tracking.resolve(paths).version)
    return {
        "after_s": after_s,
        "old": old,
        "held": held,
        "new": new,
        "loads": loads,
        "sound": held in (old, new) and loads and new != old,
    }


def _night(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, after_s: float | None) -> float:
    return run_killed(_context(), _work, (paths, config, as_of), after_s)


def _loads(paths: Paths) -> bool:
    """Say whether MLflow loads the champion, in a process that has loaded none before."""
    child = _context().Process(target=_load, args=(paths,))
    child.start()
    child.join()
    return child.exitcode == 0


def _load(paths: Paths) -> None:
    tracking.open_registry(paths)
    mlflow.pyfunc.load_model(f"models:/{tracking.MODEL}@{tracking.CHAMPION}")


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.register", "pipelines.graph_files", __name__])
    return context


def _work(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, parent: Connection) -> None:
    parent.send("ready")
    night = register.run(paths, config, as_of=as_of)
    champion = str(tracking.resolve(paths).version)
    if champion != night["candidate_version"]:
        tracking.swap(paths, night["candidate_version"], champion)


def _other(config: ATLASConfig, case: int) -> ATLASConfig:
    """Return parameters that make another version of the same weights."""
    promotion = config.promotion.model_copy(update={"resamples": 1_000 + case})
    return config.model_copy(update={"promotion": promotion})


def main(
    home: Annotated[Path, typer.Option(help="of a finished night")] = PROJECT,
    params: Annotated[Path, typer.Option(help="of that night")] = PROJECT / "params.yaml",
    kills: Annotated[int, typer.Option(help="how many in all")] = 50,
    work: Annotated[Path, typer.Option(help="where the home and the record lie")] = (
        PROJECT / "var" / "registry_kills"
    ),
    json_path: Annotated[
        Path | None, typer.Option("--json", help="write the document here")
    ] = None,
) -> None:
    """Kill, look, load, run again; print how many were sound."""
    config = read_config(params)
    as_of = pd.Timestamp(read_json(home / "artifacts" / "night.json")["as_of"], tz="UTC")
    record = work / "kills.json"
    done = read_json(record) if record.is_file() else []
    paths = prepare(Paths(home), work, config, as_of)
    seconds = _night(paths, _other(config, -len(done) - 1), as_of, None)
    for case in range(len(done), kills):
        after_s = random.Random(SEED + case).uniform(0, seconds)
        done.append(one_kill(paths, _other(config, case), as_of, after_s))
        write_json(record, done)
        typer.echo(f"{case + 1} of {kills}: after {after_s:.2f} s: {done[-1]}")
    typer.echo(
        f"{sum(one['sound'] for one in done)} of {len(done)} left the old or the new champion, "
        f"whole and loadable; {sum(one['held'] == one['new'] for one in done)} the new one"
    )
    keep(json_path, "registry_kills", SEED, done, "sound")


if __name__ == "__main__":
    typer.run(main)
