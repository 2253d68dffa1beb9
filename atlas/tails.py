"""The newest bars of symbols, from raw rows to a panel: the first half of serving.

- Rows become values, fingerprints and rule verdicts by the functions that training used, in the
  same order: bad rows out, adjustment, fingerprint, rule, hysteresis.
- The symbols of a market are worked through as one array, laid end to end, because a thousand short
  ones would otherwise cost a thousand times the calls; each gets what it would get alone.
- A bar is bad by the rules of validation (`atlas.row_rules`). It is left out, as the store leaves
  out quarantined rows, and every window that would have held it is marked broken.
- vol30 alone reaches back 30 sessions. Whoever does not hold so many bars gives the sessions' sums
  beside them, in the column `session_sums` (`atlas.long_frame`).
- A surface is taken with its holes, as in training; it is broken where the nearest tenor's
  at-the-money quote is missing.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import COLUMNS, OPTIONAL, PRICES, Timeframe, number_column
from atlas.calendars import has_close, session_days_at
from atlas.config import MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, fingerprint_surfaces, fingerprint_tails
from atlas.errors import BarsError
from atlas.long_frame import Rows, session_sums_of
from atlas.measures import bad_in_tails, bad_quotes
from atlas.rule import MEMORY, rule_experts, steadied
from atlas.surfaces import atm_iv, check_surfaces, surface_grid
from atlas.windows import WINDOW, Panel

__all__ = ["Tails", "panel_of", "read_tails"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]
Columns = dict[str, Floats]


class Tails(NamedTuple):
    """The good bars of a market's symbols, laid end to end, each in order of time.

    Attributes:
        symbols: n names.
        offsets: symbol i at offsets[i]:offsets[i+1], (n+1,).
        timestamp: open of the bar, or time of the snapshot, microseconds, (N,).
        session: days since 1970-01-01, (N,).
        grid: (5, N) adjusted OHLCV, or (N, 3, 9) implied volatility.
        fingerprint: (N, F).
        broken: (N,) the window that ends here lacks a bar; of no meaning before a whole window.
        short: (N,) vol30 is known from fewer than 30 sessions.
        last: time of each symbol's last bar that came, good or bad, microseconds, (n,).
    """

    symbols: tuple[str, ...]
    offsets: Positions
    timestamp: Positions
    session: Positions
    grid: Floats
    fingerprint: NDArray[np.float32]
    broken: Flags
    short: Flags
    last: Positions

    @property
    def bars(self) -> Positions:
        """How many good bars each symbol has, (n,)."""
        return np.diff(self.offsets)


def read_tails(rows: Rows, settings: MarketConfig) -> Tails:
    """Read one market's rows.

    Raises:
        DataError: a column that the market's modality needs is missing or cannot be read, or
            session_sums are not what `atlas.long_frame.sums_text` writes.
    """
    return _surfaces(rows, settings) if settings.modality == "surface" else _bars(rows, settings)


def panel_of(market: str, settings: MarketConfig, tails: Tails, ends: Positions) -> Panel:
    """Make a panel of tails that may be asked about the windows ending at `ends`.

    The rule's verdicts stand at `ends` alone; elsewhere they are 0.
    """
    timeframe = Timeframe.parse(settings.timeframe)
    verdicts = rule_experts(tails.fingerprint, settings.modality, timeframe)
    first = np.repeat(tails.offsets[:-1], tails.bars)[ends]
    reach = ends[:, None] + np.arange(1 - MEMORY, 1)  # (B, 9)
    rule = np.zeros(len(verdicts), np.int8)
    rule[ends] = steadied(np.where(reach < first[:, None], np.int8(-1), verdicts[reach]))
    return Panel(
        market=market,
        modality=settings.modality,
        timeframe=timeframe,
        symbols=tails.symbols,
        offsets=tails.offsets,
        timestamp=tails.timestamp,
        session=tails.session,
        values=tails.grid,
        fingerprint=tails.fingerprint,
        rule=rule,
        has_close=has_close(settings.calendar),
    )


def _bars(rows: Rows, settings: MarketConfig) -> Tails:
    step = Timeframe.parse(settings.timeframe)
    came = _numbers(rows)
    bad = bad_in_tails(rows.timestamp, came, rows.offsets, step.seconds * 1_000_000)
    offsets, times, columns = rows.offsets, rows.timestamp, came
    if bad.any():
        offsets = np.concatenate([[0], np.cumsum(~bad)])[offsets]
        times = times[~bad]
        columns = {name: values[~bad] for name, values in came.items()}
    prices = _adjusted(columns, offsets)
    read = {name: prices[name] for name in ("high", "low", "close")}
    if "adj_close" in columns:
        read["paid"] = columns["close"]
    read["volume"] = columns["volume"]
    for name in ("turnover", "bid", "ask"):  # one that no symbol of the frame has is not there
        if name in columns and not np.isnan(columns[name]).all():
            read[name] = columns[name]
    days = session_days_at(times, settings.calendar, step)
    sums = session_sums_of(rows)
    table, flags = fingerprint_tails(
        read, offsets, days, sums, step=step, calendar=settings.calendar
    )
    grid = np.stack([prices[name] for name in PRICES] + [columns["volume"]])  # (5, N)
    broken = _any_in_window(np.isnan(grid[: len(PRICES)].sum(axis=0)))
    if bad.any():
        broken |= _lacks_one(np.flatnonzero(~bad))
    last = rows.timestamp[rows.offsets[1:] - 1]
    return Tails(rows.symbols, offsets, times, days, grid, table.T, broken, flags[0], last)


def _numbers(rows: Rows) -> Columns:
    """Read the columns of bars; a market without a volume gets NaN."""
    names = [n for n in (*COLUMNS, *OPTIONAL) if n in PRICES or n in rows.frame.columns]
    try:
        columns = {name: number_column(rows.frame, name, rows.market, BarsError) for name in names}
    except BarsError:
        for symbol, own in rows.by_symbol():  # the one that cannot be read is named
            for name in names:
                number_column(own, name, f"{rows.market}/{symbol}", BarsError)
        raise
    columns.setdefault("volume", np.full(len(rows.timestamp), np.nan))
    return columns


def _adjusted(columns: Columns, offsets: Positions) -> Columns:
    """Scale prices as `atlas.bars.adjusted` does each symbol's."""
    prices = {name: columns[name] for name in PRICES}
    given = columns.get("adj_close")
    if given is None or np.isnan(given).all():
        return prices
    count = np.diff(offsets)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = given / columns["close"]
    known = np.isfinite(factor)
    row = np.arange(len(factor))
    newest = np.maximum.accumulate(np.where(known, row, -1))
    begun = newest >= np.repeat(offsets[:-1], count)
    factor = np.where(begun, factor[np.maximum(newest, 0)], np.nan)
    total = np.concatenate([[0], np.cumsum(~np.isnan(given))])
    has = np.repeat(np.diff(total[offsets]) > 0, count)
    factor = np.where(has, factor, 1.0)  # a symbol without any is as it came
    return {name: values * factor for name, values in prices.items()}


def _lacks_one(place: Positions) -> Flags:
    """Say which windows lack a bar, (N,), from the place of each good bar among all that came."""
    left_out = place - np.arange(len(place))
    lacks = np.zeros(len(place), np.bool_)
    lacks[WINDOW - 1 :] = left_out[WINDOW - 1 :] > left_out[: max(len(place) - WINDOW + 1, 0)]
    return lacks


def _surfaces(rows: Rows, settings: MarketConfig) -> Tails:
    parts = []
    for symbol, own in rows.by_symbol():
        quotes = check_surfaces(own, symbol=f"{rows.market}/{symbol}")
        index, grid = surface_grid(quotes.assign(iv=quotes["iv"].mask(bad_quotes(quotes))))
        parts.append((index.as_unit("us").asi8, grid, fingerprint_surfaces(index, grid)))
    times = np.concatenate([own for own, _, _ in parts])
    grid = np.ascontiguousarray(np.concatenate([own for _, own, _ in parts]))
    prints = pd.concat([own for _, _, own in parts])
    money = atm_iv(grid)
    offsets = np.cumsum([0, *(len(own) for own, _, _ in parts)], dtype=np.int64)
    return Tails(
        rows.symbols,
        offsets,
        times,
        session_days_at(times, settings.calendar, Timeframe.parse(settings.timeframe)),
        grid,
        prints[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32),
        ~(np.isfinite(money) & (money > 0)),
        prints["vol30_short"].to_numpy(np.bool_),
        times[offsets[1:] - 1],
    )


def _any_in_window(flags: Flags) -> Flags:
    """Say for each place whether any of the last WINDOW flags is set, (N,)."""
    total = np.cumsum(np.concatenate([np.zeros(WINDOW, np.int64), flags]))
    return np.asarray(total[WINDOW:] > total[:-WINDOW])
