"""A basket's contract with the store, and its place among the units of the long benchmark."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.basket_config import HEDGED
from atlas.config import ATLASConfig
from atlas.errors import DataError
from atlas.windows import MarketData
from pipelines import baskets, store
from pipelines.evidence import plan
from pipelines.paths import Paths
from tests.judged import judge
from tests.toys import toy_data

AS_OF = pd.Timestamp("1971-01-01", tz="UTC")
SERIES = {"tips": "others/TIP", "energy": "others/WTI", "gold": "others/GOLD"}


def config(**basket: object) -> ATLASConfig:
    """Two markets of the toy, which has bars from 1970-01-01 on, and one of the basket's series."""
    daily = {"timeframe": "1d", "calendar": "24/7"}
    surfaces = {**daily, "modality": "surface", "label": {"kind": "surface_change"}}
    return ATLASConfig.parse(
        {
            "source": "files",
            "markets": {
                "toy_charts": daily,
                "toy_more": daily,
                "toy_surfaces": surfaces,
                "others": daily,
            },
            "simulated": {"as_of": "2026-11-20", "markets": {}},
            "benchmark": {"cuts": ["1970-06-01", "1970-09-01"], "seeds": [1, 2]},
            "basket": {"series": SERIES, "markets": ["toy_charts"], "overlap": 100, **basket},
        }
    )


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data(bars=300)


@pytest.fixture
def home(tmp_path: Path) -> Paths:
    """A store with three series of 300 days, gold's from day 150 on."""
    paths = Paths(tmp_path)
    for seed, (symbol, first) in enumerate((("TIP", 0), ("WTI", 0), ("GOLD", 150))):
        days = pd.date_range("1970-01-01", periods=300, tz="UTC")[first:]
        moves = 0.01 * np.random.default_rng(seed).standard_normal(len(days))
        close = np.round(100 * np.exp(np.cumsum(moves)), 4)
        bars = {"open": close, "high": close, "low": close, "close": close, "volume": 1.0}
        frame = pd.DataFrame(bars, index=pd.DatetimeIndex(days, name="timestamp"))
        store.write_bars(paths, "others", symbol, frame, Timeframe.parse("1d"), "chart")
    judge(paths, "others", AS_OF)
    return paths


def test_only_the_markets_named_see_the_basket(home: Paths, data: dict[str, MarketData]) -> None:
    """The other charts get an unknown one of the same form, surfaces none, labels stay."""
    found = baskets.hedged(home, config(), AS_OF, data)
    assert list(found) == list(data)
    basket = found["toy_charts"].panel.basket
    assert basket is not None
    known = np.isfinite(basket.fingerprint[:300, 0])
    assert known.tolist() == [False] * 213 + [True] * 87  # 64 closes of gold
    absent = found["toy_more"].panel.basket
    assert absent is not None
    assert absent.names == basket.names
    assert np.isnan(absent.fingerprint).all()
    assert found["toy_surfaces"] is data["toy_surfaces"]
    assert found["toy_charts"].labels is data["toy_charts"].labels


@pytest.mark.parametrize(
    ("basket", "told"),
    [
        ({"series": {**SERIES, "gold": "others/XAU"}}, "gold: expected others/XAU.*GOLD, TIP, WTI"),
        ({"overlap": 151}, "at least 151 sessions.*got 150.*gold 1970-06-01 to 1970-10-28"),
    ],
)
def test_a_series_that_is_missing_or_overlaps_too_little_is_named(
    home: Paths, data: dict[str, MarketData], basket: dict[str, object], told: str
) -> None:
    """With what is stored, or with the span of each series."""
    with pytest.raises(DataError, match=told):
        baskets.hedged(home, config(**basket), AS_OF, data)


def test_a_night_that_did_not_judge_the_series_gets_none(home: Paths) -> None:
    """As for every market: what another night left does not speak for this one."""
    with pytest.raises(DataError, match="others: expected bars validated in the night of"):
        baskets.closes(home, config(), AS_OF + pd.Timedelta(days=1))


def test_the_variant_is_a_unit_only_where_params_name_a_basket(tmp_path: Path) -> None:
    """On an archive alone, and no other unit's result depends on the basket."""
    asked = config()
    bare = asked.model_copy(update={"basket": None})
    added = set(plan.units(asked)) - set(plan.units(bare))
    assert {unit.model for unit in added} == {HEDGED}
    assert len(added) == 2 * 2
    simulated = asked.model_copy(update={"source": "simulated"})
    assert HEDGED not in {unit.model for unit in plan.units(simulated)}
    other, paths = config(stale_days=2), Paths(tmp_path)
    for unit in plan.units(asked):
        same = plan.key_of(paths, asked, unit) == plan.key_of(paths, other, unit)
        assert same == (unit.model != HEDGED)
        if unit.model != HEDGED:
            assert plan.key_of(paths, asked, unit) == plan.key_of(paths, bare, unit)
