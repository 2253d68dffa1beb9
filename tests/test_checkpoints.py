"""Checkpoints: exact, atomic, two deep, and no pickle."""

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from atlas.errors import ModelError
from atlas.training_state import TrainingState
from pipelines import checkpoints


def _state(step: int) -> TrainingState:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "weights.a": torch.randn(3, 4, generator=generator),
        "optimizer.0.step": torch.tensor(float(step)),
        "weights.index": torch.arange(3),
    }
    return TrainingState(tensors, {"step": step, "best_loss": 0.1 + 0.2, "history": [{"epoch": 1}]})


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Every bit of every tensor and every digit of every number comes back."""
    saved = _state(7)
    path = checkpoints.save(tmp_path, saved, key="k")
    loaded = checkpoints.load(tmp_path, key="k")
    assert loaded is not None
    assert loaded.meta == saved.meta
    assert loaded.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(loaded.tensors[n], saved.tensors[n]) for n in saved.tensors)
    assert b"pickle" not in path.read_bytes()


def test_the_newest_two_are_kept_and_the_newest_is_used(tmp_path: Path) -> None:
    """Older ones are dropped as soon as a newer one is safely written."""
    for step in (5, 10, 100):
        checkpoints.save(tmp_path, _state(step), key="k")
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-000000010.safetensors",
        "step-000000100.safetensors",
    ]
    loaded = checkpoints.load(tmp_path, key="k")
    assert loaded is not None
    assert loaded.meta["step"] == 100


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_corrupt_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log; the last good one is used."""
    checkpoints.save(tmp_path, _state(1), key="k")
    newest = checkpoints.save(tmp_path, _state(2), key="k")
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    newest.write_bytes({"flip": content, "cut": content[:-9], "empty": b""}[damage])
    with caplog.at_level(logging.ERROR):
        loaded = checkpoints.load(tmp_path, key="k")
    assert loaded is not None
    assert loaded.meta["step"] == 1
    assert newest.name in caplog.text


def test_a_checkpoint_of_another_key_is_ignored(tmp_path: Path) -> None:
    """Other data, parameters or code start anew."""
    checkpoints.save(tmp_path, _state(1), key="k")
    assert checkpoints.load(tmp_path, key="other") is None
    assert checkpoints.load(tmp_path / "absent", key="k") is None


def test_a_full_disk_is_one_clear_error_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier checkpoint stays."""
    checkpoints.save(tmp_path, _state(1), key="k")

    def full(*_: Any) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_bytes", full)
    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
        checkpoints.save(tmp_path, _state(2), key="k")
    loaded = checkpoints.load(tmp_path, key="k")
    assert loaded is not None
    assert loaded.meta["step"] == 1


def test_clearing_removes_them(tmp_path: Path) -> None:
    """A finished training leaves nothing behind, and clearing twice is harmless."""
    folder = tmp_path / "cnn"
    checkpoints.save(folder, _state(1), key="k")
    checkpoints.clear(folder)
    checkpoints.clear(folder)
    assert not folder.exists()
