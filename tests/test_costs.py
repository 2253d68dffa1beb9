"""A call earns its return less half the spread, and a bounce between quotes is no profit."""

import dataclasses

import numpy as np
import pytest

from atlas.costs import break_even, next_returns, spreads
from atlas.cuts import cut
from atlas.windows import MarketData, label
from tests.panels import walk


def _market(panel, **asked):
    labels = label(panel, **asked)
    split = cut(panel, labels, test=20, validation=20, horizon=asked.get("horizon", 1))
    return MarketData(panel, labels, split)


def test_a_trade_earns_its_signed_return_less_half_the_spread():
    """Up on +2 % and −1 %, down on −3 %, no call, unknown: gross 4/3 %, half spread .1 %."""
    returns = np.array([0.02, -0.01, -0.03, 0.5, np.nan])
    q = np.array([0.6, 0.7, 0.2, 0.5, 0.9])
    found = break_even(q, returns, np.full(5, 0.002), np.arange(5))
    assert found.trades == 3
    assert found.gross == pytest.approx(0.04 / 3)
    assert found.half_spread == pytest.approx(0.001)
    assert found.net.value == pytest.approx(0.04 / 3 - 0.001)
    assert found.net.low < found.net.value < found.net.high


def test_a_bounce_between_quotes_is_right_and_worth_nothing():
    """Closes jump between bid and ask: reversal is always right and nets nothing."""
    rng = np.random.default_rng(1)
    side = rng.choice([-1, 1], 4_000)
    close = np.log(100) + 0.001 * side  # half the spread is .1 %
    now, after = close[:-1], close[1:]
    q = np.where(side[:-1] > 0, 0.4, 0.6)
    moved = after != now
    found = break_even(q, after - now, np.full(now.size, 0.002), np.arange(now.size))
    assert ((after > now) == (q > 0.5))[moved].all()
    assert found.gross == pytest.approx(0.001, rel=0.1)
    assert found.net.low < 0.00005
    assert abs(found.net.value) < 0.0001


@pytest.mark.parametrize(("horizon", "skip"), [(1, 0), (3, 0), (2, 1)])
def test_returns_are_those_the_label_asks_about(horizon, skip):
    """Their sign is the label's on every labelled row, and they span the horizon."""
    panel = walk("daily", symbols=2, bars=300, seed=3)
    data = _market(panel, horizon=horizon, skip=skip)
    ends = np.flatnonzero(np.isfinite(data.labels.direction))
    found = next_returns(data, ends)
    np.testing.assert_array_equal(found > 0, data.labels.direction[ends] == 1)
    x = np.log(panel.values[3])
    t = ends[17]
    assert found[17] == pytest.approx(x[t + skip + horizon] - x[t + skip])
    last = np.array([299, 599])
    assert np.isnan(next_returns(data, last)).all()


def test_surfaces_have_no_price_to_trade_at():
    """Neither return nor spread: no break-even, no error."""
    data = _market(walk("surface", symbols=1, bars=200, seed=1), kind="surface_change")
    ends = data.split.test
    found = break_even(np.full(ends.size, 0.6), next_returns(data, ends), spreads(data, ends), ends)
    assert found.trades == 0
    assert np.isnan([found.gross, found.half_spread, *found.net]).all()


def test_the_spread_is_the_fingerprints():
    """Column `spread` of the row's fingerprint."""
    panel = walk("daily", symbols=1, bars=200, seed=1)
    fingerprint = np.arange(200 * 11, dtype=np.float32).reshape(200, 11)
    data = _market(dataclasses.replace(panel, fingerprint=fingerprint))
    assert spreads(data, np.array([3]))[0] == 3 * 11 + 5
