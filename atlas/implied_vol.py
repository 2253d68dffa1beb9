"""Implied volatility from option prices: Black-76, its inversion, and a smile read at fixed deltas.

A vendor's own implied volatility is a black box: other rates, stale trades, no forward. What is
used here is the middle of bid and ask alone. The forward is read off put–call parity, so that
neither dividends nor the cost of carry have to be known. Deltas are of the forward, puts negative.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr

from atlas.errors import SurfacesError
from atlas.surfaces import DELTAS

__all__ = ["black76", "forward_delta", "implied_forward", "implied_vol", "smile_at_deltas"]

Array = npt.NDArray[np.float64]
LOWEST, HIGHEST = 1e-4, 10.0  # volatilities that are searched, fraction a year
NEAR_MONEY = 6  # strikes that vote on the forward
WIDEST_GAP = 0.35  # of delta between quotes; nothing is read off in a wider one


def black76(
    forward: float, strike: float, years: float, vol: float, *, is_call: bool, discount: float = 1.0
) -> float:
    """Return the price of a European option on a forward (Black, 1976), in its unit.

    Args:
        years: to expiry, above 0.
        vol: fraction a year, above 0.
        discount: present value of 1 paid at expiry.

    Example:
        forward 100, strike 100, 1 year, vol .2 gives 7.9656 for a call and a put.
    """
    spread = vol * np.sqrt(years)
    d1 = np.log(forward / strike) / spread + spread / 2
    d2 = d1 - spread
    if is_call:
        return float(discount * (forward * ndtr(d1) - strike * ndtr(d2)))
    return float(discount * (strike * ndtr(-d2) - forward * ndtr(-d1)))


def implied_vol(
    price: float,
    forward: float,
    strike: float,
    years: float,
    *,
    is_call: bool,
    discount: float = 1.0,
) -> float:
    """Return the volatility at which `black76` gives `price`, fraction a year.

    NaN if no volatility does: the price is at or below the option's intrinsic value, above the
    most it can be worth, or missing; and if the option has expired.
    """
    inputs = (price, forward, strike, years, discount)
    if not all(np.isfinite(inputs)) or min(inputs) <= 0:
        return float("nan")

    def gap(vol: float) -> float:
        found = black76(forward, strike, years, vol, is_call=is_call, discount=discount)
        return found - price

    if gap(LOWEST) >= 0 or gap(HIGHEST) <= 0:
        return float("nan")
    return float(brentq(gap, LOWEST, HIGHEST, xtol=1e-10, rtol=1e-12))


def forward_delta(
    forward: float, strike: float, years: float, vol: float, *, is_call: bool
) -> float:
    """Return the delta to the forward, undiscounted; a put's is negative."""
    spread = vol * np.sqrt(years)
    d1 = float(np.log(forward / strike) / spread + spread / 2)
    return float(ndtr(d1)) if is_call else float(ndtr(d1)) - 1.0


def implied_forward(
    strikes: Array, calls: Array, puts: Array, *, spot: float, discount: float = 1.0
) -> float:
    """Return the forward that put–call parity implies: the median over strikes next to the spot.

    Args:
        strikes: (S,).
        calls: (S,) mid prices, NaN where there is none.
        puts: (S,) likewise.
        spot: chooses the strikes; the forward itself comes from the prices.

    Returns:
        The forward, NaN if no strike has both prices.
    """
    both = np.flatnonzero(np.isfinite(calls) & np.isfinite(puts))
    if not both.size:
        return float("nan")
    near = both[np.argsort(np.abs(strikes[both] - spot), kind="stable")[:NEAR_MONEY]]
    return float(np.median(strikes[near] + (calls[near] - puts[near]) / discount))


def smile_at_deltas(
    strikes: Array, calls: Array, puts: Array, *, spot: float, years: float, rate: float = 0.0
) -> Array:
    """Return the implied volatilities of one expiry at the grid's deltas, (10,), fraction a year.

    Options out of the money are inverted, puts below the forward and calls above; between them
    volatility is linear in delta. NaN where quotes are too far apart, or do not reach.

    Args:
        strikes: (S,) in any order.
        calls: (S,) mid prices, NaN where there is none.
        puts: (S,) likewise.
        spot: of the underlying.
        years: to expiry, above 0.
        rate: riskless, a year, continuously compounded.

    Raises:
        SurfacesError: arrays of different lengths.
    """
    if not len(strikes) == len(calls) == len(puts):
        raise SurfacesError(
            f"expected a call and a put price for each strike; got {len(strikes)} strikes, "
            f"{len(calls)} calls, {len(puts)} puts"
        )
    missing = np.full(len(DELTAS), np.nan)
    discount = float(np.exp(-rate * years))
    forward = implied_forward(strikes, calls, puts, spot=spot, discount=discount)
    if not np.isfinite(forward) or forward <= 0 or years <= 0:
        return missing
    points = []
    for strike, call, put in zip(strikes, calls, puts, strict=True):
        is_call = bool(strike >= forward)
        price = float(call if is_call else put)
        vol = implied_vol(price, forward, strike, years, is_call=is_call, discount=discount)
        if np.isfinite(vol):  # by the delta of a call, on which both sides are one curve
            points.append((forward_delta(forward, strike, years, vol, is_call=True), vol))
    if not points:
        return missing
    delta, vols = np.array(sorted(points)).T
    wanted = np.array([one if one > 0 else 1 + one for one in DELTAS])
    place = np.searchsorted(delta, wanted)
    low, high = np.maximum(place - 1, 0), np.minimum(place, len(delta) - 1)
    reached = (wanted >= delta[0]) & (wanted <= delta[-1])
    found = np.interp(wanted, delta, vols)
    return np.where(reached & (delta[high] - delta[low] <= WIDEST_GAP), found, np.nan)
