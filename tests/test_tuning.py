"""Tuning: folds before the test span, searches that go on, starts from the nearest fingerprint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from atlas.errors import ConfigError, ModelError
from atlas.tuning import (
    STARTUP,
    Seen,
    Settings,
    described,
    inner_folds,
    nearest,
    search,
    settings_of,
    start_from,
)
from pipelines import ledger, train, tune, tuned
from pipelines.files import write_json
from pipelines.paths import Paths
from tests.toys import toy_config, toy_data

NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
OWNERS = ("equity_daily", "gate")
DATA = toy_data(bars=260, test=40, validation=30)
CUTS = dict.fromkeys(DATA, (40, 30))
DEFAULT: Settings = {
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "weight_decay": 1e-3,
    "experts": {"equity_daily": {"optimizer": "sgd", "learning_rate": None}},
    "gate": {},
}


def test_folds_hold_nothing_of_the_test_span() -> None:
    """Whatever a fold's labels read ends before the first test session, and folds step back."""
    folds = inner_folds(DATA, CUTS, 2)
    for market, own in DATA.items():
        first = own.panel.session[own.split.test].min()
        assert np.array_equal(folds[0][market].split.validation, own.split.validation)
        later = folds[0][market].panel.session[folds[0][market].split.validation].min()
        for fold in folds:
            split, last = fold[market].split, fold[market].labels.last
            assert not len(split.test)
            for part in (split.train, split.validation):
                assert own.panel.session[last[part]].max() < first
        assert own.panel.session[folds[1][market].split.validation].max() < later


def _bowl(settings: Settings, report: Any) -> float:
    """Lowest where the expert's rate is 1e-2 and its optimizer nadam; no training is needed."""
    own = settings["experts"]["equity_daily"]
    loss = abs(np.log(own["learning_rate"] / 1e-2)) + (own["optimizer"] != "nadam")
    report(loss, 1)
    return float(loss)


def _searched(study: optuna.Study, trials: int, evaluate: Any = _bowl) -> list[dict[str, Any]]:
    search(study, evaluate, OWNERS, trials=trials, seed=5, starts=[DEFAULT])
    return [t.params for t in study.trials if t.state.name in ("COMPLETE", "PRUNED")]


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(pruner=optuna.pruners.NopPruner())


def test_a_killed_search_goes_on_with_the_trials_it_would_have_made() -> None:
    """Killed within a trial, it makes that one again and then the same ones as undisturbed."""
    count = STARTUP + 4
    undisturbed = _searched(_study(), count)
    study, seen = _study(), []

    def killed(settings: Settings, report: Any) -> float:
        seen.append(settings)
        if len(seen) == STARTUP + 2:
            raise KeyboardInterrupt
        return _bowl(settings, report)

    with pytest.raises(KeyboardInterrupt):
        _searched(study, count, killed)
    assert _searched(study, count) == undisturbed


def test_the_default_comes_first_and_the_search_improves_on_it() -> None:
    """What an expert does not set itself is the shared setting."""
    params = _searched(_study(), 30)
    assert params[0]["equity_daily.optimizer"] == "sgd"
    assert params[0]["equity_daily.learning_rate"] == 2e-3
    assert params[0]["gate.optimizer"] == "adamw"
    losses = [_bowl(settings_of(own), lambda *_: None) for own in params]
    assert min(losses) < 0.3 < losses[0]


def test_a_diverging_trial_is_pruned_and_the_search_goes_on() -> None:
    """A loss that is not finite says something of the settings, not of the search."""

    def diverging(settings: Settings, report: Any) -> float:
        if settings["learning_rate"] == 2e-3:
            raise ModelError("expected a finite loss, got nan")
        return _bowl(settings, report)

    study = _study()
    _searched(study, 3, diverging)
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "COMPLETE", "COMPLETE"]
    assert "finite" in study.trials[0].user_attrs["error"]


def _seen(name: str, fingerprint: tuple[float, ...], rate: float) -> Seen:
    settings = {**DEFAULT, "experts": {"crypto_hft": {"optimizer": "sgd", "learning_rate": rate}}}
    return Seen(name, "chart", "crypto_hft", fingerprint, settings)


def test_the_nearest_is_by_standardized_distance() -> None:
    """A column of large numbers does not decide alone; a missing one costs a standard deviation."""
    near = _seen("near", (1000.0, 0.1), 1e-2)
    far = _seen("far", (1010.0, 0.9), 1e-3)
    assert nearest((1007.0, 0.1), "chart", [near, far]) is near
    assert nearest((np.nan, 0.9), "chart", [near, far]) is far
    assert nearest((1007.0, 0.1), "surface", [near, far]) is None


def test_a_new_market_starts_from_its_neighbor() -> None:
    """Its usual expert gets what the neighbor's expert was tuned to."""
    expert, fingerprint = described(DATA["toy_charts"])
    one = {"toy_charts": DATA["toy_charts"]}
    far = tuple(value + 3.0 for value in fingerprint)
    start = start_from(one, [_seen("far", far, 1e-3), _seen("near", fingerprint, 7e-3)])
    assert start is not None
    assert start["experts"] == {expert: {"optimizer": "sgd", "learning_rate": 7e-3}}
    assert start_from(one, []) is None


def _artifact(paths: Paths, name: str, number: int, rate: float) -> None:
    artifact = {"id": name, "as_of": "2026-11-20", "number": number, "markets": {}}
    settings = {"learning_rate": rate, "experts": {"equity_daily": {"optimizer": "sgd"}}}
    write_json(paths.tuning / f"{name}.json", {**artifact, "settings": settings})


def test_params_select_an_artifact_by_id(tmp_path: Path) -> None:
    """`latest` is the last one written, and what was chosen is named by its id."""
    paths = Paths(tmp_path)
    _artifact(paths, "b", 0, 1e-3)
    _artifact(paths, "a", 1, 5e-3)
    config = toy_config()
    assert tuned.resolved(paths, config) == config
    for tuning, name, rate in (("latest", "a", 5e-3), ("b", "b", 1e-3)):
        found = tuned.resolved(paths, config.model_copy(update={"tuning": tuning}))
        assert (found.tuning, found.training.learning_rate) == (name, rate)
        assert found.training.experts["equity_daily"].optimizer == "sgd"
        assert found.training.batch == config.training.batch
    with pytest.raises(ConfigError, match=r"tuning: 'c': expected none, latest or one of b, a"):
        tuned.resolved(paths, config.model_copy(update={"tuning": "c"}))


def test_the_stage_tunes_and_the_next_training_uses_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials are kept in the artifact and in MLflow; a second call only adds what lacks."""
    monkeypatch.setattr(tune.samples, "load", lambda *_: dict(DATA))
    paths, config = Paths(tmp_path), toy_config(epochs=1, windows_per_epoch=48)
    markets = {
        name: own.model_copy(
            update={"cut": own.cut.model_copy(update={"test": 40, "validation": 30})}
        )
        for name, own in config.markets.items()
    }
    config = config.model_copy(update={"markets": markets})
    paths.data_dvc.write_text("outs:\n- md5: 0123abcd.dir\n  path: data\n")
    tune.run(paths, config, as_of=NIGHT, trials=1)
    summary = tune.run(paths, config, as_of=NIGHT, trials=2)
    trials = json.loads((paths.tuning / "trials" / f"{summary['id']}.json").read_text())
    assert [trial["number"] for trial in trials] == [0, 1]
    assert summary["loss"] <= summary["default_loss"]
    from pipelines.tracking import open_registry

    client = open_registry(paths)
    experiment = client.get_experiment_by_name(tune.trial_runs.EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    assert [run.data.tags["data_version"] for run in runs] == ["0123abcd.dir"] * 2
    assert {run.data.metrics["loss"] for run in runs} == {trial["loss"] for trial in trials}
    written = ledger.entries(paths)
    assert [line["model"] for line in written] == ["moe_mlp trial", "moe_mlp trial"]
    assert [line["log_loss"] for line in written] == [round(t["loss"], 9) for t in trials]
    first = {m: own.panel.session[own.split.test].min() for m, own in DATA.items()}
    assert all(days[1] < first[m] for line in written for m, days in line["span"].items())
    assert not ledger.overview(paths).empty
    train.run(paths, config.model_copy(update={"tuning": "latest"}), as_of=NIGHT, variant="cnn")
    card = json.loads((paths.model("cnn") / "config.json").read_text())
    assert card["config"]["tuning"] == summary["id"]
