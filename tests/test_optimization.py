"""How weights move: rates, decay, an owner of its own for some, and their average."""

import pytest
import torch

from atlas.optimization import build_optimizers, learning_rate, owner_of, parameter_groups
from atlas.training_state import TrainingState, WeightAverage
from atlas.windows import MarketData
from tests.test_training import built, same, trained
from tests.toys import toy_config, toy_data


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data(bars=260, test=40, validation=40)


def test_the_learning_rate_rises_and_falls() -> None:
    """It reaches its peak after a tenth of the steps and ends near a fiftieth of it."""
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates.index(max(rates)) in (9, 10)
    assert max(rates) == 1.0
    assert rates[-1] == pytest.approx(0.02, abs=0.002)


def test_scales_shifts_gates_and_biases_are_not_decayed() -> None:
    """Only weights that mix inputs are drawn towards zero; every weight is in one group."""
    model = built()
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
    model = built()
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
    first = {name: tensor.clone() for name, tensor in built().state_dict().items()}
    weights, _ = trained(data, epochs=1, **OWN)
    gate = [name for name in weights if name.startswith("gate")]
    heads = [name for name in weights if name.endswith("equity_daily.head.weight")]
    assert gate
    assert heads
    assert all(torch.allclose(weights[name], first[name], atol=1e-6) for name in gate)
    assert not any(torch.allclose(weights[name], first[name], atol=1e-6) for name in heads)


def test_own_optimizers_resume_to_the_same_bits(data: dict[str, MarketData]) -> None:
    """The moments of every optimizer are in the checkpoint, not only the shared one's."""
    states: list[TrainingState] = []
    trained(data, checkpoint=states.append, **OWN)
    first, last = states[0], states[-1]
    cut = {n: t for n, t in first.tensors.items() if not n.startswith("optimizer.1.")}
    for start, is_same in ((first, True), (TrainingState(cut, first.meta), False)):
        resumed: list[TrainingState] = []
        trained(data, resume=start, checkpoint=resumed.append, **OWN)
        assert same(resumed[-1].tensors, last.tensors) == is_same


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
