"""The picture of a window: a PNG for charts and for surfaces, and clear refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from atlas.bars import Timeframe
from atlas.config import ATLASConfig, LabelConfig, MarketConfig
from atlas.errors import DataError
from pipelines import store
from pipelines.chart_picture import save
from pipelines.paths import Paths
from tests.judged import judge
from tests.test_fingerprint_stage import AS_OF, config_of, daily_bars, surfaces

STEP = Timeframe.parse("1d")


@pytest.fixture
def config() -> ATLASConfig:
    return config_of(
        etf=MarketConfig(timeframe="1d", calendar="24/7"),
        vol=MarketConfig(
            timeframe="1d",
            calendar="24/7",
            modality="surface",
            label=LabelConfig(kind="surface_change"),
        ),
    )


def test_a_symbol_is_drawn_in_every_market_that_has_it(tmp_path: Path, config: ATLASConfig) -> None:
    """Bars and surfaces end in a PNG with something on it; a second run changes no byte."""
    paths = Paths(tmp_path)
    store.write_bars(paths, "etf", "SPY", daily_bars(1), STEP, "chart")
    store.write_bars(paths, "vol", "SPY", surfaces(80), STEP, "surface")
    for market in config.markets:
        judge(paths, market, AS_OF)
    files = save(paths, config, "SPY", as_of=AS_OF)
    assert [path.name for path in files] == ["etf-SPY.png", "vol-SPY.png"]
    for path in files:
        assert np.ptp(imread(path)[:, :, :3]) > 0.5
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in save(paths, config, "SPY", as_of=AS_OF)] == before


def test_what_cannot_be_drawn_is_named(tmp_path: Path, config: ATLASConfig) -> None:
    """An unknown symbol and a short one are errors that say what was expected."""
    paths = Paths(tmp_path)
    store.write_bars(paths, "etf", "NEW", daily_bars(1, 63), STEP, "chart")
    for market in config.markets:
        judge(paths, market, AS_OF)
    with pytest.raises(DataError, match="NEW: expected 64 bars for a window; got 63"):
        save(paths, config, "NEW", as_of=AS_OF)
    with pytest.raises(
        DataError, match="SPY: expected a symbol of the store; the markets etf, vol"
    ):
        save(paths, config, "SPY", as_of=AS_OF + pd.Timedelta(days=1))
