"""Files are whole or absent, whatever happens to the process that writes them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from pipelines.files import digest, read_json, write_bytes, write_json, write_parquet

WRITER = """
import sys
from pathlib import Path
from pipelines.files import write_bytes
path = Path(sys.argv[1])
print("ready", flush=True)
for turn in range(10_000):
    write_bytes(path, bytes([turn % 251]) * 2_000_000)
"""


def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """A process killed while it rewrites a file leaves one version of it, never a mixture."""
    path = tmp_path / "file.bin"
    for delay_s in (0.05, 0.08, 0.13, 0.21):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        assert len(content) == 2_000_000
        assert len(set(content)) == 1


def test_equal_content_is_not_written_again(tmp_path: Path) -> None:
    """Writing what is there already reports no change and keeps the time stamp."""
    path = tmp_path / "a" / "b.json"
    assert write_json(path, {"b": 1, "a": [1, 2]})
    before = path.stat().st_mtime_ns
    assert not write_json(path, {"a": [1, 2], "b": 1})
    assert path.stat().st_mtime_ns == before
    assert read_json(path) == {"a": [1, 2], "b": 1}
    assert list(path.parent.iterdir()) == [path]


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    """Parquet holds no time of writing and no index, so a digest identifies a frame."""
    frame = pd.DataFrame({"x": [1.0, float("nan")], "s": ["a", "b"]})
    write_parquet(tmp_path / "one.parquet", frame)
    write_parquet(tmp_path / "two.parquet", frame.set_axis([7, 9]))
    assert digest(tmp_path / "one.parquet") == digest(tmp_path / "two.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "one.parquet"), frame)


def test_bytes_replace_an_older_file(tmp_path: Path) -> None:
    """A second content of the same length still replaces the first."""
    write_bytes(tmp_path / "f", b"old")
    assert write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
