"""Pre-training of the kernels: what it learns, what it must not read, kills, and what is loaded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from atlas.config import ATLASConfig
from atlas.cuts import cut
from atlas.errors import DataError, ModelError
from atlas.masking import BLOCK
from atlas.moe import Network, build_model
from atlas.pretraining import Pretrained, load_kernels, pretrain, spans, unlabelled
from atlas.training_state import TrainingState
from atlas.windows import WINDOW, MarketData, label
from tests.toys import toy_config, toy_data

DATA = toy_data(bars=260, test=40, validation=30)
CONFIG = toy_config(epochs=2, windows_per_epoch=24 * 8, batch=24)


@pytest.fixture(scope="module")
def found() -> Pretrained:
    return pretrain(CONFIG, DATA, seed=1)


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_what_a_straight_line_does_not_tell() -> None:
    """On surfaces that tend to reverse, held-out moves are told better than by the baseline."""
    data = toy_data(bars=800, test=40, validation=30)
    data = {"toy_surfaces": data["toy_surfaces"]}  # the quickest to be learned
    training = toy_config(epochs=2, windows_per_epoch=32 * 40, batch=32, learning_rate=0.04)
    model = CONFIG.model.model_copy(update={"hidden": 32})
    config = training.model_copy(update={"model": model})
    history = pretrain(config, data, seed=1).history
    assert history[-1].held_move < 0.985
    assert history[-1].held < history[0].held
    assert [epoch.step for epoch in history] == [40, 80]


def test_two_runs_are_the_same_bits(found: Pretrained) -> None:
    """Kernels, loss curve and shares; another seed gives others."""
    again = pretrain(CONFIG, DATA, seed=1)
    assert _same(again.weights, found.weights)
    assert (again.history, again.markets) == (found.history, found.markets)
    assert not _same(pretrain(CONFIG, DATA, seed=2).weights, found.weights)


def test_a_killed_run_goes_on_to_the_same_bits(found: Pretrained) -> None:
    """From the checkpoint of the first epoch, as from the beginning."""
    kept: list[TrainingState] = []

    def killed(state: TrainingState) -> None:
        kept.append(state)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(CONFIG, DATA, seed=1, checkpoint=killed)
    resumed = pretrain(CONFIG, DATA, seed=1, resume=kept[0])
    assert _same(resumed.weights, found.weights)
    assert resumed.history == found.history
    with pytest.raises(ModelError, match="expected seed 2, got 1: it is of another pre-training"):
        pretrain(CONFIG, DATA, seed=2, resume=kept[0])


def test_no_bar_after_the_cut_is_read(found: Pretrained) -> None:
    """With every bar from the first validation session on poisoned, the kernels are the same bits.

    Labels and cut are made anew from the poisoned bars, as a night would make them.
    """
    data = {market: _poisoned(own) for market, own in DATA.items()}
    poisoned = pretrain(CONFIG, data, seed=1)
    assert _same(poisoned.weights, found.weights)
    assert poisoned.markets == found.markets


def _poisoned(own: MarketData) -> MarketData:
    panel, first = own.panel, own.panel.session[own.split.validation].min()
    late = panel.session >= first
    values = panel.values.copy()
    wild = np.random.default_rng(9).lognormal(1.0, 1.0, int(late.sum()))
    if panel.modality == "surface":
        values[late] *= wild[:, None, None]
    else:
        values[:, late] *= wild
    assert not np.array_equal(values, panel.values)
    other = replace(panel, values=values)
    kind = own.labels.question.kind
    labels = label(other, kind=kind, measure="butterfly")
    return MarketData(other, labels, cut(other, labels, test=40, validation=30, horizon=1))


def test_windows_need_no_label_and_end_where_training_ends() -> None:
    """Windows without a label count too; no learned window holds what is asked of held-out ones."""
    own = DATA["toy_charts"]
    sparse = replace(own, split=replace(own.split, train=own.split.train[::7]))
    task = unlabelled(sparse, BLOCK.reach).split
    assert len(task.train) > 3 * len(sparse.split.train)
    ends = np.concatenate([task.train, task.validation])
    assert own.panel.index[ends].min() == WINDOW - 1
    assert ends.max() <= sparse.split.train.max()
    assert not len(task.test)
    learned = own.panel.session[task.train].max()
    hidden_from = task.validation - BLOCK.reach + 1
    assert own.panel.session[hidden_from].min() > learned
    last = own.panel.session[sparse.split.train].max()
    assert own.panel.session[ends].max() <= last == spans({"toy_charts": sparse})["toy_charts"]


def _config(**moe: object) -> ATLASConfig:
    return CONFIG.model_copy(update={"moe": CONFIG.moe.model_copy(update=moe)})


def _built(variant: str, config: ATLASConfig = CONFIG) -> Network:
    torch.manual_seed(5)
    return build_model(config, variant=variant)


@pytest.mark.parametrize(
    ("variant", "bank", "taken"),
    [("moe_mlp", "dictionary", 6), ("moe_rule", "expert", 6 + 6 * 4), ("cnn", "dictionary", 6)],
)
def test_stem_and_kernels_are_loaded_and_nothing_else(
    found: Pretrained, variant: str, bank: str, taken: int
) -> None:
    """Every bank gets them, an expert's own too; all other weights and buffers stay."""
    config = _config(bank=bank)
    model, before = _built(variant, config), _built(variant, config).state_dict()
    load_kernels(model, found.weights)
    changed = [n for n, t in model.state_dict().items() if not torch.equal(t, before[n])]
    assert all(".stem." in f".{n}" or ".dictionary." in n for n in changed)
    assert len(changed) == taken
    assert torch.equal(
        model.get_parameter("trunk.dictionary.series.weight"),
        found.weights["dictionary.series.weight"],
    )


def test_a_network_without_charts_takes_the_series_kernels(found: Pretrained) -> None:
    """The 1-D network has no stem: what it has is loaded."""
    model = _built("cnn_1d")
    load_kernels(model, found.weights)
    name = "dictionary.series.weight"
    assert torch.equal(model.get_parameter(f"trunk.{name}"), found.weights[name])


def test_kernels_that_do_not_fit_are_refused(found: Pretrained) -> None:
    """By name and shape, before any other network is trained."""
    name = "dictionary.series.weight"
    broken = {**found.weights, name: found.weights[name][:, :-1]}
    with pytest.raises(
        ModelError, match=r"do not fit: dictionary.series.weight: expected \(30, 50"
    ):
        load_kernels(_built("cnn"), broken)
    del broken[name]
    with pytest.raises(ModelError, match="got none"):
        load_kernels(_built("cnn"), broken)


def test_a_history_too_short_to_hold_anything_out_is_named() -> None:
    """One session of windows leaves none to judge on."""
    own = DATA["toy_charts"]
    days = own.panel.session[own.split.train]
    short = own.split.train[days == days.min()]
    one = {"toy_charts": replace(own, split=replace(own.split, train=short))}
    with pytest.raises(DataError, match="expected held-out windows"):
        pretrain(CONFIG, one, seed=1)
