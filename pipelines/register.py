"""Register the night's candidate: the mixture of experts that is best on validation.

- Only moe_rule and moe_mlp can be champions; every other model of the table is a yardstick. Where
  `moe.gate` is rule, or `moe.enabled` is false and moe_rule a mixture of the one expert, moe_rule
  is the only candidate.
- The choice is by log-loss on the validation rows, as a mean over markets; the test rows are not
  looked at.
- A version's key is a digest over data, parameters, code, night and weights. A night whose key is
  registered already registers nothing and says so.
- registration.json tells the promote stage what the night's candidate is.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from atlas.metrics import log_losses
from pipelines import curves, packaging, reproduce, tracking
from pipelines.files import digest, read_json, write_json
from pipelines.paths import PROJECT, Paths
from pipelines.stamps import code_digest

__all__ = ["candidates", "night_key", "registration", "run", "validation_losses"]

log = logging.getLogger(__name__)
_METRICS = ("accuracy", "accuracy_low", "accuracy_high", "log_loss", "base_rate", "lift")
_BATCH = 100  # params of one call; the most that MLflow takes


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Log the night to MLflow and register its candidate, unless that was done before.

    Returns:
        as_of, candidate, candidate_version, registered, run_id, key, the validation log-losses and,
        if nothing was registered, the reason.

    Raises:
        ModelError: a candidate or the benchmark table is missing.
    """
    losses = validation_losses(paths, config)
    variant = _best(losses)
    client = tracking.open_registry(paths)
    tags = _tags(paths, config, as_of, variant)
    key = tags["key"]
    version = tracking.version_of(client, key)
    registered = version is None
    if version is None:
        version = _register(client, paths, config, tags, losses)
    summary = {
        "as_of": tags["as_of"],
        "candidate": variant,
        "candidate_version": str(version.version),
        "key": key,
        "registered": registered,
        "run_id": version.run_id,
        "validation_log_loss": losses,
    }
    if not registered:
        summary["reason"] = (
            f"data version, parameters and code are those of version {version.version}: "
            "nothing to register"
        )
        log.info("register: %s", summary["reason"])
    write_json(registration(paths), summary)
    return summary


def registration(paths: Paths) -> Path:
    """Return where the stage leaves its summary for the promote stage."""
    return paths.artifacts / "registration.json"


def candidates(config: ATLASConfig) -> tuple[str, ...]:
    """Return the variants that may become champion."""
    learned = config.moe.enabled and config.moe.gate != "rule"
    return ("moe_rule", "moe_mlp") if learned else ("moe_rule",)


def night_key(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp) -> str:
    """Return the digest over all that the night's version depends on."""
    losses = validation_losses(paths, config)
    return _tags(paths, config, as_of, _best(losses))["key"]


def validation_losses(paths: Paths, config: ATLASConfig) -> dict[str, float]:
    """Return each candidate's log-loss on validation rows, nats, as a mean over markets.

    Raises:
        ModelError: a candidate has no predictions.
    """
    losses = {}
    for variant in candidates(config):
        path = paths.model(variant) / "predictions.parquet"
        if not path.is_file():
            raise ModelError(f"{path} is missing: run `python -m pipelines train` first")
        rows = pd.read_parquet(path, columns=["market", "split", "y", "probability"])
        rows = rows[rows["split"] == "validation"]
        if rows.empty:
            raise ModelError(f"{path}: holds no validation row, so no candidate can be chosen")
        loss = log_losses(rows["y"].to_numpy(float), rows["probability"].to_numpy(float))
        by_market = rows.assign(loss=loss).groupby("market")["loss"].mean()
        losses[variant] = round(float(by_market.mean()), 9)
    return losses


# as the train stage's key
_TRAINED = {"source", "markets", "moe", "model", "training", "tuning", "pretraining"}
_KEYED = ("as_of", "source", "data_version", "params", "code", "variant", "weights")


def _tags(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str) -> dict[str, str]:
    commit, dirty = tracking.revision()
    record = paths.data_dvc
    card = _card(paths, variant)
    trained, parent = card["config"], card.get("parent") or {}
    if lacking := _TRAINED - set(trained):
        raise ModelError(
            f"{variant} was trained by an ATLAS that did not know {', '.join(sorted(lacking))}: "
            f"run `python -m pipelines train --variant {variant}` again"
        )
    tags = {
        "as_of": str(as_of.date()),
        "source": config.source,
        "data_version": tracking.data_version(paths),
        "params": tracking.digest_of(config.model_dump(mode="json")),
        "settings": tracking.digest_of({name: trained[name] for name in _TRAINED}),
        "tuning": trained["tuning"],  # the id, where params say `latest`
        "pretraining": trained["pretraining"],  # likewise
        "parent_version": parent.get("version", "none"),
        "parent_weights": parent.get("weights", "none"),
        "code": code_digest(),
        "git_commit": commit,
        "git_dirty": str(dirty).lower(),
        "variant": variant,
        "data_dvc": record.read_text(encoding="utf-8") if record.is_file() else "",
        "first_test": json.dumps(_first_sessions(paths, variant), sort_keys=True),
        "weights": digest(paths.model(variant) / "model.safetensors"),
    }
    return {**tags, "key": tracking.digest_of({name: tags[name] for name in _KEYED})}


def _card(paths: Paths, variant: str) -> dict[str, Any]:
    path = paths.model(variant) / "config.json"
    if not path.is_file():
        raise ModelError(f"{path} is missing: run `python -m pipelines train` first")
    card: dict[str, Any] = read_json(path)
    return card


def _first_sessions(paths: Paths, variant: str) -> dict[str, int]:
    """Return each market's first test session: before it lies what the model has seen."""
    rows = pd.read_parquet(paths.model(variant) / "predictions.parquet")
    tests = rows[rows["split"] == "test"]
    return {str(name): int(day) for name, day in tests.groupby("market")["session"].min().items()}


def _best(losses: dict[str, float]) -> str:
    return min(losses, key=lambda name: losses[name])


def _experts(config: ATLASConfig) -> tuple[str, ...]:
    return config.moe.experts if config.moe.enabled else ("equity_daily",)


def _register(
    client: MlflowClient,
    paths: Paths,
    config: ATLASConfig,
    tags: dict[str, str],
    losses: dict[str, float],
) -> Any:
    variant, name = tags["variant"], f"night {tags['as_of']}"
    made = packaging.graphs(paths, variant)
    vouched = packaging.manifest(paths, variant, made)
    # in the database, away from the files it vouches for: whoever changes those is found out
    record = reproduce.record(paths, config, variant)
    tags |= {
        tracking.MANIFEST: hashlib.sha256(vouched).hexdigest(),
        tracking.REPRODUCTION: hashlib.sha256(record).hexdigest(),
    }
    with tracking.night_run(client, name, tags["key"], tags) as run:
        run_id = run.info.run_id
        # before the metrics, each of which MLflow would otherwise copy to the model, one by one
        model = packaging.log(paths, variant, _experts(config), tags, vouched, made)
        _log_params(client, run_id, config)
        _log_table(client, run_id, paths, run.info.start_time)
        _log_losses(client, run_id, losses)
        points = curves.metrics(paths, ("cnn", *losses), run.info.start_time)
        client.log_batch(run_id, metrics=points)
        card = packaging.card(tags, losses, pd.read_parquet(paths.benchmark / "table.parquet"))
        client.log_text(run_id, card, "model_card.md")
        client.log_text(run_id, record.decode(), reproduce.RECORD)
        for path in _evidence(paths):
            client.log_artifact(run_id, str(path))
        pages = paths.data_docs(tags["as_of"], "any").parent
        if pages.is_dir():
            client.log_artifacts(run_id, str(pages), "data_docs")
    return tracking.register_version(client, run, model, tags, card)


def _log_params(client: MlflowClient, run_id: str, config: ATLASConfig) -> None:
    flat = pd.json_normalize(config.model_dump(mode="json")).iloc[0]
    params = [Param(str(name), str(value)) for name, value in flat.items()]
    for start in range(0, len(params), _BATCH):
        client.log_batch(run_id, params=params[start : start + _BATCH])


def _log_losses(client: MlflowClient, run_id: str, losses: dict[str, float]) -> None:
    for variant, loss in losses.items():
        client.log_metric(run_id, f"validation_log_loss/{variant}", loss)


def _log_table(client: MlflowClient, run_id: str, paths: Paths, now: int) -> None:
    """Log the benchmark as MLflow's table and every figure of it as a metric."""
    path = paths.benchmark / "table.parquet"
    if not path.is_file():
        raise ModelError(f"{path} is missing: run `python -m pipelines benchmark` first")
    table = pd.read_parquet(path)
    client.log_table(run_id, table, "benchmark.json")
    metrics = [
        Metric(f"{name}/{row['model']}/{row['market']}", float(row[name]), now, 0)
        for row in table.to_dict("records")
        for name in _METRICS
        if name in row and pd.notna(row[name])
    ]
    client.log_batch(run_id, metrics=metrics)


def _evidence(paths: Paths) -> list[Path]:
    """Return the files that go with a run, those of them that exist."""
    wanted = (
        paths.benchmark / "accuracy.html",
        paths.benchmark / "table.txt",
        paths.data_dvc,
        PROJECT / "requirements.lock",
    )
    return [path for path in wanted if path.is_file()]
