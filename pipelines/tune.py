"""Tune inside each expert on the night's markets and write what was found.

Trials are made on inner folds before the test span; no test window is loaded into a fold. The
study lies in var/tuning/, so that a search that was killed goes on; every trial goes to MLflow and
into the artifact's own list, its settings and its loss to the ledger. Data are read under the
home's lock, the search runs outside it.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pandas as pd
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from atlas.moe import Network, build_model
from atlas.tuning import Seen, described, inner_folds, objective, search, settings_of, start_from
from atlas.windows import MarketData
from pipelines import ledger, samples, stamps, trial_runs, tuned
from pipelines.files import write_json
from pipelines.home import night_lock
from pipelines.paths import Paths

__all__ = ["run"]

log = logging.getLogger(__name__)
FOLDS = 2
BUDGET = {"epochs": 2, "windows_per_epoch": 12_000, "processes": 1}
VARIANT = "moe_mlp"
_SEARCHED = ("optimizer", "learning_rate", "weight_decay", "experts", "gate")


def run(
    paths: Paths,
    config: ATLASConfig,
    *,
    as_of: pd.Timestamp,
    trials: int = 20,
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Search until `trials` have ended or the time is over; write artifacts/tuning/<id>.json.

    Returns:
        id, trials, loss and default_loss, both means over folds and markets.

    Raises:
        DataError: a required market is missing, or too short for the folds.
        ModelError: no trial has come to its end.
    """
    begun = time.monotonic()
    with night_lock(paths):
        data = samples.load(paths, config, as_of)
    study = _study(paths, config, as_of)
    budget = config.training.model_copy(update=_budget(config))
    cuts = {name: (own.cut.test, own.cut.validation) for name, own in config.markets.items()}
    served, owners = _served(config, data)
    default = {name: config.training.model_dump(mode="json")[name] for name in _SEARCHED}
    near = start_from(served, _seen(paths))
    folds = inner_folds(served, cuts, FOLDS)
    search(
        study,
        objective(folds, lambda: _build(config), budget, seed=config.training.seed),
        owners,
        trials=trials,
        seed=config.training.seed,
        starts=[default] if near is None else [default, near],
        is_over=lambda: timeout_s is not None and time.monotonic() - begun > timeout_s,
        told=lambda trial: _told(paths, study, trial, trials, folds, config.training.seed),
    )
    return _write(paths, config, as_of, study, served, default)


def _study(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp) -> optuna.Study:
    fields = {"source", "markets", "moe", "model", "training"}
    record = paths.data_dvc.read_text(encoding="utf-8") if paths.data_dvc.is_file() else ""
    key = [config.model_dump(mode="json", include=fields), str(as_of.date()), record]
    text = json.dumps([*key, stamps.code_digest()], sort_keys=True)
    name = f"{as_of.date()}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    journal = paths.var / "tuning" / f"{name}.journal"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=name,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        load_if_exists=True,
    )


def _budget(config: ATLASConfig) -> dict[str, int]:
    usual = config.training.model_dump()
    return {name: min(usual[name], most) for name, most in BUDGET.items()}


def _served(
    config: ATLASConfig, data: Mapping[str, MarketData]
) -> tuple[dict[str, MarketData], list[str]]:
    """Return the markets that the mixture serves, and whose weights may move by their own rule."""
    model = _build(config)
    served = {name: own for name, own in data.items() if own.panel.modality in model.modalities}
    experts = list(model.expert_ids)
    return served, [*experts, "gate"] if model.gate_learns else experts


def _build(config: ATLASConfig) -> Network:
    torch.manual_seed(config.training.seed)
    return build_model(config, variant=VARIANT)


def _seen(paths: Paths) -> list[Seen]:
    """Return every market that was tuned in this home, the newest finding of each last."""
    found = {}
    for one in tuned.artifacts(paths).values():
        for market, card in one["markets"].items():
            values = tuple(float("nan") if v is None else v for v in card["fingerprint"])
            modality, expert = card["modality"], card["expert"]
            found[market] = Seen(market, modality, expert, values, one["settings"])
    return list(found.values())


def _record(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "loss": trial.value,
        "params": trial.params,
        "reported": {str(step): loss for step, loss in trial.intermediate_values.items()},
        **trial.user_attrs,
    }


def _told(
    paths: Paths,
    study: optuna.Study,
    trial: FrozenTrial,
    trials: int,
    folds: Sequence[Mapping[str, MarketData]],
    seed: int,
) -> None:
    record = _record(trial)
    loss = "" if trial.value is None else f" loss {trial.value:.5f}"
    log.info("trial %d of %d %s%s", trial.number + 1, trials, record["state"], loss)
    trial_runs.log_trial(paths, study.study_name, record)
    losses = [*trial.intermediate_values.values()] if trial.value is None else [trial.value]
    if losses:  # a trial that diverged at once has said nothing
        span, rows = _validated(folds)
        ledger.record_trial(
            paths,
            f"{VARIANT} trial",
            settings_of(trial.params),
            span=span,
            rows=rows,
            loss=losses[-1],
            seed=seed,
        )


def _validated(folds: Sequence[Mapping[str, MarketData]]) -> tuple[dict[str, list[int]], int]:
    """Return the first and last session that each market is judged on, and the windows in all."""
    days: dict[str, list[int]] = {}
    rows = 0
    for fold in folds:
        for market, own in fold.items():
            ends = own.split.validation
            rows += len(ends)
            if len(ends):
                found = own.panel.session[ends]
                known = days.get(market, [int(found.min()), int(found.max())])
                days[market] = [min(known[0], int(found.min())), max(known[1], int(found.max()))]
    return days, rows


def _write(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    study: optuna.Study,
    data: Mapping[str, MarketData],
    default: dict[str, Any],
) -> dict[str, Any]:
    done = study.get_trials(states=(TrialState.COMPLETE,))
    if not done:
        raise ModelError("tune: no trial came to its end: give it more --trials or more --timeout")
    best = min(done, key=lambda trial: (trial.value or 0.0, trial.number))
    first = study.trials[0].params  # the default's; made again if it was killed
    usual = next((trial.value for trial in done if trial.params == first), None)
    settings = default if best.params == first else settings_of(best.params)
    markets = {}
    for market, own in data.items():
        expert, fingerprint = described(own)
        values = [None if value != value else round(value, 6) for value in fingerprint]
        markets[market] = {
            "modality": own.panel.modality,
            "expert": expert,
            "fingerprint": values,
        }
    artifact = {
        "id": study.study_name,
        "as_of": str(as_of.date()),
        "number": len(list(paths.tuning.glob("*.json"))),
        "settings": settings,
        "loss": best.value,
        "default_loss": usual,
        "markets": markets,
        "source": config.source,
    }
    known = tuned.artifacts(paths).get(study.study_name)
    if known is not None:  # a search that went on: its place among the others stays
        artifact["number"] = known["number"]
    write_json(paths.tuning / f"{study.study_name}.json", artifact)
    trials = [_record(trial) for trial in study.trials]
    write_json(paths.tuning / "trials" / f"{study.study_name}.json", trials)
    return {
        "id": study.study_name,
        "trials": len(trials),
        "loss": best.value,
        "default_loss": usual,
    }
