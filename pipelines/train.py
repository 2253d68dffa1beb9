"""Train one variant on all markets together and write what the later stages read.

The stage finds the night's data, resumes a training that was killed, and writes weights,
configuration, history, metrics and the predictions of every validation and test window. An ensemble
is so many trainings one after the other, each with its own seed and checkpoints. Figures of time go
to the log alone: the artifacts of two runs are the same bytes. With `training.processes` above 1
the stage decides and reports, and `pipelines.processes` does the work.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.cuts import newest
from atlas.ensemble import joined, member_seed
from atlas.errors import DataError, ModelError
from atlas.moe import Network, build_model
from atlas.parallel import open_fabric
from atlas.prediction import predict
from atlas.pretraining import load_kernels
from atlas.progress import TrainingResult
from atlas.training import train
from atlas.training_state import TrainingState
from atlas.windows import MarketData, told_law
from pipelines import checkpoints, pretrained, samples, stamps, tuned, warm
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
    config = pretrained.resolved(paths, tuned.resolved(paths, config), as_of)
    parent = warm.parent_of(paths, config, as_of, variant)
    key = _key(paths, config, as_of, variant, parent)
    summary = stamps.once(
        paths,
        f"train-{variant}",
        key,
        lambda: [paths.model(variant) / name for name in ARTIFACTS],
        lambda: _work(paths, config, as_of, variant, parent),
    )
    write_json(summary_path(paths, variant), summary)
    return summary


def _key(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    variant: str,
    parent: warm.Parent | None,
) -> dict[str, Any]:
    read = [paths.data_dvc, paths.pretrained(config.pretraining)]
    for market in config.markets:
        read += [paths.fingerprints(market), paths.quarantine(market), paths.truth(market)]
    used = {"source", "markets", "moe", "model", "training", "tuning", "pretraining"}
    return {
        "as_of": str(as_of.date()),
        "variant": variant,
        "params": config.model_dump(mode="json", include=used),
        "parent": parent.card if parent else None,
        "read": {str(p.relative_to(paths.home)): digest(p) for p in read if p.is_file()},
    }


def _work(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    variant: str,
    parent: warm.Parent | None,
) -> dict[str, Any]:
    if config.training.processes == 1:
        return _take_part(paths, config, as_of, variant, parent)
    train_in_several(paths, config, as_of=as_of, variant=variant)
    metrics: dict[str, Any] = read_json(paths.model(variant) / "metrics.json")
    return {name: value for name, value in metrics.items() if name not in ("markets", "members")}


def take_part(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str
) -> dict[str, Any]:
    """Train `variant` as one of torchrun's processes; rank 0 writes its artifacts.

    Raises:
        DataError: as for `run`.
        ModelError: as for `run`.
    """
    parent = warm.parent_of(paths, config, as_of, variant)
    return _take_part(paths, config, as_of, variant, parent)


def _take_part(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    variant: str,
    parent: warm.Parent | None,
) -> dict[str, Any]:
    begun = time.monotonic()
    processes = config.training.processes if is_one_of_several() else 1
    # read when CUDA begins; without it torch has no deterministic products of matrices there
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    fabric = open_fabric(config.training.accelerator, processes)
    data = _windows(paths, config, as_of, variant)
    start = parent or pretrained.kernels_of(paths, config)
    if isinstance(start, pretrained.Kernels):
        start.require_unseen(data)
    text = {**_key(paths, config, as_of, variant, parent), "code": stamps.code_digest()}
    key = hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()
    members, results = [], []
    for place in range(config.training.ensemble):
        model, result = _member(paths, config, variant, place, start, data, key, fabric)
        members.append(model.cpu())
        results.append(result)
    summary = _summary(variant, results, start)
    if fabric.global_rank == 0:
        steps = sum(result.steps for result in results)
        log.info("%s: %d steps in %.0f s", variant, steps, time.monotonic() - begun)
        card = {
            "parent": parent.card if parent else None,
            "variant": variant,
            "markets": list(data),
            "as_of": str(as_of.date()),
        }
        try:
            _write(paths, config, card, joined(members), data, results, summary)
        except OSError as error:
            raise ModelError(
                f"{paths.model(variant)}: cannot be written ({error.strerror}); checkpoints are "
                "kept: make room and run the training again to go on"
            ) from error
    return summary


def _windows(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str
) -> dict[str, MarketData]:
    """Load what the variant may learn from and is scored on."""
    torch.manual_seed(config.training.seed)
    data = _served(build_model(config, variant=variant), samples.load(paths, config, as_of))
    if variant == "moe_oracle":
        data = {market: told_law(own) for market, own in data.items()}
    if config.training.window != "expanding":
        span = config.training.window
        data = {market: newest(own, span) for market, own in data.items()}
    return data


def _member(
    paths: Paths,
    config: ATLASConfig,
    variant: str,
    place: int,
    start: warm.Parent | pretrained.Kernels | None,
    data: Mapping[str, MarketData],
    key: str,
    fabric: "Fabric",
) -> tuple[Network, TrainingResult]:
    """Train the network of one seed, going on from its last checkpoint of the same key."""
    settings, members = config.training, config.training.ensemble
    seed = member_seed(settings.seed, place)
    torch.manual_seed(seed)
    model = build_model(config, variant=variant)
    if isinstance(start, pretrained.Kernels):
        load_kernels(model, start.weights)
    elif start is not None:
        warm.begin(model, start, place, members)
        # its gate has learned better than to agree with the rule
        settings = settings.model_copy(update={"warm_start_share": 0.0})
    folder, name = paths.checkpoints(variant), variant
    if members > 1:
        folder, name = folder / f"member-{place + 1}", f"{variant} {place + 1} of {members}"
    resume = checkpoints.load(folder, key=key)
    if resume is not None:
        log.info("%s: going on from step %d", name, resume.meta["step"])

    def keep(state: TrainingState) -> None:
        checkpoints.save(folder, state, key=key)

    with watch(name, model.expert_ids) as progress:
        result = train(
            model,
            data,
            settings,
            seed=seed,
            checkpoint=keep,
            resume=resume,
            progress=progress if fabric.global_rank == 0 else None,
            fabric=fabric,
        )
    return model, result


def _write(
    paths: Paths,
    config: ATLASConfig,
    card: dict[str, Any],
    model: Network,
    data: Mapping[str, MarketData],
    results: Sequence[TrainingResult],
    summary: dict[str, Any],
) -> None:
    begun, variant = time.monotonic(), card["variant"]
    predictions = pd.concat([_rows(model, own) for own in data.values()], ignore_index=True)
    log.info("%s: %d windows in %.0f s", variant, len(predictions), time.monotonic() - begun)
    folder = paths.model(variant)
    card = {**card, "model_markets": list(model.markets)}
    write_json(folder / "config.json", {**card, "config": config.model_dump(mode="json")})
    history = [
        {**epoch._asdict(), "member": place}
        for place, result in enumerate(results, 1)
        for epoch in result.history
    ]
    write_json(folder / "history.json", history)
    markets = [result.markets for result in results]
    write_json(folder / "metrics.json", {**summary, "markets": markets[0], "members": markets[1:]})
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
    write_parquet(folder / "predictions.parquet", predictions)
    checkpoints.clear(paths.checkpoints(variant))


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
    for column, expert in enumerate(model.expert_ids):
        frame[f"gate_{expert}"] = found["gate_probs"][:, column]
    return frame


def _summary(
    variant: str,
    results: Sequence[TrainingResult],
    start: warm.Parent | pretrained.Kernels | None,
) -> dict[str, Any]:
    """Return what the stage says of itself; of an ensemble, sums of steps and means of scores."""
    best = [result.history[result.best_epoch - 1] for result in results]
    log_loss = float(np.mean([epoch.validation_log_loss for epoch in best]))
    accuracy = float(np.mean([epoch.validation_accuracy for epoch in best]))
    return {
        "variant": variant,
        "start": start.name if start else "cold",
        "steps": sum(result.steps for result in results),
        "epochs": sum(len(result.history) for result in results),
        "best_epoch": results[0].best_epoch,
        "validation_log_loss": round(log_loss, 6),
        "validation_accuracy": round(accuracy, 6),
    }
