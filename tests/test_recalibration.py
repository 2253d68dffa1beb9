"""The recalibration slope: 1 for honest probabilities, less for boasting ones."""

import numpy as np
import pytest
from scipy.special import expit

from atlas.recalibration import recalibration_slope


def _draw(boast: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 0.8, 20_000)
    y = (rng.random(odds.size) < expit(odds)).astype(float)
    markets = np.where(np.arange(odds.size) % 4 == 0, "a", "b")
    return y, expit(boast * odds), markets, np.arange(odds.size) // 100


@pytest.mark.parametrize("boast", [1.0, 2.0, 0.5])
def test_the_slope_undoes_the_boast(boast: float) -> None:
    """Log-odds twice as large as the truth have the slope one half, within the interval."""
    found = recalibration_slope(*_draw(boast))
    assert found.low < 1 / boast < found.high
    assert found.high - found.low < 0.3 / boast


def test_rows_that_share_a_session_widen_the_interval() -> None:
    """The same rows a hundred times say nothing new."""
    y, probability, markets, sessions = _draw(1.0)
    once = recalibration_slope(y[:2000], probability[:2000], markets[:2000], sessions[:2000])
    many = recalibration_slope(
        *(np.tile(part[:2000], 50) for part in (y, probability, markets, sessions))
    )
    assert many.value == pytest.approx(once.value, abs=1e-6)
    assert many.high - many.low == pytest.approx(once.high - once.low, rel=1e-3)


def test_where_nothing_can_be_said_the_interval_is_infinite() -> None:
    """One session, one outcome or one probability: no slope."""
    y, probability, markets, sessions = _draw(1.0)
    for broken in (
        (y, probability, markets, np.zeros_like(sessions)),
        (np.ones_like(y), probability, markets, sessions),
        (y, np.full_like(probability, 0.5), markets, sessions),
        (y, np.full_like(probability, np.nan), markets, sessions),
    ):
        found = recalibration_slope(*broken)
        assert np.isnan(found.value)
        assert np.isinf([found.low, found.high]).all()
