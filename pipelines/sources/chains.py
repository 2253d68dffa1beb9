"""An option chain as yfinance gives it, turned into the quotes of a surface."""

from typing import Any

import numpy as np
import pandas as pd

from atlas.errors import DataError
from atlas.implied_vol import smile_at_deltas
from atlas.surfaces import DELTAS

__all__ = ["chain_surface", "last_trade"]

CLOSE_HOUR = 16  # of the exchange's day, when options expire
YEAR_S = 365.25 * 86_400.0


def last_trade(underlying: dict[str, Any], name: str) -> pd.Timestamp:
    """Return when the chain's underlying last traded: the time of the snapshot.

    Raises:
        DataError: the chain does not say.
    """
    seconds = underlying.get("regularMarketTime")
    if not isinstance(seconds, (int, float)):
        raise DataError(f"{name}: expected regularMarketTime with the chain, got {seconds!r}")
    return pd.Timestamp(int(seconds), unit="s", tz="UTC").as_unit("us")


def chain_surface(
    chain: Any, date: str, taken: pd.Timestamp, *, tenor: int, rate: float
) -> pd.DataFrame:
    """Return one expiry's quotes at the grid's deltas: timestamp, tenor, delta, iv.

    Args:
        chain: with frames `calls` and `puts` and the dict `underlying`.
        date: of the expiry.
        taken: time of the snapshot.
        tenor: the expiry's place, 1 the nearest.
        rate: riskless, a year.
    """
    calls, puts = _mids(chain.calls), _mids(chain.puts)
    strikes = calls.index.union(puts.index)
    zone = chain.underlying.get("exchangeTimezoneName", "America/New_York")
    expiry = pd.Timestamp(date).tz_localize(zone) + pd.Timedelta(hours=CLOSE_HOUR)
    vols = smile_at_deltas(
        strikes.to_numpy(np.float64),
        calls.reindex(strikes).to_numpy(np.float64),
        puts.reindex(strikes).to_numpy(np.float64),
        spot=float(chain.underlying["regularMarketPrice"]),
        years=(expiry - taken).total_seconds() / YEAR_S,
        rate=rate,
    )
    frame = pd.DataFrame(
        {"timestamp": taken, "tenor": tenor, "delta": DELTAS, "iv": np.round(vols, 6)}
    )
    return frame[frame["iv"].notna()].reset_index(drop=True)


def _mids(side: pd.DataFrame) -> pd.Series:
    """Return the middle of bid and ask by strike, of options that have both."""
    bid, ask = side["bid"].to_numpy(np.float64), side["ask"].to_numpy(np.float64)
    quoted = (bid > 0) & (ask >= bid)
    mids = pd.Series((bid + ask)[quoted] / 2, index=side["strike"].to_numpy(np.float64)[quoted])
    return mids[~mids.index.duplicated()].sort_index()
