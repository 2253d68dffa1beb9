"""Black-76 and its inversion against known values, and a smile read back at the grid's deltas."""

import math

import numpy as np
import pytest

from atlas.errors import SurfacesError
from atlas.implied_vol import (
    black76,
    forward_delta,
    implied_forward,
    implied_vol,
    smile_at_deltas,
)
from atlas.surfaces import DELTAS

STRIKES = np.arange(40.0, 200.5, 1.0)


def chain(vol: object, forward: float = 100.0, years: float = 0.5, rate: float = 0.0) -> tuple:
    assert callable(vol)
    discount = math.exp(-rate * years)
    calls, puts = (
        np.array([
            black76(forward, k, years, vol(k), is_call=side, discount=discount) for k in STRIKES
        ])
        for side in (True, False)
    )  # fmt: skip
    return STRIKES, calls, puts


def test_prices_are_the_textbooks() -> None:
    """Hull's stock option (S 42, K 40, r .1, σ .2, ½ year: 4.76 and .81), by its forward."""
    forward, discount = 42 * math.exp(0.05), math.exp(-0.05)
    call = black76(forward, 40, 0.5, 0.2, is_call=True, discount=discount)
    put = black76(forward, 40, 0.5, 0.2, is_call=False, discount=discount)
    assert (round(call, 2), round(put, 2)) == (4.76, 0.81)
    assert black76(100, 100, 1, 0.2, is_call=True) == pytest.approx(7.965567, abs=1e-6)
    assert call - put == pytest.approx(discount * (forward - 40))


@pytest.mark.parametrize("vol", [0.05, 0.2, 1.5])
@pytest.mark.parametrize("strike", [80.0, 100.0, 125.0])
def test_inversion_gives_the_volatility_back(vol: float, strike: float) -> None:
    """Whatever has a price to tell it by: 5 % to 150 %, in and out of the money."""
    for is_call in (True, False):
        price = black76(100, strike, 0.5, vol, is_call=is_call, discount=0.97)
        intrinsic = 0.97 * max(0.0, (100 - strike) if is_call else (strike - 100))
        if price - intrinsic < 1e-9:
            continue
        found = implied_vol(price, 100, strike, 0.5, is_call=is_call, discount=0.97)
        assert found == pytest.approx(vol, rel=1e-4)


@pytest.mark.parametrize("price", [0.0, -1.0, 10.0, 9.99, 101.0, math.nan, math.inf])
def test_a_price_that_no_volatility_gives_is_missing(price: float) -> None:
    """At or below intrinsic value (10), above the forward, or no price at all."""
    assert math.isnan(implied_vol(price, 110, 100, 0.5, is_call=True) if price < 100 else
                      implied_vol(price, 100, 100, 0.5, is_call=True))  # fmt: skip
    assert math.isnan(implied_vol(5.0, 100, 100, 0.0, is_call=True))


def test_the_forward_is_read_off_parity() -> None:
    """No dividend or rate has to be known; strikes with one side only do not count."""
    strikes, calls, puts = chain(lambda _: 0.2, forward=103.0)
    calls[60:64] = np.nan
    assert implied_forward(strikes, calls, puts, spot=100.0) == pytest.approx(103.0)
    assert math.isnan(implied_forward(strikes, calls * np.nan, puts, spot=100.0))


def test_a_flat_smile_is_flat_at_every_delta() -> None:
    """Rates and carry change nothing of it."""
    found = smile_at_deltas(
        *chain(lambda _: 0.25, forward=102.0, rate=0.05), spot=100.0, years=0.5, rate=0.05
    )
    assert found == pytest.approx(np.full(10, 0.25), abs=1e-6)


def test_a_skewed_smile_is_read_where_its_deltas_are() -> None:
    """At each delta the volatility is that of the strike which has this delta."""

    def vol(strike: float) -> float:
        return 0.3 - 0.001 * (strike - 100)

    found = smile_at_deltas(*chain(vol), spot=100.0, years=0.5)
    for delta, iv in zip(DELTAS, found, strict=True):
        strikes = np.arange(40, 200, 0.01)
        own = [forward_delta(100, k, 0.5, vol(k), is_call=delta > 0) for k in strikes]
        strike = strikes[np.argmin(np.abs(np.array(own) - delta))]
        assert iv == pytest.approx(vol(strike), abs=5e-4)


def test_nothing_is_read_beyond_or_between_quotes_far_apart() -> None:
    """Wings that are not quoted are missing, and so is the middle of two lonely strikes."""
    strikes, calls, puts = chain(lambda _: 0.25)
    near = (strikes > 92) & (strikes < 108)
    found = smile_at_deltas(strikes[near], calls[near], puts[near], spot=100.0, years=0.5)
    assert np.isnan(found[[0, 1, -1, -2]]).all()
    assert np.isfinite(found[[4, 5]]).all()
    two = np.isin(strikes, [70, 140])
    assert np.isnan(smile_at_deltas(strikes[two], calls[two], puts[two], spot=100, years=0.5)).all()
    with pytest.raises(SurfacesError, match="got 2 strikes, 1 calls"):
        smile_at_deltas(strikes[two], calls[:1], puts[two], spot=100.0, years=0.5)
