"""The contract of implied-volatility surfaces, and the numbers read off them.

A long frame holds one quote a row: `timestamp` (of the snapshot, known then), `tenor` (1 is the
nearest), `delta` (puts negative) and `iv` (fraction). A grid holds the same quotes at fixed places:
N snapshots × 3 tenors × S = 9 strikes, at the money being the mean of the deltas ±.5. Form is
checked here, values by validation.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from atlas.bars import number_column, utc_timestamps
from atlas.errors import SurfacesError

__all__ = [
    "DELTAS",
    "STRIKES",
    "SURFACE_COLUMNS",
    "TENORS",
    "atm_iv",
    "butterfly",
    "check_surfaces",
    "on_strikes",
    "skew_iv",
    "surface_grid",
]

DELTAS = (-0.05, -0.10, -0.25, -0.40, -0.50, 0.50, 0.40, 0.25, 0.10, 0.05)
STRIKES = 9  # −.05 −.10 −.25 −.40 at-the-money .40 .25 .10 .05
TENORS = 3
SURFACE_COLUMNS = ("timestamp", "tenor", "delta", "iv")

_PUT, _ATM, _CALL = 2, 4, 6  # places of the 25-delta put, the money and the 25-delta call

Array = npt.NDArray[np.float64]


def check_surfaces(frame: pd.DataFrame, *, symbol: str = "") -> pd.DataFrame:
    """Bring quotes into the library's long form, without judging their values.

    Args:
        frame: `timestamp` as a column or as the index, `tenor`, `delta` and `iv`. Other columns
            are left out.
        symbol: named in errors.

    Returns:
        The rows in their order, as columns timestamp (UTC, microseconds), tenor (int8), delta and
        iv (float64).

    Raises:
        SurfacesError: naming the symbol and the column that is missing or cannot be read.
    """
    tenor = number_column(frame, "tenor", symbol, SurfacesError)
    whole = (tenor == np.rint(tenor)) & (np.abs(tenor) <= 127)  # NaN is not whole
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise SurfacesError(
            f"{symbol or 'frame'}: column 'tenor': expected whole numbers from 1 (nearest) "
            f"to {TENORS}, got {tenor[row]} in row {row} (from 0)"
        )
    return pd.DataFrame(
        {
            "timestamp": utc_timestamps(frame, symbol, SurfacesError),
            "tenor": tenor.astype(np.int8),
            "delta": number_column(frame, "delta", symbol, SurfacesError),
            "iv": number_column(frame, "iv", symbol, SurfacesError),
        }
    )


def surface_grid(frame: pd.DataFrame) -> tuple[pd.DatetimeIndex, Array]:
    """Lay checked quotes on the fixed grid.

    Args:
        frame: what `check_surfaces` returns, in any order. Tenors and deltas outside the grid are
            left out; of two quotes at one place the last counts.

    Returns:
        The N distinct timestamps in order, and iv (N, 3, 9) with NaN where no quote is. At the
        money is the mean of the deltas ±.5, or the one that is there.
    """
    times, row = np.unique(frame["timestamp"].to_numpy("datetime64[us]"), return_inverse=True)
    grid = np.full((len(times), TENORS, len(DELTAS)), np.nan)  # (N, 3, 10)
    tenor = frame["tenor"].to_numpy(np.int64) - 1
    delta = frame["delta"].to_numpy(np.float64)
    inside = (tenor >= 0) & (tenor < TENORS)
    for place, wanted in enumerate(DELTAS):
        here = inside & (np.abs(delta - wanted) < 1e-6)
        grid[row[here], tenor[here], place] = frame["iv"].to_numpy(np.float64)[here]
    return pd.DatetimeIndex(times, name="timestamp").tz_localize("UTC"), on_strikes(grid)


def on_strikes(quotes: Array) -> Array:
    """Return the grid (N, 3, 9) of quotes by delta (N, 3, 10): one strike at the money for ±.5."""
    put, call = quotes[:, :, _ATM], quotes[:, :, _ATM + 1]  # (N, 3) deltas −.5 and +.5
    money = np.where(np.isnan(put), call, np.where(np.isnan(call), put, (put + call) / 2))
    strikes = [quotes[:, :, :_ATM], money[:, :, None], quotes[:, :, _ATM + 2 :]]
    return np.concatenate(strikes, axis=2)


def atm_iv(grid: Array) -> Array:
    """Return the at-the-money implied volatility of the nearest tenor, (N,), fraction."""
    return grid[:, 0, _ATM]


def skew_iv(grid: Array) -> Array:
    """Return 25-delta put − 25-delta call of the nearest tenor, (N,), in the unit of `grid`.

    NaN where either is missing.
    """
    return grid[:, 0, _PUT] - grid[:, 0, _CALL]


def butterfly(grid: Array) -> Array:
    """Return 25-delta put + call − 2 at the money of the nearest tenor, (N,), unit of `grid`.

    NaN where any of the three is missing.
    """
    return grid[:, 0, _PUT] + grid[:, 0, _CALL] - 2 * grid[:, 0, _ATM]
