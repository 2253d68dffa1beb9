"""Pre-train the kernels on the night's unlabelled charts and write them for later trainings.

Written: artifacts/pretraining/<id>.safetensors, and last its card, <id>.json. The id follows from
data, parameters and code, so a second run finds its work done, and a killed one goes on from its
last checkpoint, in var/pretraining/. Data are read under the home's lock, the learning runs outside
it. Figures of time are in the summary alone: the artifacts of two runs are the same bytes.
"""

import datetime as dt
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import pandas as pd
import safetensors.torch

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from atlas.masking import ASKED, BLOCK
from atlas.pretraining import Epoch, Pretrained, pretrain, spans
from atlas.training_state import TrainingState
from pipelines import checkpoints, pretrained, samples, snapshot, stamps
from pipelines.files import write_bytes, write_json
from pipelines.home import night_lock
from pipelines.paths import Paths

__all__ = ["run"]

log = logging.getLogger(__name__)
_SETTINGS = ("epochs", "windows_per_epoch", "batch", "optimizer", "learning_rate", "weight_decay")


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Pre-train for the night unless that is done.

    Returns:
        id, the held-out loss as a share of the baseline's (of moves and of sizes too), and cpu_s.

    Raises:
        DataError: a required market is missing, or has no window to learn from.
        ModelError: the loss is not finite, or a file cannot be written.
    """
    begun = time.process_time()
    with night_lock(paths):
        version = snapshot.data_version(paths) if paths.data_dvc.is_file() else "none"
        name = _name(config, as_of, version)
        known = pretrained.artifacts(paths).get(name)
        if known is not None and paths.pretrained(name).is_file():
            return {**_summary(known), "skipped": True}
        data = samples.load(paths, config, as_of)
    folder = paths.var / "pretraining" / name
    resume = checkpoints.load(folder, key=name)
    if resume is not None:
        log.info("pre-training %s: going on from step %d", name, resume.meta["step"])

    def keep(state: TrainingState) -> None:
        checkpoints.save(folder, state, key=name)

    seed = config.training.seed
    found = pretrain(config, data, seed=seed, checkpoint=keep, resume=resume, told=_tell)
    card = _card(config, as_of, version, found, spans(data))
    card |= {"id": name, "number": len(pretrained.artifacts(paths))}
    try:
        _write(paths, card, found)
    except OSError as error:
        raise ModelError(
            f"{paths.pretraining}: cannot be written ({error.strerror}); checkpoints are kept: "
            "make room and run the pre-training again to go on"
        ) from error
    checkpoints.clear(folder)
    return {**_summary(card), "cpu_s": round(time.process_time() - begun, 1)}


def _name(config: ATLASConfig, as_of: pd.Timestamp, version: str) -> str:
    used = config.model_dump(mode="json", include={"source", "markets", "model"})
    budget = config.training.model_dump(mode="json", include={*_SETTINGS, "seed", "threads"})
    key = [used, budget, str(as_of.date()), version, stamps.code_digest()]
    text = json.dumps(key, sort_keys=True)
    return f"{as_of.date()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _tell(epoch: Epoch) -> None:
    text = "epoch %d: loss over the baseline's %.4f; held out %.4f (moves %.4f, sizes %.4f)"
    figures = (epoch.learned, epoch.held, epoch.held_move, epoch.held_size)
    log.info(text, epoch.epoch, *figures)


def _card(
    config: ATLASConfig,
    as_of: pd.Timestamp,
    version: str,
    found: Pretrained,
    until: Mapping[str, int],
) -> dict[str, Any]:
    settings = config.training.model_dump(mode="json", include={*_SETTINGS, "seed"})
    return {
        "as_of": str(as_of.date()),
        "source": config.source,
        "data_version": version,
        "code": stamps.code_digest(),
        "settings": {**settings, **BLOCK._asdict(), "asked": list(ASKED)},
        "until": {m: str(pretrained.EPOCH + dt.timedelta(day)) for m, day in until.items()},
        "history": [epoch._asdict() for epoch in found.history],
        "markets": found.markets,
    }


def _write(paths: Paths, card: dict[str, Any], found: Pretrained) -> None:
    content = safetensors.torch.save({n: w.contiguous() for n, w in found.weights.items()})
    write_bytes(paths.pretrained(card["id"]), content)
    digest = hashlib.sha256(content).hexdigest()
    write_json(paths.pretraining / f"{card['id']}.json", {**card, "digest": digest})


def _summary(card: Mapping[str, Any]) -> dict[str, Any]:
    last = card["history"][-1]
    return {"id": card["id"]} | {name: last[name] for name in ("held", "held_move", "held_size")}
