"""Kill ingests at random instants: after a rerun the store has the bytes of an undisturbed one.

`python -m benchmarks.ingest_kills [--kills 100] [--work DIR]`. Each case starts an ingest of two
symbols of three months of minutes as a process of its own, sends SIGKILL at an instant drawn from
the time that an undisturbed one takes once it is at work, runs it again and compares every file of
data/. Cases that are done stand in DIR/kills.json, so that a broken-off run goes on.
"""

import multiprocessing
import random
import shutil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from atlas.config import ATLASConfig
from benchmarks.kills import keep, run_killed
from pipelines import ingest
from pipelines.files import digest, read_json, write_json
from pipelines.paths import PROJECT, Paths

__all__ = ["make_archive", "one_kill", "undisturbed"]

SEED = 11
PARAMS = {
    "source": "files",
    "markets": {"ticks": {"timeframe": "1min", "calendar": "24/7"}},
    "simulated": {"as_of": "2026-11-20", "markets": {}},
}


def make_archive(folder: Path, seed: int = SEED) -> Path:
    """Write two symbols of minutes from December to March."""
    (folder / "ticks").mkdir(parents=True, exist_ok=True)
    times = pd.date_range("2025-12-20", "2026-03-04 23:59", freq="1min", tz="UTC")
    for place, symbol in enumerate(("AAA", "BBB")):
        rng = np.random.default_rng([seed, place])
        close = 100 * np.exp(np.cumsum(rng.normal(0, 3e-4, len(times))))
        opened = np.r_[close[0], close[:-1]]
        frame = pd.DataFrame({"timestamp": times, "open": opened, "high": 1.0, "low": 1.0})
        frame = frame.assign(high=np.maximum(opened, close), low=np.minimum(opened, close))
        frame = frame.assign(close=close, volume=1.0)
        frame.to_parquet(folder / "ticks" / f"{symbol}.parquet", index=False)
    return folder


def undisturbed(home: Path, archive: Path) -> tuple[dict[str, str], float]:
    """Ingest without a kill; return the digest of every file of data/, and seconds at work."""
    seconds = _ingest(home, archive, after_s=None)
    return _contents(home), seconds


def one_kill(home: Path, archive: Path, after_s: float) -> dict[str, Any]:
    """Kill an ingest some seconds after it began to work, run it again; say what is there."""
    shutil.rmtree(home, ignore_errors=True)
    _ingest(home, archive, after_s=after_s)
    killed = _contents(home)
    _ingest(home, archive, after_s=None)
    return {"after_s": after_s, "files_at_kill": len(killed), "contents": _contents(home)}


def _ingest(home: Path, archive: Path, *, after_s: float | None) -> float:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipelines.ingest", "pipelines.sources.files", __name__])
    return run_killed(context, _work, (home, archive), after_s)


def _work(home: Path, archive: Path, parent: Connection) -> None:
    config = ATLASConfig.parse(PARAMS)
    night = pd.Timestamp("2026-03-05", tz="UTC")
    parent.send("ready")
    ingest.run(Paths(home), config, as_of=night, market="ticks", folder=archive)


def _contents(home: Path) -> dict[str, str]:
    data = home / "data"
    return {
        str(path.relative_to(data)): digest(path)
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }


def main(
    kills: Annotated[int, typer.Option(help="how many in all")] = 100,
    work: Annotated[Path, typer.Option(help="where homes and the record lie")] = (
        PROJECT / "var" / "ingest_kills"
    ),
    json_path: Annotated[
        Path | None, typer.Option("--json", help="write the document here")
    ] = None,
) -> None:
    """Kill, rerun and compare; print how many ended in the very same bytes."""
    record = work / "kills.json"
    done = read_json(record) if record.is_file() else []
    archive = make_archive(work / "archive")
    shutil.rmtree(work / "calm", ignore_errors=True)
    wanted, seconds = undisturbed(work / "calm", archive)
    for case in range(len(done), kills):
        after_s = random.Random(SEED + case).uniform(0, seconds)
        found = one_kill(work / "killed", archive, after_s)
        same = found.pop("contents") == wanted
        done.append({**found, "of_files": len(wanted), "same": same})
        write_json(record, done)
        typer.echo(
            f"{case + 1} of {kills}: killed after {after_s:.3f} s: {'same' if same else 'NOT'}"
        )
    partial = sum(0 < one["files_at_kill"] < one["of_files"] for one in done)
    typer.echo(
        f"{sum(one['same'] for one in done)} of {len(done)} byte-identical; "
        f"{partial} were killed with some of the files there"
    )
    keep(json_path, "ingest_kills", SEED, done, "same")


if __name__ == "__main__":
    typer.run(main)
