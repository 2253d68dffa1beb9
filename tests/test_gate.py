"""Gates: top-k, modalities, and losses that keep experts in use."""

import numpy as np
import pytest
import torch
from torch import Tensor

from atlas.gate import (
    MLPGate,
    RandomGate,
    RuleGate,
    UniformGate,
    dense_weights,
    entropy_balance,
    route,
    switch_balance,
)

CHARTS = torch.tensor([True, True, True, True, False, True])
SURFACES = ~CHARTS


def test_top_k_keeps_the_largest_and_makes_them_sum_to_one() -> None:
    """.5, .3 of .5, .3, .2 become .625 and .375; the full probabilities are kept beside."""
    probs = torch.tensor([[0.2, 0.5, 0.0, 0.3, 0.0, 0.0]])
    routing = route(probs, CHARTS, 2)
    assert routing.expert_ids.tolist() == [[1, 3]]
    torch.testing.assert_close(routing.expert_weights, torch.tensor([[0.625, 0.375]]))
    assert routing.gate_probs is probs


@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize("name", ["rule", "mlp", "uniform", "random"])
def test_gates_stay_within_the_modality(name: str, k: int) -> None:
    """Probabilities and weights sum to 1 over allowed experts; k = min(k, experts left)."""
    torch.manual_seed(0)
    gate = {
        "rule": RuleGate(k),
        "mlp": MLPGate(4, 6, k),
        "uniform": UniformGate(6),
        "random": RandomGate(k),
    }[name]
    features = torch.randn(50, 4)
    for allowed, rule in ((CHARTS, 2), (SURFACES, 4)):
        routing = gate(features, torch.full((50,), rule), allowed)
        left = int(allowed.sum())
        assert routing.expert_ids.shape[1] == (left if name == "uniform" else min(k, left))
        assert allowed[routing.expert_ids].all()
        assert (routing.gate_probs[:, ~allowed] == 0).all()
        torch.testing.assert_close(routing.gate_probs.sum(1), torch.ones(50))
        torch.testing.assert_close(routing.expert_weights.sum(1), torch.ones(50))


def test_the_rule_gate_gives_all_weight_to_the_named_expert() -> None:
    """The first choice is the rule's, the second has no weight."""
    rule = torch.tensor([0, 5, 3])
    routing = RuleGate(2)(torch.zeros(3, 4), rule, CHARTS)
    assert routing.expert_ids[:, 0].tolist() == rule.tolist()
    assert routing.expert_weights.tolist() == [[1, 0]] * 3


def test_the_random_gate_is_fixed_by_the_row_and_tells_nothing() -> None:
    """A window goes the same way in any batch; loads are even; another seed differs."""
    features = torch.randn(3_000, 26, generator=torch.Generator().manual_seed(1))
    rule = torch.zeros(3_000, dtype=torch.long)
    ids = RandomGate(2)(features, rule, CHARTS).expert_ids[:, 0]
    alone = RandomGate(2)(features[100:101], rule[:1], CHARTS).expert_ids[:, 0]
    assert ids[100] == alone[0]
    load = torch.bincount(ids, minlength=6) / len(ids)
    torch.testing.assert_close(load[CHARTS], torch.full((5,), 0.2), atol=0.04, rtol=0)
    assert (
        RandomGate(2, seed=2)(features, rule, CHARTS).expert_ids[:, 0] != ids
    ).float().mean() > 0.5
    nudged = RandomGate(2)(features + 1e-3, rule, CHARTS).expert_ids[:, 0]
    assert (nudged != ids).float().mean() > 0.5


def test_the_random_gates_hash_is_the_same_in_every_version() -> None:
    """A registered ablation goes on sending a window where it was trained to."""
    features = torch.tensor([[0.5, -1.25, 0.0], [0.5, -1.25, 0.001], [3.0, 2.0, 1.0]])
    routing = RandomGate(2)(features, torch.zeros(3, dtype=torch.long), torch.ones(6).bool())
    assert routing.expert_ids.tolist() == [[0, 2], [4, 5], [4, 1]]
    expected = torch.tensor([0.3157, 0.2047, 0.2415, 0.0628, 0.0396, 0.1358])
    torch.testing.assert_close(routing.gate_probs[0], expected, atol=1e-4, rtol=0)


def test_a_collapsed_gate_scores_worse() -> None:
    """Both balancing losses are 0 for even use and largest when one expert takes all."""
    even, collapsed = torch.full((8, 4), 0.25), torch.eye(4)[torch.zeros(8, dtype=torch.long)]
    decided = torch.eye(4).repeat(2, 1)  # each window certain, all experts used
    for loss, worst in ((entropy_balance, np.log(4)), (lambda p: switch_balance(p, 1), 3.0)):
        assert float(loss(even)) == pytest.approx(0, abs=1e-6)
        assert float(loss(decided)) == pytest.approx(0, abs=1e-6)
        assert float(loss(collapsed)) == pytest.approx(worst, abs=1e-6)


def test_switch_counts_every_one_of_the_k_places() -> None:
    """With k = 2 of 4 and one pair always chosen, f is ½ on the pair."""
    probs = torch.tensor([[0.4, 0.4, 0.1, 0.1]]).repeat(6, 1)
    assert float(switch_balance(probs, 2)) == pytest.approx(4 * (0.5 * 0.4 * 2) - 1)
    assert float(switch_balance(probs, 9)) == pytest.approx(0, abs=1e-6)


def _trained_load(loss: object) -> Tensor:
    torch.manual_seed(5)
    gate = MLPGate(4, 6, 2)
    features, rule = torch.randn(256, 4), torch.zeros(256, dtype=torch.long)
    optimizer = torch.optim.Adam(gate.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss(gate(features, rule, CHARTS).gate_probs[:, CHARTS]).backward()  # type: ignore[operator]
        optimizer.step()
    return gate(features, rule, CHARTS).gate_probs[:, CHARTS].mean(0)


def test_the_seeds_literal_entropy_term_collapses_the_gate_and_ours_does_not() -> None:
    """Minimizing +λ·H(softmax) sends every window to one expert; log E − H(mean) keeps all."""
    literal = _trained_load(lambda probs: -(probs * probs.clamp_min(1e-9).log()).sum(1).mean())
    ours = _trained_load(entropy_balance)
    switch = _trained_load(lambda probs: switch_balance(probs, 2))
    assert literal.max() > 0.95
    assert ours.max() < 0.3
    assert switch.max() < 0.4


def test_the_mlp_gate_is_64_32_experts_and_learns() -> None:
    """The seed's sizes; gradients reach every layer."""
    gate = MLPGate(26, 6, 2)
    widths = [layer.out_features for layer in gate.layers if isinstance(layer, torch.nn.Linear)]
    assert widths == [64, 32, 6]
    routing = gate(torch.randn(32, 26), torch.zeros(32, dtype=torch.long), CHARTS)
    routing.expert_weights[:, 0].sum().backward()
    assert all(weight.grad is not None for weight in gate.parameters())


def test_an_exploring_gate_asks_every_expert_of_the_modality() -> None:
    """Its weights are the whole softmax; without exploring, the two largest share all weight."""
    torch.manual_seed(0)
    gate, features = MLPGate(8, 6, 2), torch.randn(16, 8)
    none = torch.zeros(16, dtype=torch.long)
    kept = gate(features, none, CHARTS)
    gate.explores = True
    asked = gate(features, none, CHARTS)
    assert kept.expert_ids.shape == (16, 2)
    assert asked.expert_ids.shape == (16, 5)
    assert 4 not in asked.expert_ids
    torch.testing.assert_close(dense_weights(asked), asked.gate_probs)
    assert (dense_weights(asked).gt(0).sum(1) == 5).all()
