"""Train one variant on all markets together and write what the later stages read.

The stage finds the night's data, resumes a training that was killed, and writes weights,
configuration, history, metrics and the predictions of every validation and test window. Figures of
time go to the log alone: the artifacts of two runs are the same bytes. With `training.processes`
above 1 the stage decides and reports, and `pipelines.processes` does the work.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.cuts import newest
from atlas.errors import DataError
from atlas.moe import AtlasMoE, Network, build_model
from atlas.parallel import open_fabric
from atlas.prediction import predict
from atlas.progress import TrainingResult
from atlas.training import train
from atlas.training_state import TrainingState
from atlas.windows import MarketData, told_law
from pipelines import checkpoints, samples, stamps, tuned
from pipelines.files import digest, read_json, write_bytes, write_json, write_parquet
from pipelines.launch import summary_path
from pipelines.paths import Paths
from pipelines.processes import is_one_of_several, train_in_several
from pipelines.training_progress import watch

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["ARTIFACTS", "run", "take_part"]

log = logging.getLogger(__name__)

ARTIFACTS = (
    "config.json",
    "history.json",
    "metrics.json",
    "model.safetensors",
    "predictions.parquet",
)


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, variant: str) -> dict[str, Any]:
    """Train `variant` for the night unless that is done; return its summary.

    Raises:
        DataError: a required market is missing, or no market has an expert.
        ModelError: the training cannot go on.
    """
    config = tuned.resolved(paths, config)
    key = _key(paths, config, as_of, variant)
    summary = stamps.once(
        paths,
        f"train-{variant}",
        key,
        lambda: [paths.model(variant) / name for name in ARTIFACTS],
        lambda: _work(paths, config, as_of, variant, key),
    )
    write_json(summary_path(paths, variant), summary)
    return summary


def _key(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str) -> dict[str, Any]:
    read = [paths.data_dvc]
    for market in config.markets:
        read += [paths.fingerprints(market), paths.quarantine(market), paths.truth(market)]
    used = {"source", "markets", "moe", "model", "training", "tuning"}
    return {
        "as_of": str(as_of.date()),
        "variant": variant,
        "params": config.model_dump(mode="json", include=used),
        "read": {str(p.relative_to(paths.home)): digest(p) for p in read if p.is_file()},
    }


def _work(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str, key: dict[str, Any]
) -> dict[str, Any]:
    if config.training.processes == 1:
        return take_part(paths, config, as_of, variant, key)
    train_in_several(paths, config, as_of=as_of, variant=variant)
    metrics: dict[str, Any] = read_json(paths.model(variant) / "metrics.json")
    return {name: value for name, value in metrics.items() if name != "markets"}


def take_part(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    variant: str,
    key: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train `variant`, alone or as one of torchrun's processes; rank 0 writes its artifacts.

    Raises:
        DataError: as for `run`.
        ModelError: as for `run`.
    """
    begun = time.monotonic()
    key = key or _key(paths, config, as_of, variant)
    processes = config.training.processes if is_one_of_several() else 1
    fabric = open_fabric(config.training.accelerator, processes)
    torch.manual_seed(config.training.seed)
    model = build_model(config, variant=variant)
    data = _served(model, samples.load(paths, config, as_of))
    if variant == "moe_oracle":
        data = {market: told_law(own) for market, own in data.items()}
    if config.training.window != "expanding":
        span = config.training.window
        data = {market: newest(own, span) for market, own in data.items()}
    result = _train(paths.checkpoints(variant), model, data, config, variant, key, fabric)
    summary = _summary(variant, result)
    if fabric.global_rank == 0:
        log.info("%s: %d steps in %.0f s", variant, result.steps, time.monotonic() - begun)
        _write(paths, config, as_of, variant, model.cpu(), data, result)
    return summary


def _write(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    variant: str,
    model: Network,
    data: Mapping[str, MarketData],
    result: TrainingResult,
) -> None:
    begun = time.monotonic()
    predictions = pd.concat([_rows(model, own) for own in data.values()], ignore_index=True)
    log.info("%s: %d windows in %.0f s", variant, len(predictions), time.monotonic() - begun)
    folder = paths.model(variant)
    card = {
        "variant": variant,
        "markets": list(data),
        "model_markets": list(model.markets),
        "as_of": str(as_of.date()),
    }
    write_json(folder / "config.json", {**card, "config": config.model_dump(mode="json")})
    write_json(folder / "history.json", [epoch._asdict() for epoch in result.history])
    metrics = {**_summary(variant, result), "markets": result.markets}
    write_json(folder / "metrics.json", metrics)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
    write_parquet(folder / "predictions.parquet", predictions)
    checkpoints.clear(paths.checkpoints(variant))


def _train(
    folder: Path,
    model: Network,
    data: Mapping[str, MarketData],
    config: ATLASConfig,
    variant: str,
    key: dict[str, Any],
    fabric: "Fabric",
) -> TrainingResult:
    """Train, going on from the last checkpoint of the same data, parameters and code."""
    text = json.dumps({**key, "code": stamps.code_digest()}, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()
    resume = checkpoints.load(folder, key=name)
    if resume is not None:
        log.info("%s: going on from step %d", variant, resume.meta["step"])

    def keep(state: TrainingState) -> None:
        checkpoints.save(folder, state, key=name)

    with watch(variant, _experts(model)) as progress:
        return train(
            model,
            data,
            config.training,
            seed=config.training.seed,
            checkpoint=keep,
            resume=resume,
            progress=progress if fabric.global_rank == 0 else None,
            fabric=fabric,
        )


def _served(model: Network, data: Mapping[str, MarketData]) -> dict[str, MarketData]:
    """Leave out, by name, the markets of a modality that no expert of the model reads."""
    served = {name: own for name, own in data.items() if own.panel.modality in model.modalities}
    for name in sorted(set(data) - set(served)):
        kind = data[name].panel.modality
        log.warning("%s is left out: moe.experts has no expert for a %s", name, kind)
    if not served:
        raise DataError("no market has an expert of its modality: add one to moe.experts")
    return served


def _rows(model: Network, own: MarketData) -> pd.DataFrame:
    """Predict a market's validation and test windows, one row each."""
    panel, split = own.panel, own.split
    ends = np.concatenate([split.validation, split.test])
    found = predict(model, own, ends, market_index=model.markets.index(panel.market))
    frame = pd.DataFrame(
        {
            "market": panel.market,
            "symbol": panel.symbol_of(ends),
            "timestamp": pd.to_datetime(panel.timestamp[ends], unit="us", utc=True),
            "session": panel.session[ends],
            "split": np.repeat(["validation", "test"], [len(split.validation), len(split.test)]),
            "y": own.labels.direction[ends],
            "probability": found["probability"],
            "log_rv": own.labels.log_rv[ends],
            "log_rv_predicted": found["log_rv_predicted"],
            "p": np.nan if panel.probability is None else panel.probability[ends],
            "rule": np.asarray(EXPERT_IDS)[panel.rule[ends]],
        }
    )
    for column, expert in enumerate(_experts(model)):
        frame[f"gate_{expert}"] = found["gate_probs"][:, column]
    return frame


def _experts(model: Network) -> tuple[str, ...]:
    return model.expert_ids if isinstance(model, AtlasMoE) else ()


def _summary(variant: str, result: TrainingResult) -> dict[str, Any]:
    best = result.history[result.best_epoch - 1]
    return {
        "variant": variant,
        "steps": result.steps,
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "validation_log_loss": round(best.validation_log_loss, 6),
        "validation_accuracy": round(best.validation_accuracy, 6),
    }
