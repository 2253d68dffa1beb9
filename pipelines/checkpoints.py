"""Checkpoints of a training under way: one safetensors file each, no pickle.

The record that belongs to the tensors travels in the file's header, so that one rename commits
both. The two newest are kept: if the newest cannot be read, the one before it is used, and the
resumed training still ends in the same bits.
"""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atlas.errors import ModelError
from atlas.training_state import TrainingState
from pipelines.files import write_bytes

__all__ = ["clear", "load", "save"]

log = logging.getLogger(__name__)

KEPT = 2


def save(folder: Path, state: TrainingState, *, key: str) -> Path:
    """Write a checkpoint and drop all but the two newest.

    Args:
        folder: of this variant's checkpoints.
        state: from `atlas.training.train`.
        key: what the training depends on; only a training with the same key resumes from it.

    Raises:
        ModelError: it cannot be written, a full disk for instance; earlier ones are kept.
    """
    path = folder / f"step-{state.meta['step']:09d}.safetensors"
    record = {"state": json.dumps(state.meta), "key": key, "digest": _digest(state.tensors)}
    try:
        write_bytes(path, safetensors.torch.save(state.tensors, metadata=record))
    except OSError as error:
        raise ModelError(
            f"checkpoint {path}: cannot be written ({error.strerror}); earlier checkpoints are "
            "kept: make room and run the training again to go on"
        ) from error
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()
    return path


def load(folder: Path, *, key: str) -> TrainingState | None:
    """Return the newest readable checkpoint of this key's training, None if there is none."""
    for path in _newest_first(folder):
        try:
            state = _read(path, key)
        except (SafetensorError, ValueError, KeyError, OSError) as error:
            log.error("checkpoint %s cannot be used (%s): trying an earlier one", path, error)
            continue
        if state is not None:
            return state
        log.info("checkpoint %s is of other data or parameters: ignored", path.name)
    return None


def clear(folder: Path) -> None:
    """Remove a finished training's checkpoints."""
    shutil.rmtree(folder, ignore_errors=True)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def _read(path: Path, key: str) -> TrainingState | None:
    with safe_open(path, framework="pt") as file:
        record: dict[str, Any] = file.metadata() or {}
        if record.get("key") != key:
            return None
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if record["digest"] != _digest(tensors):
        raise ValueError("its bytes do not match their digest")
    return TrainingState(tensors, json.loads(record["state"]))


def _digest(tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].contiguous().numpy().tobytes())
    return total.hexdigest()
