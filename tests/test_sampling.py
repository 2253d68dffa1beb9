"""Draws: markets equally, from (seed, step) alone, training windows only."""

from dataclasses import replace

import numpy as np
import pytest

from atlas.errors import DataError
from atlas.sampling import collate, draw, spread_evenly
from atlas.windows import MarketData
from tests.toys import toy_data


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data(bars=200, test=30, validation=30)


def test_markets_are_drawn_equally(data: dict[str, MarketData]) -> None:
    """Over as many steps as there are markets each gives the same number of windows."""
    small = {**data}
    own = small["toy_more"]
    small["toy_more"] = replace(own, split=replace(own.split, train=own.split.train[:5]))
    total = dict.fromkeys(small, 0)
    for step in range(len(small)):
        ends = draw(small, batch=64, seed=1, step=step)
        assert sum(map(len, ends.values())) == 64
        for market, chosen in ends.items():
            total[market] += len(chosen)
    assert set(total.values()) == {64}


def test_a_draw_follows_from_seed_and_step_alone(data: dict[str, MarketData]) -> None:
    """The same step is the same draw in any order; another step or seed is another."""
    first = draw(data, batch=64, seed=1, step=5)
    draw(data, batch=64, seed=1, step=6)
    again = draw(data, batch=64, seed=1, step=5)
    assert all(np.array_equal(first[m], again[m]) for m in data)
    for seed, step in ((2, 5), (1, 6)):
        other = draw(data, batch=64, seed=seed, step=step)
        assert not all(np.array_equal(first[m], other[m]) for m in data)


def test_only_training_windows_are_drawn(data: dict[str, MarketData]) -> None:
    """Every window drawn is one of the training split."""
    for step in range(20):
        for market, chosen in draw(data, batch=64, seed=1, step=step).items():
            assert np.isin(chosen, data[market].split.train).all()


def test_a_market_without_a_training_window_is_named(data: dict[str, MarketData]) -> None:
    """Nothing to draw from is an error that says which market and what to do."""
    own = data["toy_more"]
    empty = replace(own, split=replace(own.split, train=own.split.train[:0]))
    with pytest.raises(DataError, match="'toy_more' has no training window"):
        draw({**data, "toy_more": empty}, batch=64, seed=1, step=0)


def test_collate_gives_one_batch_a_modality(data: dict[str, MarketData]) -> None:
    """Charts of both markets come together, surfaces apart, targets beside their windows."""
    markets = ("absent", *data)
    ends = draw(data, batch=30, seed=1, step=0)
    charts, surfaces = collate(data, ends, markets)
    assert charts.inputs.modality == "chart"
    assert surfaces.inputs.modality == "surface"
    assert charts.inputs.image.shape == (20, 4, 32, 64)
    assert surfaces.inputs.image.shape == (10, 2, 3, 9, 64)
    assert np.unique(charts.inputs.market).tolist() == [1, 2]
    own = data["toy_charts"]
    assert np.array_equal(charts.direction[:10], own.labels.direction[ends["toy_charts"]])
    assert np.array_equal(charts.log_rv[:10], own.labels.log_rv[ends["toy_charts"]])


def test_positions_are_spread_from_first_to_last() -> None:
    """A limit keeps both ends; fewer positions than the limit are kept as they are."""
    positions = np.arange(100) * 3
    assert spread_evenly(positions, 4).tolist() == [0, 99, 198, 297]
    assert spread_evenly(positions, 1000) is positions
