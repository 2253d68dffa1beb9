"""The catalogue is the seed's table, as data that fits the rest of the library."""

import math

import numpy as np
import pytest

from atlas.bars import Timeframe
from atlas.catalogue import CATALOGUE, DEFAULTS, EXPERT_IDS, NULL_LEVEL, Range, expert_spec
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.kernels.registry import BLOCKS, TEMPLATES


def test_the_six_experts_stand_in_the_seeds_order() -> None:
    """Stored expert indices depend on this order."""
    assert EXPERT_IDS == (
        "crypto_hft",
        "equity_intraday",
        "equity_daily",
        "futures_trend",
        "options_skew",
        "low_vol_etf",
    )


def test_ranges_are_the_seeds() -> None:
    """Every threshold of the seed's table is there, and nothing but null levels beside them."""
    limits = {
        spec.id: {(r.column, r.low, r.high) for r in spec.ranges if "_null" not in r.column}
        for spec in CATALOGUE
    }
    low, high = -math.inf, math.inf
    assert limits == {
        "crypto_hft": {("vol30", 0.06, high), ("spread", low, 0.0005), ("volume_z", 3.0, high)},
        "equity_intraday": {("vol30", 0.01, 0.03), ("trend_r2", 0.6, high)},
        "equity_daily": {("vol30", 0.005, 0.02), ("atr", low, 0.05)},
        "futures_trend": {("trend_r2", 0.8, high), ("hurst", 0.55, high)},
        "options_skew": {("skew_iv", 0.1, high), ("kurtosis", 4.0, high)},
        "low_vol_etf": {("vol30", low, 0.005), ("turnover_z", low, -1.0)},
    }


def test_a_range_on_trend_or_hurst_also_asks_what_a_random_walk_would_show() -> None:
    """30-bar R² ≥ .6 holds on 36 % of random walks: the threshold alone says nothing."""
    for spec in CATALOGUE:
        columns = {limit.column: limit for limit in spec.ranges}
        for name in {"trend_r2", "hurst"} & columns.keys():
            assert columns[f"{name}_null"].low == NULL_LEVEL


@pytest.mark.parametrize("spec", CATALOGUE, ids=EXPERT_IDS)
def test_a_row_names_what_exists(spec: object) -> None:
    """Columns, kernels and timeframes of a row are known to the modules that own them."""
    row = expert_spec(spec.id)  # type: ignore[attr-defined]
    assert {limit.column for limit in row.ranges} <= set(FINGERPRINT_COLUMNS)
    assert set(row.kernels) <= {template.owner for template in TEMPLATES.values()}
    shortest, longest = (Timeframe.parse(name).seconds for name in row.timeframes)
    assert row.is_home(shortest)
    assert row.is_home(longest)
    assert not row.is_home(longest + 1)
    assert not row.is_home(shortest - 1)


def test_every_specialised_kernel_belongs_to_an_expert() -> None:
    """A kernel is a shared block or someone's own; none is without an owner, none has two."""
    claimed = [kernel for spec in CATALOGUE for kernel in spec.kernels]
    assert len(claimed) == len(set(claimed))
    assert {template.owner for template in TEMPLATES.values()} == BLOCKS | set(claimed)


def test_every_modality_has_a_default_of_its_own() -> None:
    """Who serves a window that nobody claims is an expert of its modality."""
    for modality, expert_id in DEFAULTS.items():
        assert expert_spec(expert_id).modality == modality


def test_ends_of_a_range() -> None:
    """By default low <= value < high; both ends can be turned; NaN is outside."""
    values = np.array([0.9, 1.0, 1.5, 2.0, np.nan])
    assert Range("x", 1.0, 2.0).holds(values).tolist() == [False, True, True, False, False]
    turned = Range("x", 1.0, 2.0, open_low=True, closed_high=True)
    assert turned.holds(values).tolist() == [False, False, True, True, False]


def test_an_unknown_expert_is_refused_by_name() -> None:
    """The message lists the experts there are."""
    with pytest.raises(KeyError, match="expert 'bonds': expected one of crypto_hft"):
        expert_spec("bonds")
