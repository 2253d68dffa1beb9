"""What is unlike the training set: usual rows are answered, strange ones are not."""

import torch

from atlas.base import install_base
from atlas.familiarity import Familiarity
from atlas.moe import build_model
from atlas.prediction import predict
from atlas.residual import DESCRIBED
from tests.toys import toy_config, toy_data


def _rows(count: int, seed: int) -> torch.Tensor:
    """Heavy-tailed columns, two of them tied to each other, one constant, one never known."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, len(DESCRIBED), generator=generator, dtype=torch.float64)
    rows[:, 0] = (0.01 * torch.exp(rows[:, 0])).float()
    rows[:, 2] = rows[:, 1] + 0.05 * rows[:, 2]
    rows[:, 4] = 7.0
    rows[:, 6] = torch.nan
    return rows


def _fitted() -> Familiarity:
    place = Familiarity(2)
    place.fit(1, _rows(4_000, 1))
    return place


def _market(rows: torch.Tensor, index: int = 1) -> torch.Tensor:
    return torch.full((len(rows),), index)


def test_rows_of_the_training_law_are_familiar() -> None:
    """Of fresh rows of the same law hardly one in a thousand is called unlike."""
    rows = _rows(4_000, 2).float()
    assert _fitted().unlike(rows, _market(rows)).float().mean() < 0.002


def test_strange_rows_are_unlike_even_where_each_value_is_usual() -> None:
    """A jump in one column, an absurd value, and a broken tie between two columns all show."""
    rows = _rows(3, 3).float()
    rows[0, 0] *= 1e6
    rows[1, 7] = 1e30
    rows[2, 1], rows[2, 2] = 2.0, -2.0
    assert _fitted().unlike(rows, _market(rows)).tolist() == [True, True, True]


def test_a_few_broken_training_rows_do_not_widen_it() -> None:
    """One row in a thousand that is absurd leaves a jump as unlike as it was."""
    broken = _rows(4_000, 1)
    broken[:3, 7] = 1e6
    place = Familiarity(1)
    place.fit(0, broken)
    rows = _rows(1, 3).float()
    rows[0, 7] = 40.0
    assert place.unlike(rows, _market(rows, 0)).all()


def test_missing_values_and_markets_that_were_not_fitted_are_never_unlike() -> None:
    """What is not known is no reason; neither is a market without rows, or with a few."""
    place = _fitted()
    rows = torch.full((2, len(DESCRIBED)), torch.nan)
    assert not place.unlike(rows, _market(rows)).any()
    absurd = torch.full((2, len(DESCRIBED)), 1e9)
    assert not place.unlike(absurd, torch.tensor([0, -1])).any()
    place.fit(0, _rows(50, 1))
    assert not place.unlike(absurd, _market(absurd, 0)).any()


def test_a_network_is_fitted_with_its_base_and_says_so_with_its_answers() -> None:
    """Fingerprints ten times as wide as the training set's are flagged, its own hardly."""
    data = toy_data(bars=260, test=40, validation=40)
    torch.manual_seed(1)
    model = build_model(toy_config(), variant="moe_mlp")
    install_base(model, data)
    own = data["toy_charts"]
    shares = []
    for factor in (1, 10):
        own.panel.fingerprint[own.split.test] *= factor
        shares.append(predict(model, own, own.split.test, market_index=0)["unlike"].mean())
    assert shares[0] < 0.02
    assert shares[1] > 0.5
