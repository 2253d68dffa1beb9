"""Ingests that are killed, or run at once: the store ends in the undisturbed bytes.

A handful of the kills of benchmarks/ingest_kills.py, and three real processes beside each other.
"""

import multiprocessing
import random
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pandas as pd

from atlas.config import ATLASConfig
from benchmarks.ingest_kills import PARAMS, make_archive, one_kill, undisturbed
from pipelines import ingest
from pipelines.files import digest
from pipelines.paths import Paths


def test_killed_at_random_instants_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """Three instants within the time that an undisturbed ingest takes."""
    archive = make_archive(tmp_path / "archive")
    wanted, seconds = undisturbed(tmp_path / "calm", archive)
    assert len(wanted) == 8
    for case in range(3):
        after_s = random.Random(case).uniform(0.1, 0.9) * seconds
        assert one_kill(tmp_path / "killed", archive, after_s)["contents"] == wanted


def test_ingests_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three processes begin together, over other ranges; two wait, and each adds what it has.

    The bytes are those of one ingest of it all, whichever came first.
    """
    archive = make_archive(tmp_path / "archive")
    wanted, _ = undisturbed(tmp_path / "calm", archive)
    context = multiprocessing.get_context("forkserver")
    start, home = context.Barrier(3), tmp_path / "home"
    children = [
        context.Process(target=_ingest, args=(home, archive, night, since, start))
        for night, since in (
            ("2026-02-10", None),
            ("2026-03-05", "2026-01-15"),
            ("2026-03-05", None),
        )
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(180)
    assert [child.exitcode for child in children] == [0, 0, 0]
    found = Paths(home).data
    files = sorted(path for path in found.rglob("*") if path.is_file())
    assert {str(path.relative_to(found)): digest(path) for path in files} == wanted


def _ingest(home: Path, archive: Path, night: str, since: str | None, start: Barrier) -> None:
    start.wait(120)
    ingest.run(
        Paths(home),
        ATLASConfig.parse(PARAMS),
        as_of=pd.Timestamp(night, tz="UTC"),
        market="ticks",
        folder=archive,
        start=pd.Timestamp(since, tz="UTC") if since else None,
        wait_s=120.0,
    )
