"""Ensembles: the mean of what the members say, one file of weights, one member as before."""

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import nn

from atlas.ensemble import Ensemble, build_trained, joined, member_seed
from atlas.inputs import gather
from atlas.moe import Network, build_model
from atlas.onnx_export import export, input_names
from atlas.prediction import predict, to_tensors
from atlas.windows import MarketData
from pipelines import curves, train
from pipelines.files import read_json
from pipelines.paths import Paths
from tests.toys import toy_config, toy_data

NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
DATA = toy_data(bars=250, test=30, validation=40)


def _stirred(seed: int, variant: str = "moe_mlp") -> Network:
    """Return a network that says something of its own, and is calibrated its own way."""
    torch.manual_seed(seed)
    model = build_model(toy_config(), variant=variant)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        model.calibration.platt.copy_(torch.tensor([1.0 + seed, 0.1 * seed]).expand(4, 2))
    return model


@pytest.fixture(scope="module")
def members() -> list[Network]:
    return [_stirred(seed) for seed in (1, 2, 3)]


def _said(model: nn.Module, own: MarketData, name: str) -> np.ndarray:
    assert isinstance(model, Network)
    return predict(model, own, own.split.test, market_index=0)[name]


@pytest.mark.parametrize("name", ["probability", "log_rv_predicted", "gate_probs"])
def test_it_says_the_mean_of_its_members(members: list[Network], name: str) -> None:
    """Of calibrated probabilities, of log variances, and of the gates."""
    own = DATA["toy_charts"]
    wanted = np.mean([_said(member, own, name) for member in members], axis=0)
    apart = _said(members[0], own, name)
    found = _said(Ensemble(members), own, name)
    assert found == pytest.approx(wanted, abs=2e-6)
    assert np.abs(found - apart).max() > 1e-3


def test_every_expert_that_a_member_asks_has_its_mean_weight(members: list[Network]) -> None:
    """Weights sum to 1, and charts never go to the surface's expert."""
    own = DATA["toy_charts"]
    weights, ids = (_said(Ensemble(members), own, f"expert_{n}") for n in ("weights", "ids"))
    assert weights.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(weights, axis=1) <= 0).all()
    assert not weights[ids == 4].any()


def test_one_member_is_no_ensemble(members: list[Network]) -> None:
    """Its weights keep their names, so earlier files still fit."""
    assert joined(members[:1]) is members[0]
    one = build_trained(toy_config(), variant="moe_mlp")
    assert one.state_dict().keys() == members[0].state_dict().keys()


def test_an_exported_ensemble_says_the_same(members: list[Network]) -> None:
    """Members are averaged inside one graph."""
    own, whole = DATA["toy_charts"], Ensemble(members)
    inputs = to_tensors(gather(own.panel, own.split.test, market_index=0))
    session = onnxruntime.InferenceSession(export(whole, inputs))
    given = {name: getattr(inputs, name).numpy() for name in input_names(whole)}
    (found,) = session.run(["probability"], given)
    assert found == pytest.approx(_said(whole, own, "probability"), abs=1e-5)


def test_the_stage_trains_members_of_their_own_seeds_and_keeps_those_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped in the second member, it goes on there; the first is the single network's twin."""
    monkeypatch.setattr(train.samples, "load", lambda *_: dict(DATA))
    paths, alone = Paths(tmp_path / "whole"), Paths(tmp_path / "alone")
    config = toy_config(epochs=1, ensemble=2)
    started: list[int] = []
    usual = train.train

    def stopped(*given: object, **named: object) -> object:
        started.append(int(str(named["seed"])))
        if len(started) == 2:
            raise KeyboardInterrupt
        return usual(*given, **named)

    monkeypatch.setattr(train, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        train.run(paths, config, as_of=NIGHT, variant="cnn")
    with caplog.at_level("INFO"):
        train.run(paths, config, as_of=NIGHT, variant="cnn")
    assert started == [1, member_seed(1, 1), 1, member_seed(1, 1)]
    assert "cnn 1 of 2: going on from step 6" in caplog.text
    train.run(alone, toy_config(epochs=1), as_of=NIGHT, variant="cnn")
    whole = build_trained(config, variant="cnn")
    import safetensors.torch

    content = (paths.model("cnn") / "model.safetensors").read_bytes()
    whole.load_state_dict(safetensors.torch.load(content))
    single = safetensors.torch.load((alone.model("cnn") / "model.safetensors").read_bytes())
    assert isinstance(whole, Ensemble)
    first, second = (member.state_dict() for member in whole.members)
    assert all(torch.equal(first[name], single[name]) for name in single)
    assert not all(torch.equal(second[name], single[name]) for name in single)
    rows = pd.read_parquet(paths.model("cnn") / "predictions.parquet")
    rows = rows[(rows.market == "toy_charts") & (rows.split == "test")]
    found = _said(whole, DATA["toy_charts"], "probability")
    assert rows.probability.to_numpy() == pytest.approx(found, abs=1e-6)
    assert {epoch["member"] for epoch in read_json(paths.model("cnn") / "history.json")} == {1, 2}
    assert "curve/cnn-2/loss" in {point.key for point in curves.metrics(paths, ("cnn",), 0)}
