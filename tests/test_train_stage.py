"""The train stage: its artifacts, what makes it run again, and what a kill leaves."""

import errno
import json
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
from rich.console import Console

from atlas import training
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.cuts import newest
from atlas.errors import DataError, ModelError
from atlas.losses import direction_loss
from atlas.moe import build_model
from atlas.prediction import predict
from atlas.progress import Progress
from atlas.windows import MarketData
from pipelines import curves, train, training_progress
from pipelines.files import read_json
from pipelines.launch import summary_path
from pipelines.paths import Paths
from tests.toys import toy_config, toy_data

NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
DATA = toy_data(bars=250, test=30, validation=40)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A home whose markets are the toy's."""
    monkeypatch.setattr(train.samples, "load", lambda *_: dict(DATA))
    home = Paths(tmp_path)
    for market in DATA:
        home.fingerprints(market).parent.mkdir(parents=True, exist_ok=True)
        home.fingerprints(market).write_bytes(market.encode())
    return home


def _run(paths: Paths, variant: str = "moe_mlp", **settings: object) -> dict[str, object]:
    return train.run(paths, toy_config(epochs=2, **settings), as_of=NIGHT, variant=variant)


def _bytes(paths: Paths, variant: str = "moe_mlp") -> dict[str, bytes]:
    return {name: (paths.model(variant) / name).read_bytes() for name in train.ARTIFACTS}


@pytest.mark.parametrize("variant", ["cnn", "moe_mlp"])
def test_artifacts_say_all_that_later_stages_need(paths: Paths, variant: str) -> None:
    """Weights, configuration and predictions fit together; the checkpoint is gone."""
    summary = _run(paths, variant)
    assert summary["variant"] == variant
    assert summary["skipped"] is False
    assert read_json(summary_path(paths, variant)) == summary
    folder = paths.model(variant)
    card = json.loads((folder / "config.json").read_text())
    assert (card["variant"], card["markets"], card["as_of"]) == (variant, [*DATA], "2026-11-20")
    model = build_model(ATLASConfig.parse(card["config"]), variant=card["variant"])
    model.load_state_dict(safetensors.torch.load((folder / "model.safetensors").read_bytes()))
    rows = pd.read_parquet(folder / "predictions.parquet")
    for index, (market, own) in enumerate(DATA.items()):
        for split, ends in (("validation", own.split.validation), ("test", own.split.test)):
            mine = rows[(rows.market == market) & (rows.split == split)]
            found = predict(model, own, ends, market_index=index)
            assert mine.probability.to_numpy() == pytest.approx(found["probability"], abs=1e-6)
            assert np.array_equal(mine.y, own.labels.direction[ends])
            assert np.array_equal(mine.session, own.panel.session[ends])
    assert str(rows.timestamp.dtype) == "datetime64[us, UTC]"
    gates = [name for name in rows.columns if name.startswith("gate_")]
    assert gates == ([] if variant == "cnn" else [f"gate_{expert}" for expert in EXPERT_IDS])
    if gates:
        assert rows[gates].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
    assert not paths.checkpoints(variant).exists()
    assert len(json.loads((folder / "history.json").read_text())) == 2
    assert set(json.loads((folder / "metrics.json").read_text())["markets"]) == set(DATA)


def test_a_second_run_is_skipped_until_something_changes(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same data and parameters: nothing to do. New fingerprints or a deleted file: trained."""
    _run(paths)
    before = _bytes(paths)
    assert _run(paths)["skipped"] is True
    (paths.model("moe_mlp") / "model.safetensors").unlink()
    assert _run(paths)["skipped"] is False
    assert _bytes(paths) == before
    monkeypatch.setattr(train, "_work", lambda *_: {})
    paths.fingerprints("toy_more").write_bytes(b"other")
    assert _run(paths)["skipped"] is False
    assert _run(paths, learning_rate=1e-3)["skipped"] is False


def test_a_killed_stage_resumes_to_the_same_bytes(paths: Paths, tmp_path: Path) -> None:
    """A SIGKILL between two checkpoints costs an epoch at most and changes no artifact."""
    elsewhere = Paths(tmp_path / "undisturbed")
    for market in DATA:
        source, copy = paths.fingerprints(market), elsewhere.fingerprints(market)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    _run(elsewhere)
    child = os.fork()
    if child == 0:
        _kill_at(step=9)
        _run(paths)
        os._exit(0)  # never reached
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (paths.model("moe_mlp") / "model.safetensors").exists()
    left = [path.name for path in paths.checkpoints("moe_mlp").iterdir()]
    assert left == ["step-000000006.safetensors"]
    _run(paths)
    assert _bytes(paths) == _bytes(elsewhere)


def _kill_at(step: int) -> None:
    def lines(_name: str, _experts: tuple[str, ...]) -> object:
        def show(progress: Progress) -> None:
            if progress.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

        return show

    training_progress._lines = lines  # type: ignore[assignment]


def test_a_resumed_stage_trains_only_what_is_missing(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill after the last checkpoint leaves prediction alone to do."""

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "predict", broken)
        with pytest.raises(KeyboardInterrupt):
            _run(paths)
    with caplog.at_level(logging.INFO):
        _run(paths)
    assert "going on from step 12" in caplog.text


def test_the_oracle_alone_is_told_the_true_law(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its windows are routed by the law, those of the rule gate by the rule, told or not."""
    truth = {}
    for market, own in DATA.items():
        experts = (0, 5) if own.panel.modality == "chart" else (4, 4)
        law = np.where(own.panel.session % 2, *experts).astype(np.int8)
        truth[market] = replace(own, panel=replace(own.panel, law=law))
    config = toy_config(epochs=1)
    blind = pd.DataFrame()
    for told in (DATA, truth):
        monkeypatch.setattr(train.samples, "load", lambda *_, told=told: dict(told))
        train.run(paths, config, as_of=NIGHT, variant="moe_rule")
        rows = pd.read_parquet(paths.model("moe_rule") / "predictions.parquet")
        assert blind.empty or rows.equals(blind)
        blind = rows
        paths.fingerprints("toy_more").write_bytes(b"new, so that the stage trains again")
    train.run(paths, config, as_of=NIGHT, variant="moe_oracle")
    rows = pd.read_parquet(paths.model("moe_oracle") / "predictions.parquet")
    chosen = rows[[f"gate_{name}" for name in EXPERT_IDS]].to_numpy().argmax(1)
    law = np.where(rows.session % 2, 0, 5)
    assert np.array_equal(chosen, np.where(rows.market == "toy_surfaces", 4, law))


def test_an_oracle_of_real_bars_is_refused(paths: Paths) -> None:
    """Nobody knows their law."""
    with pytest.raises(DataError, match="oracle gate exists on simulated markets alone"):
        _run(paths, "moe_oracle")


def test_a_market_without_an_expert_is_left_out_by_name(
    paths: Paths, caplog: pytest.LogCaptureFixture
) -> None:
    """Chart experts alone leave the surfaces out, and say so."""
    config = toy_config(epochs=1)
    moe = config.moe.model_copy(update={"experts": ("equity_daily", "low_vol_etf")})
    train.run(paths, config.model_copy(update={"moe": moe}), as_of=NIGHT, variant="moe_mlp")
    assert "toy_surfaces is left out: moe.experts has no expert for a surface" in caplog.text
    card = json.loads((paths.model("moe_mlp") / "config.json").read_text())
    assert card["markets"] == ["toy_charts", "toy_more"]


def test_no_market_left_is_an_error(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a surface expert and only charts: nothing can be trained."""
    charts: dict[str, MarketData] = {"toy_charts": DATA["toy_charts"]}
    monkeypatch.setattr(train.samples, "load", lambda *_: charts)
    config = toy_config()
    moe = config.moe.model_copy(update={"experts": ("options_skew",)})
    with pytest.raises(DataError, match="no market has an expert"):
        train.run(paths, config.model_copy(update={"moe": moe}), as_of=NIGHT, variant="moe_mlp")


def _progress(step: int) -> Progress:
    return Progress(step, 40, 1 + step // 21, 0.69, 0.52, (0.25, 0.75))


def test_progress_is_lines_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines or so, with loss, accuracy, load and the time left."""
    console = Console(force_terminal=False)
    with (
        caplog.at_level(logging.INFO),
        training_progress.watch("moe", ("a", "b"), console=console) as show,
    ):
        for step in range(1, 41):
            show(_progress(step))
    assert len(caplog.messages) == 20
    assert (
        "step 40/40 epoch 2 loss 0.6900 accuracy 0.520 load a 0.25 b 0.75 0 s left" in caplog.text
    )


def test_progress_is_a_bar_on_a_terminal() -> None:
    """The bar shows the same figures."""
    console = Console(force_terminal=True, width=160, record=True)
    with training_progress.watch("moe", ("a", "b"), console=console) as show:
        show(_progress(40))
    text = console.export_text()
    assert "40/40" in text
    assert "load a 0.25 b 0.75" in text


def test_a_sliding_window_keeps_the_newest_sessions(paths: Paths) -> None:
    """Only training windows are dropped; an expanding window keeps all, a long one too."""
    own = DATA["toy_charts"]
    days = np.unique(own.panel.session[own.split.train])
    kept = newest(own, 30)
    assert np.array_equal(np.unique(kept.panel.session[kept.split.train]), days[-30:])
    assert np.array_equal(kept.split.validation, own.split.validation)
    assert np.array_equal(newest(own, 10_000).split.train, own.split.train)
    _run(paths)
    expanding = _bytes(paths)
    _run(paths, window=30)
    assert _bytes(paths)["model.safetensors"] != expanding["model.safetensors"]


def test_curves_hold_a_point_an_epoch_and_the_load_of_each_expert(paths: Paths) -> None:
    """What the registry logs to MLflow is the history, under names that say what it is."""
    _run(paths)
    points = curves.metrics(paths, ("cnn", "moe_mlp"), 0)
    history = read_json(paths.model("moe_mlp") / "history.json")
    found = {(point.key, point.step): point.value for point in points}
    for epoch in history:
        key = ("curve/moe_mlp/validation_loss", epoch["epoch"])
        assert found[key] == epoch["validation_loss"]
        loads = [found[f"load/moe_mlp/{expert}", epoch["epoch"]] for expert in EXPERT_IDS]
        assert loads == epoch["load"]


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the step; what the epoch before it learned is still there to go on from."""
    real, steps = training.draw, []

    def draw(*given: object, **named: object) -> object:
        steps.append(named["step"])
        return real(*given, **named)

    def loss(*given: object) -> object:
        return direction_loss(*given) * (np.nan if steps[-1] == 8 else 1.0)

    monkeypatch.setattr(training, "draw", draw)
    monkeypatch.setattr(training, "direction_loss", loss)
    with pytest.raises(ModelError, match="finite loss, got nan at step 9 of 12"):
        _run(paths)
    left = [path.name for path in paths.checkpoints("moe_mlp").iterdir()]
    assert left == ["step-000000006.safetensors"]


def test_a_full_disk_at_the_end_is_one_clear_error_and_keeps_the_checkpoint(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room, only the writing is left to do."""

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(train, "write_parquet", full)
        with pytest.raises(ModelError, match=r"cannot be written \(No space left on device\)"):
            _run(paths)
    left = [path.name for path in paths.checkpoints("moe_mlp").iterdir()]
    assert "step-000000012.safetensors" in left
    assert _run(paths)["steps"] == 12
