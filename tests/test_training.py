"""Training: the same bits always, no look at test rows, a start at the rule and the base."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from atlas import training
from atlas.errors import DataError, ModelError
from atlas.moe import AtlasMoE, Network, build_model
from atlas.parallel import open_fabric
from atlas.prediction import predict
from atlas.progress import Progress, TrainingResult
from atlas.sampling import collate, draw
from atlas.training import train
from atlas.training_state import TrainingState
from atlas.windows import MarketData
from tests.toys import toy_config, toy_data

SEED = 3


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data(bars=260, test=40, validation=40)


def built(variant: str = "moe_mlp") -> Network:
    torch.manual_seed(SEED)
    return build_model(toy_config(), variant=variant)


def trained(
    data: dict[str, MarketData],
    *,
    variant: str = "moe_mlp",
    checkpoint: Callable[[TrainingState], None] | None = None,
    resume: TrainingState | None = None,
    **settings: object,
) -> tuple[dict[str, Tensor], TrainingResult]:
    model = built(variant)
    result = train(
        model,
        data,
        toy_config(**settings).training,
        seed=SEED,
        checkpoint=checkpoint,
        resume=resume,
    )
    return model.state_dict(), result


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.fixture(scope="module")
def states() -> list[TrainingState]:
    """What the undisturbed run handed to its checkpoint callback."""
    return []


@pytest.fixture(scope="module")
def undisturbed(
    data: dict[str, MarketData], states: list[TrainingState]
) -> tuple[dict[str, Tensor], TrainingResult]:
    return trained(data, checkpoint=states.append)


def test_two_runs_give_the_same_bits(
    data: dict[str, MarketData], undisturbed: tuple[dict[str, Tensor], TrainingResult]
) -> None:
    """Weights, history and calibration are equal to the last bit."""
    torch.rand(7)  # whatever the caller drew before does not matter
    weights, result = trained(data)
    assert same(weights, undisturbed[0])
    assert result == undisturbed[1]


def test_a_killed_run_resumes_to_the_same_bits(
    data: dict[str, MarketData], undisturbed: tuple[dict[str, Tensor], TrainingResult]
) -> None:
    """Killed in its second epoch, it goes on from the first and ends where the other ends."""
    kept: list[TrainingState] = []

    def stop(progress: Progress) -> None:
        if progress.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            built(),
            data,
            toy_config().training,
            seed=SEED,
            checkpoint=kept.append,
            progress=stop,
        )
    assert [state.meta["step"] for state in kept] == [6]
    weights, result = trained(data, resume=kept[0])
    assert same(weights, undisturbed[0])
    assert result == undisturbed[1]


def test_a_checkpoint_is_not_changed_by_the_steps_after_it(
    data: dict[str, MarketData],
    states: list[TrainingState],
    undisturbed: tuple[dict[str, Tensor], TrainingResult],
) -> None:
    """The states handed out are copies: resumed at the end of the run, each gives its bits."""
    assert [state.meta["step"] for state in states] == [6, 12, 18]
    for state in states[1:]:
        weights, result = trained(data, resume=state)
        assert same(weights, undisturbed[0])
        assert result == undisturbed[1]


@pytest.mark.parametrize(
    ("change", "named"), [({"epochs": 4}, "steps 24, got 18"), ({"batch": 12}, "steps 36, got 18")]
)
@pytest.mark.usefixtures("undisturbed")
def test_a_checkpoint_of_another_training_is_refused(
    data: dict[str, MarketData],
    states: list[TrainingState],
    change: dict[str, int],
    named: str,
) -> None:
    """It is named what differs."""
    with pytest.raises(ModelError, match=f"expected {named}"):
        trained(data, resume=states[0], **change)


@pytest.mark.usefixtures("undisturbed")
def test_a_checkpoint_of_another_network_is_refused(
    data: dict[str, MarketData], states: list[TrainingState]
) -> None:
    """Weights that do not fit are an error of one line, not a traceback of torch."""
    with pytest.raises(ModelError, match="does not fit this model"):
        trained(data, variant="cnn", resume=states[0])


@pytest.mark.parametrize("variant", ["cnn", "moe_rule", "moe_mlp"])
def test_a_network_starts_as_its_base(data: dict[str, MarketData], variant: str) -> None:
    """Before any step the logit is the base's; the base beats a coin on the toy's law."""
    model = built(variant)
    training.install_base(model, data)
    for index, (market, own) in enumerate(data.items()):
        found = training.raw_predictions(model, own, own.split.validation, market_index=index)
        assert np.array_equal(found.logit, found.base_logit), market
        y = own.labels.direction[own.split.validation]
        assert ((found.logit > 0) == (y > 0.5)).mean() > 0.6


def test_the_loss_falls(data: dict[str, MarketData], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its base's help the network finds the toy's law in the charts."""
    monkeypatch.setattr(training, "install_base", lambda _model, _data: None)
    _, result = trained(
        data, variant="cnn", epochs=2, windows_per_epoch=40 * 48, batch=48, learning_rate=1e-2
    )
    losses = [epoch.validation_log_loss for epoch in result.history]
    assert losses[-1] < math.log(2) - 0.1
    assert result.history[-1].loss < result.history[0].loss


def test_test_rows_change_no_weight(
    data: dict[str, MarketData], undisturbed: tuple[dict[str, Tensor], TrainingResult]
) -> None:
    """Poisoning every bar and label from the first test session on leaves all bits as they were."""
    poisoned = {}
    for market, own in data.items():
        panel, labels = own.panel, own.labels
        late = panel.session >= panel.session[own.split.test].min()
        values, fingerprint = panel.values.copy(), panel.fingerprint.copy()
        if panel.modality == "chart":
            values[:, late] *= 7.0
        else:
            values[late] *= 7.0
        fingerprint[late] = 1e6
        direction, log_rv = labels.direction.copy(), labels.log_rv.copy()
        direction[late] = 1 - direction[late]
        log_rv[late] = 50.0
        poisoned[market] = MarketData(
            replace(panel, values=values, fingerprint=fingerprint),
            replace(labels, direction=direction, log_rv=log_rv),
            own.split,
        )
    weights, result = trained(poisoned)
    assert same(weights, undisturbed[0])
    assert result == undisturbed[1]


def test_validation_rows_change_only_calibration(data: dict[str, MarketData]) -> None:
    """Turning validation labels around changes α and Platt scaling, and no other weight."""
    turned = {}
    for market, own in data.items():
        direction = own.labels.direction.copy()
        direction[own.split.validation] = 1 - direction[own.split.validation]
        turned[market] = replace(own, labels=replace(own.labels, direction=direction))
    weights, _ = trained(data, epochs=1)
    others, _ = trained(turned, epochs=1)
    changed = {name for name in weights if not torch.equal(weights[name], others[name])}
    assert changed
    assert changed <= {"calibration.alpha", "calibration.platt"}


def _agreement(model: Network, data: dict[str, MarketData]) -> float:
    """Return how often the gate's first choice is the rule's expert, on chart windows."""
    assert isinstance(model, AtlasMoE)
    hits = []
    for index, own in enumerate(data.values()):
        if own.panel.modality == "chart":
            ends = own.split.validation
            found = predict(model, own, ends, market_index=index)
            hits.append(found["gate_probs"].argmax(1) == own.panel.rule[ends])
    return float(np.concatenate(hits).mean())


def test_the_gate_first_learns_to_agree_with_the_rule(data: dict[str, MarketData]) -> None:
    """While the warm start lasts the MLP gate comes to choose as the rule does; without, not."""
    settings = {"epochs": 1, "windows_per_epoch": 40 * 48, "batch": 48, "learning_rate": 1e-2}
    shares = {}
    for share in (0.0, 1.0):
        model = built()
        chosen = toy_config(warm_start_share=share, **settings).training
        train(model, data, chosen, seed=SEED)
        shares[share] = _agreement(model, data)
    assert shares[1.0] > 0.85
    assert shares[0.0] < 0.75


def test_the_gate_asks_every_expert_for_a_share_of_the_steps(data: dict[str, MarketData]) -> None:
    """It explores up to the share, is judged with k experts, and ends with k."""
    model, asked = built(), []
    plain = model.explore

    def watched(on: bool) -> None:
        asked.append(on)
        plain(on)

    model.explore = watched  # type: ignore[method-assign]
    train(model, data, toy_config(explore_share=0.5, epochs=2).training, seed=SEED)
    half = len(asked) // 2
    assert asked[0]
    assert not any(asked[half:])
    assert asked.index(False) >= half - 2
    assert not model.gate.explores


def test_a_loss_that_is_not_finite_stops_the_training(data: dict[str, MarketData]) -> None:
    """The error says where and what to do, before the weights are touched."""
    model = built("cnn")
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(ModelError, match="finite loss, got nan at step 1 of 18 on chart windows"):
        train(model, data, toy_config().training, seed=SEED)


def test_training_stops_early_and_keeps_the_best_epoch(
    data: dict[str, MarketData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs without a better validation loss end it; the weights are the best epoch's."""
    scores = iter([0.6, 0.7, 0.8, 0.5])
    monkeypatch.setattr(training, "_validate", lambda *_: np.array([next(scores), 0.5, 0.0, 1.0]))
    states: list[TrainingState] = []
    weights, result = trained(data, epochs=4, checkpoint=states.append)
    assert (result.steps, result.best_epoch, len(result.history)) == (18, 1, 3)
    best = {n[5:]: t for n, t in states[0].tensors.items() if n.startswith("best.")}
    kept = {n for n in weights if not n.startswith("calibration.")}
    assert all(torch.equal(weights[name], best[name]) for name in kept)


def test_no_validation_window_at_all_is_an_error(data: dict[str, MarketData]) -> None:
    """Early stopping and calibration need something to look at."""
    empty = {
        market: replace(own, split=replace(own.split, validation=own.split.validation[:0]))
        for market, own in data.items()
    }
    with pytest.raises(DataError, match="no market has a validation window"):
        trained(empty, epochs=1)


def test_progress_is_told_at_every_step(data: dict[str, MarketData]) -> None:
    """Steps count up to the total; loads are shares of six experts."""
    seen: list[Progress] = []
    train(built(), data, toy_config(epochs=1).training, seed=SEED, progress=seen.append)
    assert [one.step for one in seen] == [1, 2, 3, 4, 5, 6]
    assert {one.steps for one in seen} == {6}
    assert all(len(one.load) == 6 and sum(one.load) == pytest.approx(1) for one in seen)


def test_predictions_do_not_depend_on_the_chunk(
    data: dict[str, MarketData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window's probability is its own, whatever it is batched with."""
    model = built()
    train(model, data, toy_config().training, seed=SEED)
    own = data["toy_more"]
    whole = predict(model, own, own.split.test, market_index=1)
    monkeypatch.setattr("atlas.prediction.CHUNK", 7)
    parts = predict(model, own, own.split.test, market_index=1)
    assert whole["probability"] == pytest.approx(parts["probability"], abs=1e-6)
    assert whole["gate_probs"].shape == (len(own.split.test), 6)
    assert ((whole["probability"] > 0) & (whole["probability"] < 1)).all()


def test_the_caller_s_torch_is_left_as_it_was(data: dict[str, MarketData]) -> None:
    """Threads, determinism and the generator are put back."""
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    state = torch.get_rng_state()
    trained(data, epochs=1)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    model_draws = torch.get_rng_state()
    torch.manual_seed(SEED)
    built()
    assert torch.equal(model_draws, torch.get_rng_state())
    torch.set_rng_state(state)


def test_a_step_s_loss_is_the_mean_over_markets(data: dict[str, MarketData]) -> None:
    """With no extras, both modalities' shares sum to the mean of the markets' log-losses."""
    model = built("cnn")
    training.install_base(model, data)
    settings = toy_config(volatility_weight=0.0).training
    run = training._Run(model, data, settings, SEED, open_fabric())
    ends = draw(data, batch=24, seed=1, step=0)
    total = sum(run._loss(batch)[0].item() for batch in collate(data, ends, model.markets))
    means = []
    for index, (market, own) in enumerate(data.items()):
        logit = predict(model, own, ends[market], market_index=index)["logit"]
        means.append(training.log_loss(logit, own.labels.direction[ends[market]]))
    assert total == pytest.approx(np.mean(means), rel=1e-5)
