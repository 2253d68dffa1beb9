"""A handful of the kills of benchmarks/ingest_kills.py: a rerun ends in the undisturbed bytes."""

import random
from pathlib import Path

from benchmarks.ingest_kills import make_archive, one_kill, undisturbed


def test_killed_at_random_instants_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """Three instants within the time that an undisturbed ingest takes."""
    archive = make_archive(tmp_path / "archive")
    wanted, seconds = undisturbed(tmp_path / "calm", archive)
    assert len(wanted) == 8
    for case in range(3):
        after_s = random.Random(case).uniform(0.1, 0.9) * seconds
        assert one_kill(tmp_path / "killed", archive, after_s)["contents"] == wanted
