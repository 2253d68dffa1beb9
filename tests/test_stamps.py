"""A finished stage is skipped while nothing it depends on has changed."""

from pathlib import Path
from typing import Any

from pipelines.files import write_bytes
from pipelines.paths import Paths
from pipelines.stamps import once


def _stage(paths: Paths, runs: list[int], key: dict[str, Any]) -> dict[str, Any]:
    output = paths.artifacts / "out.txt"

    def work() -> dict[str, Any]:
        runs.append(1)
        write_bytes(output, b"made")
        return {"rows": 3}

    return once(paths, "stage", key, lambda: [output], work)


def test_stage_runs_once_for_one_key(tmp_path: Path) -> None:
    """The second call reads the first one's summary and says that it was skipped."""
    paths, runs = Paths(tmp_path), []
    assert _stage(paths, runs, {"as_of": 1}) == {"rows": 3, "skipped": False}
    assert _stage(paths, runs, {"as_of": 1}) == {"rows": 3, "skipped": True}
    assert len(runs) == 1


def test_another_key_runs_the_stage_again(tmp_path: Path) -> None:
    """New data, parameters or night make the stamp void."""
    paths, runs = Paths(tmp_path), []
    _stage(paths, runs, {"as_of": 1})
    _stage(paths, runs, {"as_of": 2})
    assert len(runs) == 2


def test_lost_or_edited_output_is_made_again(tmp_path: Path) -> None:
    """A stamp never vouches for a file that is gone or differs."""
    paths, runs = Paths(tmp_path), []
    _stage(paths, runs, {"as_of": 1})
    (paths.artifacts / "out.txt").unlink()
    _stage(paths, runs, {"as_of": 1})
    (paths.artifacts / "out.txt").write_bytes(b"edited")
    _stage(paths, runs, {"as_of": 1})
    assert len(runs) == 3
    assert (paths.artifacts / "out.txt").read_bytes() == b"made"
