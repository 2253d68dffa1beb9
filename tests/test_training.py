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
from atlas.optimization import build_optimizers, learning_rate, owner_of, parameter_groups
from atlas.parallel import open_fabric
from atlas.prediction import predict
from atlas.progress import Progress, TrainingResult
from atlas.sampling import collate, draw
from atlas.training import train
from atlas.training_state import TrainingState, WeightAverage
from atlas.windows import MarketData
from tests.toys import toy_config, toy_data

SEED = 3


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data(bars=260, test=40, validation=40)


def _built(variant: str = "moe_mlp") -> Network:
    torch.manual_seed(SEED)
    return build_model(toy_config(), variant=variant)


def _trained(
    data: dict[str, MarketData],
    *,
    variant: str = "moe_mlp",
    checkpoint: Callable[[TrainingState], None] | None = None,
    resume: TrainingState | None = None,
    **settings: object,
) -> tuple[dict[str, Tensor], TrainingResult]:
    model = _built(variant)
    result = train(
        model,
        data,
        toy_config(**settings).training,
        seed=SEED,
        checkpoint=checkpoint,
        resume=resume,
    )
    return model.state_dict(), result


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.fixture(scope="module")
def states() -> list[TrainingState]:
    """What the undisturbed run handed to its checkpoint callback."""
    return []


@pytest.fixture(scope="module")
def undisturbed(
    data: dict[str, MarketData], states: list[TrainingState]
) -> tuple[dict[str, Tensor], TrainingResult]:
    return _trained(data, checkpoint=states.append)


def test_two_runs_give_the_same_bits(
    data: dict[str, MarketData], undisturbed: tuple[dict[str, Tensor], TrainingResult]
) -> None:
    """Weights, history and calibration are equal to the last bit."""
    torch.rand(7)  # whatever the caller drew before does not matter
    weights, result = _trained(data)
    assert _same(weights, undisturbed[0])
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
            _built(),
            data,
            toy_config().training,
            seed=SEED,
            checkpoint=kept.append,
            progress=stop,
        )
    assert [state.meta["step"] for state in kept] == [6]
    weights, result = _trained(data, resume=kept[0])
    assert _same(weights, undisturbed[0])
    assert result == undisturbed[1]


def test_a_checkpoint_is_not_changed_by_the_steps_after_it(
    data: dict[str, MarketData],
    states: list[TrainingState],
    undisturbed: tuple[dict[str, Tensor], TrainingResult],
) -> None:
    """The states handed out are copies: resumed at the end of the run, each gives its bits."""
    assert [state.meta["step"] for state in states] == [6, 12, 18]
    for state in states[1:]:
        weights, result = _trained(data, resume=state)
        assert _same(weights, undisturbed[0])
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
        _trained(data, resume=states[0], **change)


@pytest.mark.usefixtures("undisturbed")
def test_a_checkpoint_of_another_network_is_refused(
    data: dict[str, MarketData], states: list[TrainingState]
) -> None:
    """Weights that do not fit are an error of one line, not a traceback of torch."""
    with pytest.raises(ModelError, match="does not fit this model"):
        _trained(data, variant="cnn", resume=states[0])


@pytest.mark.parametrize("variant", ["cnn", "moe_rule", "moe_mlp"])
def test_a_network_starts_as_its_base(data: dict[str, MarketData], variant: str) -> None:
    """Before any step the logit is the base's; the base beats a coin on the toy's law."""
    model = _built(variant)
    training.install_base(model, data)
    for index, (market, own) in enumerate(data.items()):
        found = training.raw_predictions(model, own, own.split.validation, market_index=index)
        assert np.array_equal(found.logit, found.base_logit), market
        y = own.labels.direction[own.split.validation]
        assert ((found.logit > 0) == (y > 0.5)).mean() > 0.6


def test_the_loss_falls(data: dict[str, MarketData], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its base's help the network finds the toy's law in the charts."""
    monkeypatch.setattr(training, "install_base", lambda _model, _data: None)
    _, result = _trained(
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
    weights, result = _trained(poisoned)
    assert _same(weights, undisturbed[0])
    assert result == undisturbed[1]


def test_validation_rows_change_only_calibration(data: dict[str, MarketData]) -> None:
    """Turning validation labels around changes α and Platt scaling, and no other weight."""
    turned = {}
    for market, own in data.items():
        direction = own.labels.direction.copy()
        direction[own.split.validation] = 1 - direction[own.split.validation]
        turned[market] = replace(own, labels=replace(own.labels, direction=direction))
    weights, _ = _trained(data, epochs=1)
    others, _ = _trained(turned, epochs=1)
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
        model = _built()
        chosen = toy_config(warm_start_share=share, **settings).training
        train(model, data, chosen, seed=SEED)
        shares[share] = _agreement(model, data)
    assert shares[1.0] > 0.85
    assert shares[0.0] < 0.75


def test_the_gate_asks_every_expert_for_a_share_of_the_steps(data: dict[str, MarketData]) -> None:
    """It explores up to the share, is judged with k experts, and ends with k."""
    model, asked = _built(), []
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
    model = _built("cnn")
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
    weights, result = _trained(data, epochs=4, checkpoint=states.append)
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
        _trained(empty, epochs=1)


def test_progress_is_told_at_every_step(data: dict[str, MarketData]) -> None:
    """Steps count up to the total; loads are shares of six experts."""
    seen: list[Progress] = []
    train(_built(), data, toy_config(epochs=1).training, seed=SEED, progress=seen.append)
    assert [one.step for one in seen] == [1, 2, 3, 4, 5, 6]
    assert {one.steps for one in seen} == {6}
    assert all(len(one.load) == 6 and sum(one.load) == pytest.approx(1) for one in seen)


def test_predictions_do_not_depend_on_the_chunk(
    data: dict[str, MarketData], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window's probability is its own, whatever it is batched with."""
    model = _built()
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
    _trained(data, epochs=1)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    model_draws = torch.get_rng_state()
    torch.manual_seed(SEED)
    _built()
    assert torch.equal(model_draws, torch.get_rng_state())
    torch.set_rng_state(state)


def test_the_learning_rate_rises_and_falls() -> None:
    """It reaches its peak after a tenth of the steps and ends near a fiftieth of it."""
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.02, abs=0.002)


def test_scales_shifts_gates_and_biases_are_not_decayed() -> None:
    """Only weights that mix inputs are drawn towards zero; every weight is in one group."""
    model = _built()
    groups = parameter_groups(model.named_parameters(), 0.1)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decayed = {names[id(w)] for g in groups if g["weight_decay"] > 0 for w in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(names)
    assert any("join.weight" in name for name in decayed)
    for name in decayed:
        assert not any(word in name for word in ("bias", "gate", "scale", "shift")), name


OWN = {
    "experts": {
        "equity_daily": {"optimizer": "sgd", "learning_rate": 0.05},
        "options_skew": {"optimizer": "nadam"},
    },
    "gate": {"learning_rate": 1e-9},
}


def test_every_weight_moves_by_the_rule_of_its_owner() -> None:
    """Experts and gate with a rule of their own have their own optimizer; the rest share one."""
    model = _built()
    optimizers = build_optimizers(model, *toy_config(learning_rate=2e-3, **OWN).training.rules())
    owners = {id(weight): owner_of(name) for name, weight in model.named_parameters()}
    found = {}
    for optimizer in optimizers:
        held = [w for group in optimizer.param_groups for w in group["params"]]
        kinds = {owners[id(weight)] for weight in held}
        named = kinds & {"equity_daily", "options_skew", "gate"}
        rate = {group["peak"] for group in optimizer.param_groups}
        found[named.pop() if named else "shared"] = (type(optimizer).__name__, rate)
        assert len(kinds) == 1 or not kinds & {"equity_daily", "options_skew", "gate"}
    assert found == {
        "shared": ("AdamW", {2e-3}),
        "equity_daily": ("SGD", {0.05}),
        "options_skew": ("NAdam", {2e-3}),
        "gate": ("AdamW", {1e-9}),
    }
    counted = sum(len(group["params"]) for o in optimizers for group in o.param_groups)
    assert counted == len(owners)


def test_a_gate_without_a_rate_stays_and_experts_move(data: dict[str, MarketData]) -> None:
    """The rates reach the weights: a vanishing one leaves the gate where it began."""
    first = {name: tensor.clone() for name, tensor in _built().state_dict().items()}
    weights, _ = _trained(data, epochs=1, **OWN)
    gate = [name for name in weights if name.startswith("gate")]
    heads = [name for name in weights if name.endswith("equity_daily.head.weight")]
    assert gate
    assert heads
    assert all(torch.allclose(weights[name], first[name], atol=1e-6) for name in gate)
    assert not any(torch.allclose(weights[name], first[name], atol=1e-6) for name in heads)


def test_own_optimizers_resume_to_the_same_bits(data: dict[str, MarketData]) -> None:
    """The moments of every optimizer are in the checkpoint, not only the shared one's."""
    states: list[TrainingState] = []
    _trained(data, checkpoint=states.append, **OWN)
    first, last = states[0], states[-1]
    cut = {n: t for n, t in first.tensors.items() if not n.startswith("optimizer.1.")}
    for start, is_same in ((first, True), (TrainingState(cut, first.meta), False)):
        resumed: list[TrainingState] = []
        _trained(data, resume=start, checkpoint=resumed.append, **OWN)
        assert _same(resumed[-1].tensors, last.tensors) == is_same


def test_averaged_weights_are_the_mean_of_those_seen() -> None:
    """The mean is uniform, and swapping twice changes nothing."""
    layer = torch.nn.Linear(2, 1, bias=False)
    average = WeightAverage(layer)
    for value in (1.0, 2.0, 6.0):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
    average.swap()
    assert layer.weight.tolist() == [[pytest.approx(3.0)] * 2]
    average.swap()
    assert layer.weight.tolist() == [[6.0, 6.0]]


def test_a_step_s_loss_is_the_mean_over_markets(data: dict[str, MarketData]) -> None:
    """With no extras, both modalities' shares sum to the mean of the markets' log-losses."""
    model = _built("cnn")
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
