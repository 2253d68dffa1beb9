"""Losses: means over markets, missing targets left out, agreement with the rule."""

import pytest
import torch

from atlas.losses import agreement, direction_loss, log_rv_loss, market_sum

NAN = float("nan")


def test_each_market_weighs_the_same() -> None:
    """Three rows of one market and one of another: the sum of their two means."""
    values = torch.tensor([1.0, 2.0, 3.0, 10.0])
    market = torch.tensor([0, 0, 0, 2])
    known = torch.ones(4, dtype=torch.bool)
    assert market_sum(values, known, market, 3).item() == pytest.approx(2 + 10)


def test_rows_without_a_target_are_left_out_and_give_no_gradient() -> None:
    """NaN neither counts nor leaks into a gradient."""
    logit = torch.zeros(3, requires_grad=True)
    direction = torch.tensor([1.0, NAN, 0.0])
    market = torch.tensor([0, 0, 1])
    loss = direction_loss(logit, direction, market, 2)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.6931472)
    assert logit.grad is not None
    assert logit.grad.tolist() == pytest.approx([-0.5, 0.0, 0.5])


def test_a_market_without_any_target_adds_nothing() -> None:
    """All NaN is 0, not NaN."""
    direction = torch.tensor([NAN, NAN])
    assert direction_loss(torch.ones(2), direction, torch.tensor([0, 0]), 1).item() == 0


def test_a_broken_prediction_is_not_mistaken_for_a_missing_target() -> None:
    """NaN from the network stays NaN, so that training can stop."""
    market = torch.tensor([0, 0])
    broken = torch.tensor([NAN, 0.0])
    assert direction_loss(broken, torch.tensor([1.0, 0.0]), market, 1).isnan()
    assert log_rv_loss(broken, torch.zeros(2), torch.ones(1), market).isnan()


def test_volatility_is_measured_in_spreads_of_its_market() -> None:
    """An error of 2 in a market of spread 2 costs 1."""
    market, spread = torch.tensor([0, 1, 1]), torch.tensor([2.0, 1.0])
    predicted, target = torch.tensor([2.0, 1.0, 5.0]), torch.tensor([0.0, 0.0, NAN])
    assert log_rv_loss(predicted, target, spread, market).item() == pytest.approx(1 + 1)


def test_agreement_is_the_likelihood_of_the_rule_s_experts() -> None:
    """−log of the named probabilities; rows whose expert the model lacks are left out."""
    probs = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]])
    rule = torch.tensor([0, 1, -1])
    expected = -(torch.log(torch.tensor(0.5)) + torch.log(torch.tensor(0.75))) / 2
    assert agreement(probs, rule).item() == pytest.approx(expected.item())
    assert agreement(probs, torch.tensor([-1, -1, -1])).item() == 0
