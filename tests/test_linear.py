"""Logistic regression reads the MoE's inputs, learns on train rows, chooses C on validation."""

import dataclasses

import numpy as np
import pytest

from atlas.errors import DataError
from atlas.flat import Preparation, flat, flat_rows
from atlas.inputs import TABLE_MARKET
from atlas.linear import PENALTIES, Logistic
from atlas.metrics import directional_accuracy
from atlas.windows import MarketData, Split
from tests.toys import toy_data


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data()


def _poisoned(own: MarketData) -> MarketData:
    """Break what only a leak could see: labels of the test span, and bars after its start."""
    first, direction = own.split.test[0], own.labels.direction.copy()
    direction[own.split.test] = 1 - direction[own.split.test]
    values = own.panel.values.copy()
    later = own.panel.session > own.panel.session[first]
    values[later if own.panel.modality == "surface" else np.s_[:, later]] *= 3
    return dataclasses.replace(
        own,
        panel=dataclasses.replace(own.panel, values=values),
        labels=dataclasses.replace(own.labels, direction=direction),
    )


def test_logistic_regression_finds_the_law(data: dict[str, MarketData]) -> None:
    """It reads the last move, and its C is one of the grid for each modality."""
    model = Logistic(rows=1_000).fit(data)
    assert set(model.chosen) == {"chart", "surface"}
    assert set(model.chosen.values()) <= set(PENALTIES)
    for market, own in data.items():
        q = model.predict(market, own.split.test)
        assert ((q > 0) & (q < 1)).all()
        assert directional_accuracy(own.labels.direction[own.split.test], q) > 0.7
    assert model.predict("toy_charts", np.zeros(0, np.int64)).shape == (0,)


def test_nothing_of_the_test_span_reaches_the_fit(data: dict[str, MarketData]) -> None:
    """Poisoned test bars and labels change no prediction of a validation row."""
    clean = Logistic(rows=1_000).fit(data)
    other = Logistic(rows=1_000).fit({name: _poisoned(own) for name, own in data.items()})
    for market, own in data.items():
        rows = own.split.validation
        np.testing.assert_array_equal(clean.predict(market, rows), other.predict(market, rows))


def test_preparation_is_fitted_on_train_rows_alone(data: dict[str, MarketData]) -> None:
    """Train rows have mean 0 and sd 1; others are scaled alike, filled, flagged and clipped."""
    train = flat_rows(data, ["toy_charts", "toy_more"], "train", 400)
    prepare = Preparation(train.x)
    x = prepare(train.x)
    assert np.isfinite(x).all()
    assert np.isnan(train.x).any()
    known = np.isfinite(train.x).all(axis=0)
    moves = x[:, 2 + 320 : 2 + 325]  # two markets, five series of 64, then the last moves
    np.testing.assert_allclose(moves.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(moves.std(axis=0), 1, atol=1e-3)
    np.testing.assert_array_equal(x[:, :2], train.market[:, None] == [0, 1])
    assert x.shape[1] == 2 + train.x.shape[1] - 1 + (~known).sum()
    wild = train.x[:3].copy()
    wild[:, TABLE_MARKET + 1 :] = 1e6
    assert np.abs(prepare(wild)).max() == 8
    hollow = train.x[:3].copy()
    hollow[:, TABLE_MARKET + 1 :] = np.nan
    assert (prepare(hollow)[:, 2:] != 0).mean() == pytest.approx((~known).sum() / (x.shape[1] - 2))


def test_a_market_without_rows_is_named(data: dict[str, MarketData]) -> None:
    """Train rows and validation rows are both needed."""
    own = data["toy_charts"]
    nothing = np.zeros(0, np.int64)
    for part, split in (
        ("train", Split(nothing, own.split.validation, own.split.test)),
        ("validation", Split(own.split.train, nothing, own.split.test)),
    ):
        with pytest.raises(DataError, match=f"toy_charts: expected at least one {part} row"):
            Logistic().fit({"toy_charts": dataclasses.replace(own, split=split)})
    assert flat(own, nothing, 0).shape == (0, 0)
