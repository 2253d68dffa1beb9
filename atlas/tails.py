"""The newest bars of symbols, from raw rows to a panel: the first half of serving.

- Rows become values, fingerprints and rule verdicts by the functions that training used, in the
  same order: bad rows out, adjustment, fingerprint, rule, hysteresis.
- A bar is bad if a price is missing or not positive, if it breaks low ≤ open, close ≤ high, if its
  volume or spread is negative, or if its time comes twice. It is left out, as the store leaves out
  quarantined rows, and every window that would have held it is marked broken.
- A surface is taken with its holes, as in training; it is broken where the nearest tenor's
  at-the-money quote is missing.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import COLUMNS, OPTIONAL, PRICES, Timeframe, adjusted, check_bars
from atlas.calendars import has_close, session_days
from atlas.config import MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, fingerprint, fingerprint_surfaces
from atlas.gate import hysteresis, rule_experts
from atlas.surfaces import atm_iv, check_surfaces, surface_grid
from atlas.windows import WINDOW, Panel

__all__ = ["Tail", "panel_of", "read_tail"]

_LARGEST_IV = 5.0  # 500 % a year

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Tail(NamedTuple):
    """One symbol's good bars in order of time.

    Attributes:
        symbol: its name.
        timestamp: (N,) open of the bar, or time of the snapshot.
        grid: (5, N) adjusted OHLCV, or (N, 3, 9) implied volatility.
        fingerprint: (N, F).
        rule: (N,) index into EXPERT_IDS, after hysteresis.
        broken: (N,) the window that ends here lacks a bar.
        last: time of the last bar that came, good or bad.
    """

    symbol: str
    timestamp: pd.DatetimeIndex
    grid: Floats
    fingerprint: NDArray[np.float32]
    rule: NDArray[np.int8]
    broken: Flags
    last: pd.Timestamp


def read_tail(market: str, symbol: str, rows: pd.DataFrame, settings: MarketConfig) -> Tail:
    """Read one symbol's rows, at least one, in any order.

    Raises:
        DataError: a column that the market's modality needs is missing or cannot be read.
    """
    name = f"{market}/{symbol}"
    if settings.modality == "surface":
        return _surface_tail(symbol, check_surfaces(rows, symbol=name), settings)
    # a column that another symbol brought into the long frame is not one of this symbol's
    empty = [c for c in ("volume", *OPTIONAL) if c in rows and rows[c].isna().all()]
    bars = check_bars(rows.drop(columns=empty), symbol=name).sort_index(kind="stable")
    return _bar_tail(symbol, bars, settings)


def panel_of(market: str, settings: MarketConfig, tails: list[Tail]) -> Panel:
    """Lay tails end to end."""
    timeframe = Timeframe.parse(settings.timeframe)
    axis = 0 if settings.modality == "surface" else 1
    return Panel(
        market=market,
        modality=settings.modality,
        timeframe=timeframe,
        symbols=tuple(tail.symbol for tail in tails),
        offsets=np.cumsum([0, *(len(tail.timestamp) for tail in tails)], dtype=np.int64),
        timestamp=np.concatenate([tail.timestamp.as_unit("us").asi8 for tail in tails]),
        session=np.concatenate(
            [session_days(tail.timestamp, settings.calendar, timeframe) for tail in tails]
        ),
        values=np.ascontiguousarray(np.concatenate([tail.grid for tail in tails], axis=axis)),
        fingerprint=np.concatenate([tail.fingerprint for tail in tails]),
        rule=np.concatenate([tail.rule for tail in tails]),
        has_close=has_close(settings.calendar),
    )


def _bar_tail(symbol: str, bars: pd.DataFrame, settings: MarketConfig) -> Tail:
    good = _sound(bars) & ~bars.index.duplicated(keep=False)
    kept = bars[good]
    values = adjusted(kept)[list(COLUMNS)].to_numpy(np.float64).T  # (5, N)
    left_out = np.flatnonzero(good) - np.arange(len(kept))  # bad bars before each good one
    broken = np.zeros(len(kept), np.bool_)
    broken[WINDOW - 1 :] = left_out[WINDOW - 1 :] > left_out[: max(len(kept) - WINDOW + 1, 0)]
    broken |= _any_in_window(np.isnan(values[: len(PRICES)]).any(axis=0))
    prints = fingerprint(kept, settings.timeframe, calendar=settings.calendar)
    times = pd.DatetimeIndex(kept.index)
    return _tail(symbol, times, values, prints, broken, bars.index[-1], settings)


def _surface_tail(symbol: str, quotes: pd.DataFrame, settings: MarketConfig) -> Tail:
    iv = quotes["iv"]
    times, grid = surface_grid(quotes.assign(iv=iv.where((iv > 0) & (iv <= _LARGEST_IV))))
    money = atm_iv(grid)
    broken = ~(np.isfinite(money) & (money > 0))
    prints = fingerprint_surfaces(times, grid)
    return _tail(symbol, times, grid, prints, broken, times[-1], settings)


def _tail(
    symbol: str,
    times: pd.DatetimeIndex,
    grid: Floats,
    prints: pd.DataFrame,
    broken: Flags,
    last: pd.Timestamp,
    settings: MarketConfig,
) -> Tail:
    table = prints[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
    verdicts = rule_experts(table, settings.modality, Timeframe.parse(settings.timeframe))
    return Tail(symbol, times, grid, table, hysteresis(verdicts), broken, last)


def _sound(bars: pd.DataFrame) -> Flags:
    """Say which bars keep the contract of prices, (N,); what is optional may be missing."""
    opens, highs, lows, closes = bars[list(PRICES)].to_numpy(np.float64).T
    # a comparison with NaN is false, so a missing price is not sound
    sound = (highs >= np.maximum(opens, closes)) & (lows <= np.minimum(opens, closes))
    sound &= (lows > 0) & np.isfinite(highs) & ~(bars["volume"].to_numpy(np.float64) < 0)
    if "adj_close" in bars:
        sound &= ~(bars["adj_close"].to_numpy(np.float64) <= 0)
    if "bid" in bars and "ask" in bars:
        sound &= ~(bars["ask"] < bars["bid"]).to_numpy(np.bool_)
    return np.asarray(sound)


def _any_in_window(flags: Flags) -> Flags:
    """Say for each place whether any of the last WINDOW flags is set, (N,)."""
    total = np.cumsum(np.concatenate([np.zeros(WINDOW, np.int64), flags]))
    return np.asarray(total[WINDOW:] > total[:-WINDOW])
