"""The newest bars of symbols, from raw rows to a panel: the first half of serving.

- Rows become values, fingerprints and rule verdicts by the functions that training used, in the
  same order: bad rows out, adjustment, fingerprint, rule, hysteresis.
- A bar is bad by the rules of validation (`atlas.row_rules`). It is left out, as the store leaves
  out quarantined rows, and every window that would have held it is marked broken.
- vol30 alone reaches back 30 sessions. Whoever does not hold so many bars gives the sessions' sums
  beside them, in the column `session_sums`.
- A surface is taken with its holes, as in training; it is broken where the nearest tenor's
  at-the-money quote is missing.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import COLUMNS, OPTIONAL, PRICES, Timeframe, adjusted, check_bars
from atlas.calendars import has_close, session_days
from atlas.config import MarketConfig
from atlas.data_fingerprint import (
    FINGERPRINT_COLUMNS,
    VOL_SESSIONS,
    fingerprint,
    fingerprint_surfaces,
)
from atlas.errors import DataError
from atlas.measures import bad_bars, bad_quotes
from atlas.rule import hysteresis, rule_experts
from atlas.surfaces import atm_iv, check_surfaces, surface_grid
from atlas.windows import WINDOW, Panel

__all__ = ["SUMS", "Tail", "panel_of", "read_tail", "sums_text"]

SUMS = "session_sums"  # the column

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
        short: (N,) vol30 is known from fewer than 30 sessions.
        last: time of the last bar that came, good or bad.
    """

    symbol: str
    timestamp: pd.DatetimeIndex
    grid: Floats
    fingerprint: NDArray[np.float32]
    rule: NDArray[np.int8]
    broken: Flags
    short: Flags
    last: pd.Timestamp


def read_tail(market: str, symbol: str, rows: pd.DataFrame, settings: MarketConfig) -> Tail:
    """Read one symbol's rows, at least one, in any order.

    Raises:
        DataError: a column that the market's modality needs is missing or cannot be read, or
            session_sums are not what `sums_text` writes.
    """
    name = f"{market}/{symbol}"
    if settings.modality == "surface":
        return _surface_tail(symbol, check_surfaces(rows, symbol=name), settings)
    # a column that another symbol brought into the long frame is not one of this symbol's
    empty = [c for c in ("volume", *OPTIONAL) if c in rows and rows[c].isna().all()]
    bars = check_bars(rows.drop(columns=empty), symbol=name).sort_index(kind="stable")
    return _bar_tail(symbol, bars, settings, _sums(rows, name))


def sums_text(sums: pd.Series) -> str:
    """Write session sums as the text that every row of the symbol holds in `session_sums`.

    Args:
        sums: what `atlas.data_fingerprint.session_sums` returned of the sessions before a tail of
            bars, and of those that the tail holds only in part; the last 30 are taken.

    Example:
        `{"2026-11-18": 0.00021, "2026-11-19": null}`: null where a return of the session is
        unknown.
    """
    last = sums.sort_index().iloc[-VOL_SESSIONS:]
    days = np.datetime_as_string(last.index.to_numpy(np.int64).astype("datetime64[D]"))
    values = [float(value) if np.isfinite(value) else None for value in last]
    return json.dumps(dict(zip(days.tolist(), values, strict=True)))


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


def _sums(rows: pd.DataFrame, name: str) -> pd.Series | None:
    """Read the symbol's session sums, by day since 1970-01-01; None where there are none."""
    texts: list[Any] = rows[SUMS].dropna().unique().tolist() if SUMS in rows else []
    if not texts:
        return None
    try:
        (text,) = texts
        sums = pd.Series(json.loads(text), dtype=np.float64)
        days = pd.to_datetime(sums.index, format="%Y-%m-%d").to_numpy("datetime64[D]")
        if (sums < 0).any() or np.isinf(sums).any():
            raise ValueError("a sum of squares is negative or infinite")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name}: expected {SUMS} to be one text for all rows, a JSON object of sums by date "
            f'such as {{"2026-11-18": 0.0002}}; got {texts[:2]}: {error}'
        ) from None
    return pd.Series(sums.to_numpy(), index=days.astype(np.int64))


def _bar_tail(
    symbol: str, bars: pd.DataFrame, settings: MarketConfig, sums: pd.Series | None
) -> Tail:
    good = ~bad_bars(bars, Timeframe.parse(settings.timeframe).seconds * 1_000_000)
    kept = bars[good]
    values = adjusted(kept)[list(COLUMNS)].to_numpy(np.float64).T  # (5, N)
    left_out = np.flatnonzero(good) - np.arange(len(kept))  # bad bars before each good one
    broken = np.zeros(len(kept), np.bool_)
    broken[WINDOW - 1 :] = left_out[WINDOW - 1 :] > left_out[: max(len(kept) - WINDOW + 1, 0)]
    broken |= _any_in_window(np.isnan(values[: len(PRICES)]).any(axis=0))
    prints = fingerprint(kept, settings.timeframe, calendar=settings.calendar, session_sums=sums)
    times = pd.DatetimeIndex(kept.index)
    return _tail(symbol, times, values, prints, broken, bars.index[-1], settings)


def _surface_tail(symbol: str, quotes: pd.DataFrame, settings: MarketConfig) -> Tail:
    times, grid = surface_grid(quotes.assign(iv=quotes["iv"].mask(bad_quotes(quotes))))
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
    short = prints["vol30_short"].to_numpy(np.bool_)
    return Tail(symbol, times, grid, table, hysteresis(verdicts), broken, short, last)


def _any_in_window(flags: Flags) -> Flags:
    """Say for each place whether any of the last WINDOW flags is set, (N,)."""
    total = np.cumsum(np.concatenate([np.zeros(WINDOW, np.int64), flags]))
    return np.asarray(total[WINDOW:] > total[:-WINDOW])
