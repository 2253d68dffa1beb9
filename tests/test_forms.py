"""The forms that are compared are what their names say: equal where they must be, else not."""

import pytest
import torch
from torch import nn

from atlas.gate import RandomGate
from atlas.moe import AtlasMoE
from benchmarks.balance import configuration
from benchmarks.form_costs import sizes
from benchmarks.forms import FORMS, DiscreteMoE, build_form
from tests.test_moe import batch, config, stirred


def _alike(form: str, **moe: object) -> tuple[AtlasMoE, AtlasMoE]:
    """A trained-looking dictionary mixture, and another form with the same weights everywhere."""
    shared, own = (build_form(name, config(**moe)).eval() for name in ("dictionary", form))
    assert isinstance(shared, AtlasMoE)
    assert isinstance(own, AtlasMoE)
    weights = stirred(shared).state_dict()
    own.load_state_dict(weights, strict=False)
    for expert in own.experts.values():
        if expert.dictionary is not None:
            expert.dictionary.load_state_dict(shared.trunk.dictionary.state_dict())
    if isinstance(own, DiscreteMoE):
        for trunk in own.trunks.values():
            trunk.load_state_dict(
                {k: v for k, v in shared.trunk.state_dict().items() if k in trunk.state_dict()}
            )
    return shared, own


@pytest.mark.parametrize("modality", ["chart", "surface"])
@pytest.mark.parametrize("form", ["answers", "kernels"])
def test_forms_agree_while_experts_own_the_same_kernels(form: str, modality: str) -> None:
    """Mixing equal kernels, or the answers of equal kernels, is the dictionary; then they part."""
    shared, own = _alike(form)
    inputs = batch(modality)
    torch.testing.assert_close(own(inputs).logit, shared(inputs).logit, atol=1e-5, rtol=1e-5)
    nn.init.normal_(own.experts["equity_daily"].dictionary.chart.weight)
    changed = (own(batch()).logit - shared(batch()).logit).abs() > 1e-6
    assert torch.equal(changed, (own(batch()).routing.expert_ids == 2).any(1))


def test_mixed_kernels_are_the_kernels_of_a_single_expert_where_it_takes_all() -> None:
    """With k = 1 each window is answered by its expert's own kernels, as `answers` does."""
    torch.manual_seed(2)
    answers, kernels = (build_form(form, config(k=1)).eval() for form in ("answers", "kernels"))
    stirred(answers)
    for expert in answers.experts.values():
        nn.init.normal_(expert.dictionary.series.weight)
        nn.init.normal_(expert.dictionary.chart.weight)
    kernels.load_state_dict(answers.state_dict())
    assert isinstance(kernels, AtlasMoE)
    torch.testing.assert_close(kernels(batch()).logit, answers(batch()).logit, atol=1e-4, rtol=1e-4)


def test_whole_networks_answer_only_what_is_sent_to_them() -> None:
    """With k = 1 and equal weights they are the dictionary; a stirred one moves its windows."""
    shared, own = _alike("discrete", k=1)
    assert isinstance(own, DiscreteMoE)
    shared.gate = own.gate = RandomGate(1)
    inputs = batch(rows=16)
    torch.testing.assert_close(own(inputs).logit, shared(inputs).logit, atol=1e-5, rtol=1e-5)
    sent = shared(inputs).routing.expert_ids[:, 0]
    chosen = sent == sent[0]
    assert 0 < int(chosen.sum()) < len(sent)
    nn.init.normal_(own.trunks[own.expert_ids[sent[0]]].body.join.weight)
    changed = (own(inputs).logit - shared(inputs).logit).abs() > 1e-6
    assert torch.equal(changed, chosen)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_learns(form: str) -> None:
    """Gradients reach the gate and, through it, what an expert owns."""
    torch.manual_seed(3)
    network = stirred(build_form(form, config()))
    network.explore(True)
    network(batch()).logit.sum().backward()
    named = dict(network.named_parameters())
    assert named["gate.layers.0.weight"].grad.abs().sum() > 0
    own = {
        "dictionary": "experts.crypto_hft.scale.chart",
        "answers": "experts.crypto_hft.dictionary.chart.weight",
        "kernels": "experts.crypto_hft.dictionary.chart.weight",
        "discrete": "trunks.low_vol_etf.dictionary.chart.weight",
    }
    assert named[own[form]].grad.abs().sum() > 0


def test_the_costs_of_every_form_can_be_counted() -> None:
    """Each is exported and trained a step; whole networks weigh most, shared kernels least."""
    found = sizes(configuration())
    assert set(found) == {"cnn", *FORMS}
    weights = {form: own["parameters"] for form, own in found.items()}
    assert weights["cnn"] < weights["dictionary"] < weights["kernels"] < weights["discrete"]
    assert all(own["kflop"] > 0 < own["training_mib"] for own in found.values())
