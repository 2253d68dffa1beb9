"""Surfaces: long quotes become a fixed grid, and the three numbers are read off it."""

import numpy as np
import pandas as pd
import pytest

from atlas.errors import SurfacesError
from atlas.surfaces import (
    DELTAS,
    STRIKES,
    atm_iv,
    butterfly,
    check_surfaces,
    skew_iv,
    surface_grid,
)

TIME = "2026-11-19T21:00:00Z"


def quotes(**iv: float) -> pd.DataFrame:
    """One snapshot of tenor 1, delta → iv (`m25` is −.25, `p50` is .50)."""
    deltas = [(-1 if key[0] == "m" else 1) * int(key[1:]) / 100 for key in iv]
    return pd.DataFrame({"timestamp": TIME, "tenor": 1, "delta": deltas, "iv": list(iv.values())})


def test_grid_puts_each_quote_at_its_place() -> None:
    """Places follow the deltas, puts first; the money is the mean of ±.5; the rest is NaN."""
    rows = [
        (TIME, tenor, delta, tenor + place / 100)
        for tenor in (1, 2, 3)
        for place, delta in enumerate(DELTAS)
    ]
    frame = pd.DataFrame(rows, columns=["timestamp", "tenor", "delta", "iv"])
    times, grid = surface_grid(check_surfaces(frame.sample(frac=1, random_state=1)))
    assert times.tolist() == [pd.Timestamp(TIME)]
    assert grid.shape == (1, 3, STRIKES)
    expected = np.array([0, 1, 2, 3, 4.5, 6, 7, 8, 9]) / 100
    np.testing.assert_allclose(grid[0], np.add.outer([1, 2, 3], expected))


def test_numbers_read_the_nearest_tenor() -> None:
    """By hand: put .30, call .22, money (.24 + .26) / 2 give .25, .08 and .02."""
    _, grid = surface_grid(check_surfaces(quotes(m25=0.30, p25=0.22, m50=0.24, p50=0.26)))
    np.testing.assert_allclose(atm_iv(grid), [0.25])
    np.testing.assert_allclose(skew_iv(grid), [0.08])
    np.testing.assert_allclose(butterfly(grid), [0.02])


def test_missing_quotes_are_nan() -> None:
    """One delta at ±.5 is the money; a missing wing leaves skew and butterfly undefined."""
    _, grid = surface_grid(check_surfaces(quotes(m25=0.30, p50=0.26)))
    np.testing.assert_allclose(atm_iv(grid), [0.26])
    assert np.isnan(skew_iv(grid)).all()
    assert np.isnan(butterfly(grid)).all()


def test_no_quotes_give_an_empty_grid() -> None:
    """A frame without rows is a grid without rows."""
    times, grid = surface_grid(check_surfaces(quotes(m25=0.3).iloc[:0]))
    assert len(times) == 0
    assert grid.shape == (0, 3, STRIKES)


def test_form_is_settled_and_values_are_left_alone() -> None:
    """Types are fixed, other columns go, a negative iv passes."""
    frame = check_surfaces(quotes(m25=-1.0).assign(source="x").set_index("timestamp"))
    assert [str(kind) for kind in frame.dtypes] == [
        "datetime64[us, UTC]",
        "int8",
        "float64",
        "float64",
    ]
    assert frame["iv"].tolist() == [-1.0]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (quotes(m25=0.3).drop(columns="iv"), "SPY: column 'iv' is missing"),
        (quotes(m25=0.3).assign(tenor=1.5), "SPY: column 'tenor': expected whole numbers.*1.5"),
        (quotes(m25=0.3).assign(tenor=np.nan), "SPY: column 'tenor'.*got nan in row 0"),
        (quotes(m25=0.3).assign(delta="put"), "SPY: column 'delta': expected numbers"),
        (quotes(m25=0.3).assign(timestamp="x"), "SPY: column 'timestamp'"),
    ],
)
def test_what_cannot_be_read_is_named(frame: pd.DataFrame, message: str) -> None:
    """Errors name the symbol, the column and what came."""
    with pytest.raises(SurfacesError, match=message):
        check_surfaces(frame, symbol="SPY")
