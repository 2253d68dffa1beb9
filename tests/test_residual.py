"""Standardization, base and calibration: closed forms that a network adds to."""

import math

import pytest
import torch

from atlas.residual import DESCRIBED, Base, Calibration, Standardizer

G = len(DESCRIBED)


def described(rows: int = 200) -> torch.Tensor:
    return torch.rand(rows, G, generator=torch.Generator().manual_seed(1)) + 0.1


def test_features_have_mean_zero_and_variance_one() -> None:
    """On the rows it was fitted to; the second half are flags."""
    standardizer, rows = Standardizer(), described()
    standardizer.fit(rows)
    features = standardizer(rows)
    assert features.shape == (200, 2 * G) == (200, standardizer.width)
    torch.testing.assert_close(features[:, :G].mean(0), torch.zeros(G), atol=1e-4, rtol=0)
    torch.testing.assert_close(features[:, :G].std(0), torch.ones(G), atol=1e-2, rtol=0)
    assert not features[:, G:].any()


@pytest.mark.parametrize("name", ["vol30", "spread", "atr"])
def test_what_spreads_over_decades_is_taken_in_logs(name: str) -> None:
    """A tenfold volatility is as far up as a tenth is down."""
    standardizer, column = Standardizer(), DESCRIBED.index(name)
    rows = torch.ones(3, G)
    rows[:, column] = torch.tensor([0.1, 1.0, 10.0])
    standardizer.fit(rows)
    values = standardizer(rows)[:, column]
    torch.testing.assert_close(values, torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)


def test_other_columns_are_not() -> None:
    """Trend strength stays linear, negative z-scores stay what they are."""
    standardizer, column = Standardizer(), DESCRIBED.index("volume_z")
    rows = torch.ones(3, G)
    rows[:, column] = torch.tensor([-2.0, 0.0, 2.0])
    standardizer.fit(rows)
    values = standardizer(rows)[:, column]
    torch.testing.assert_close(values, torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_missing_reads_zero_and_raises_its_flag(value: float) -> None:
    """No NaN reaches the network, and it can tell missing from average."""
    standardizer, rows = Standardizer(), described()
    standardizer.fit(rows)
    rows[3, 5] = value
    features = standardizer(rows)
    assert features.isfinite().all()
    assert features[3, 5] == 0
    assert features[:, G:].nonzero().tolist() == [[3, 5]]


def test_missing_values_do_not_count_in_the_fit() -> None:
    """A column half missing has the mean of the other half; one all missing gets (0, 1)."""
    standardizer, column = Standardizer(), DESCRIBED.index("kurtosis")
    rows = torch.ones(4, G)
    rows[:, column] = torch.tensor([2.0, math.nan, 6.0, math.nan])
    rows[:, column + 1] = math.nan
    standardizer.fit(rows)
    assert standardizer.mean[column] == 4
    assert standardizer.scale[column] == 2
    assert (standardizer.mean[column + 1], standardizer.scale[column + 1]) == (0, 1)
    assert standardizer.scale[DESCRIBED.index("hurst")] == 1  # constant


def test_no_row_is_further_out_than_five_standard_deviations() -> None:
    """One broken bar must not dominate a batch."""
    standardizer, rows = Standardizer(), described()
    standardizer.fit(rows)
    assert standardizer(rows + 1e6).max() == 5
    assert standardizer(torch.zeros(1, G)).min() >= -5


def test_the_base_is_an_intercept_a_line_and_harx() -> None:
    """Each market has its own intercept and HAR-X; slopes of the logit are a modality's."""
    base = Base(2, {"chart": 3, "surface": 2})
    base.intercept.copy_(torch.tensor([0.5, -0.5, 0.0]))
    base.weight("chart").copy_(torch.tensor([1.0, 0.0, -1.0]))
    base.har[1] = torch.tensor([0.1, 1.0, 0.0, 0.0])
    features = torch.tensor([[2.0, 9.0, 1.0]] * 3)
    market = torch.tensor([0, 1, -1])
    assert base.logit(features, market, "chart").tolist() == [1.5, 0.5, 1.0]
    assert base.logit(features[:, :2], market, "surface").tolist() == [0.5, -0.5, 0.0]
    har = torch.tensor([[-9.0, -6.0, -3.0]] * 3)
    base.beside("chart")[1] = torch.tensor([0.5, 0.0, 0.2])
    log_rv = base.log_rv(har, features, market, "chart")
    torch.testing.assert_close(log_rv, torch.tensor([-6.0, -8.9 + 1.2, -6.0]))
    other = base.log_rv(har, features[:, :2], market, "surface")
    torch.testing.assert_close(other, torch.tensor([-6.0, -8.9, -6.0]))


def test_calibration_is_per_market_and_leaves_an_unknown_one_alone() -> None:
    """P = sigmoid(slope·logit + intercept); index −1 is not recalibrated."""
    calibration = Calibration(2)
    calibration.platt[1] = torch.tensor([2.0, -1.0])
    probability = calibration.probability(torch.full((3,), 0.5), torch.tensor([0, 1, -1]))
    expected = torch.sigmoid(torch.tensor([0.5, 0.0, 0.5]))
    torch.testing.assert_close(probability, expected)
    assert calibration.alpha.tolist() == [[1, 1]] * 3


def test_fitted_values_travel_with_the_weights() -> None:
    """Everything fitted is in the state dict, nothing else needs saving."""
    names = set(Standardizer().state_dict()) | set(Base(1, {"chart": 2}).state_dict())
    names |= set(Calibration(1).state_dict())
    base = {"intercept", "har", "weight_chart", "beside_chart"}
    assert names == {"mean", "scale", *base, "alpha", "platt"}
