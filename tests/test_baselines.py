"""The simple rivals learn what they should from train rows, and nothing from test rows."""

import dataclasses

import numpy as np
import pytest

from atlas.baselines import BaseRate, LightGBM, LightGBMSettings, ReversalRule
from atlas.cuts import cut
from atlas.errors import DataError
from atlas.metrics import directional_accuracy
from atlas.windows import MarketData, Split, label
from tests.panels import panel_of
from tests.toys import LAW, toy_data

SMALL = LightGBMSettings(rows=1_000, rounds=20, learning_rate=0.15, leaves=7, min_leaf=20)


def _drifting(up):
    signs = np.where(np.random.default_rng(1).random(600) < up, 1, -1)
    panel = panel_of(100 * np.exp(np.cumsum(signs) / 100))
    labels = label(panel)
    return MarketData(panel, labels, cut(panel, labels, test=50, validation=50, horizon=1))


def test_the_base_rate_is_each_markets_own_share_of_ups():
    """A market that rises on seven days of ten is given .7, its neighbour .4."""
    data = {"rising": _drifting(0.7), "falling": _drifting(0.4)}
    model = BaseRate().fit(data)
    for market, up in (("rising", 0.7), ("falling", 0.4)):
        found = model.predict(market, data[market].split.test)
        assert found.shape == data[market].split.test.shape
        np.testing.assert_allclose(found, up, atol=0.06)


def test_the_reversal_rule_knows_which_way_the_market_just_went():
    """Where moves flip with probability LAW, it says so, and is right as often."""
    data = toy_data(bars=800, test=200)
    model = ReversalRule().fit(data)
    for market, own in data.items():
        found = model.predict(market, own.split.test)
        assert set(np.round(found, 1)) <= {0.1, 0.2, 0.8, 0.9}
        right = directional_accuracy(own.labels.direction[own.split.test], found)
        assert right == pytest.approx(LAW, abs=0.06)


def test_the_reversal_rule_reads_the_move_that_the_label_asks_about():
    """With a horizon of three bars, the sign is that of the last three bars together."""
    closes = 100 * np.exp(np.cumsum(np.tile([0.03, 0.01, -0.01, -0.03, -0.01, 0.01], 60)))
    panel = panel_of(closes)
    labels = label(panel, horizon=3)
    split = cut(panel, labels, test=60, validation=30, horizon=3)
    found = ReversalRule().fit({"m": MarketData(panel, labels, split)}).predict("m", split.test)
    assert directional_accuracy(labels.direction[split.test], found) == 1.0


@pytest.fixture(scope="module")
def boosted():
    """Two fits on the same toy markets, one with its test bars and labels poisoned."""
    data = toy_data()
    clean = LightGBM(SMALL).fit(data)
    poisoned = {}
    for market, own in data.items():
        first = own.split.test[0]
        values = own.panel.values.copy()
        later = own.panel.session > own.panel.session[first]
        values[later if own.panel.modality == "surface" else np.s_[:, later]] *= 3
        direction = own.labels.direction.copy()
        direction[own.split.test] = 1 - direction[own.split.test]
        poisoned[market] = dataclasses.replace(
            own,
            panel=dataclasses.replace(own.panel, values=values),
            labels=dataclasses.replace(own.labels, direction=direction),
        )
    return data, clean, LightGBM(SMALL).fit(poisoned)


def test_boosted_trees_find_the_law(boosted):
    """They read the last move out of the same inputs as the MoE."""
    data, clean, _ = boosted
    for market, own in data.items():
        found = clean.predict(market, own.split.test)
        assert ((found > 0) & (found < 1)).all()
        assert directional_accuracy(own.labels.direction[own.split.test], found) > 0.7


def test_boosted_trees_never_saw_the_test_span(boosted):
    """Poisoned test bars and labels change no prediction, to the bit: a refit gives the same."""
    data, clean, other = boosted
    for market, own in data.items():
        rows = own.split.validation
        np.testing.assert_array_equal(clean.predict(market, rows), other.predict(market, rows))


def test_no_window_gives_no_prediction(boosted):
    """An empty question has an empty answer."""
    data, clean, _ = boosted
    market = next(iter(data))
    assert clean.predict(market, np.zeros(0, np.int64)).shape == (0,)


def test_a_market_without_train_rows_is_named():
    """Boosted trees need rows of every market."""
    own = _drifting(0.5)
    nothing = Split(np.zeros(0, np.int64), own.split.validation, own.split.test)
    data = {"short": dataclasses.replace(own, split=nothing)}
    with pytest.raises(DataError, match="short: expected at least one train row"):
        LightGBM(SMALL).fit(data)
