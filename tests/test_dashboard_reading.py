"""What the dashboard keeps of files it read: no more than a limit, and nothing that has changed."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dashboard import reading
from dashboard.reading import stored


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of other tests is kept."""
    monkeypatch.setattr(reading, "_results", reading.OrderedDict())


def test_what_is_kept_has_a_limit_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many symbols are looked at, the least recently asked for make room."""
    monkeypatch.setattr(reading, "KEPT_BYTES", 10_000)
    made = []

    def work(name: int) -> np.ndarray:
        made.append(name)
        return np.zeros(500)  # 4,000 bytes

    for name in (1, 2, 1, 3, 1, 2):
        stored([tmp_path / "file"], name, lambda name=name: work(name))
    assert made == [1, 2, 3, 2]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A result is of a file's bytes: what a night replaces is not shown any more."""
    path = tmp_path / "file"
    path.write_text("old")
    assert stored([path], "text", path.read_text) == "old"
    path.write_text("new")
    os.utime(path, (1, 1))
    assert stored([path], "text", path.read_text) == "new"


def test_one_file_is_read_at_a_time(tmp_path: Path) -> None:
    """Two visitors never hold two files in memory at once; what is kept answers meanwhile."""
    under_way, most, told = [0], [0], []

    def work() -> int:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.05)
        under_way[0] -= 1
        return 0

    stored([tmp_path / "known"], "known", lambda: 1)
    threads = [
        threading.Thread(target=stored, args=([tmp_path / "file"], key, work)) for key in range(4)
    ]
    for thread in threads:
        thread.start()
    told.append(stored([tmp_path / "known"], "known", lambda: 2))
    assert any(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    assert most == [1]
    assert told == [1]
