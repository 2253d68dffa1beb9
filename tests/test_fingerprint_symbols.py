"""Symbols end to end, the newest bar alone, and bars of any kind."""

import itertools

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe, adjusted
from atlas.calendars import session_days
from atlas.data_fingerprint import (
    FINGERPRINT_COLUMNS,
    FINGERPRINT_FLAGS,
    fingerprint,
    fingerprint_symbols,
    fingerprint_tails,
    latest,
    session_sums,
)
from atlas.errors import DataError
from atlas.session_vol import KnownSums
from tests.test_data_fingerprint import daily, intraday, same_bits


def alone(bars: pd.DataFrame, offsets: np.ndarray, *given: object, **named: object) -> pd.DataFrame:
    """Fingerprint each symbol in a call of its own, without columns that it has nothing in."""
    sums = named.pop("session_sums", {})
    parts = []
    for i, (start, stop) in enumerate(itertools.pairwise(offsets)):
        own = bars.iloc[start:stop]
        empty = [n for n in ("turnover", "adj_close") if n in own and own[n].isna().all()]
        parts.append(
            fingerprint(own.drop(columns=empty), *given, session_sums=sums.get(i), **named)
        )
    return pd.concat(parts)


@pytest.mark.parametrize(("timeframe", "calendar"), [("1d", "24/7"), ("5min", "XNYS")])
def test_symbols_end_to_end_have_the_bits_they_have_alone(timeframe: str, calendar: str) -> None:
    """Many symbols in one call, short and empty ones too, across blocks, with sums handed in."""
    daily_bars, long = timeframe == "1d", 13_000 if timeframe == "1d" else 12_600
    whole = daily(long) if daily_bars else intraday(170).iloc[:long]
    lengths = [3, 300, 0, 1, 257, long, 29, 30, 31, 0, 700, 600]
    parts = [(whole if n == long else whole.iloc[-700:]).iloc[-n or long :] for n in lengths]
    bars, offsets = pd.concat(parts), np.cumsum([0, *lengths])
    bars["turnover"] = bars["volume"] * 7.0
    bars["adj_close"] = bars["close"] * np.where(np.arange(len(bars)) % 1_000 < 300, 0.5, 1.0)
    for symbol, name in ((1, "turnover"), (4, "adj_close"), (10, "adj_close"), (10, "bid")):
        bars.iloc[slice(*offsets[symbol : symbol + 2]), bars.columns.get_loc(name)] = np.nan
    bars.iloc[offsets[11] - 3 : offsets[11] + 3, bars.columns.get_loc("adj_close")] = np.nan
    sums = session_sums(whole, timeframe, calendar=calendar)
    named = {"calendar": calendar, "session_sums": {1: sums, 4: sums.iloc[:-2], 2: sums}}
    table = fingerprint_symbols(bars, offsets, timeframe, **named)
    same_bits(table, alone(bars, offsets, timeframe, **named))
    step, sums_of = Timeframe.parse(timeframe), dict.fromkeys(range(len(lengths)))
    for place, own in named["session_sums"].items():
        sums_of[place] = KnownSums(own.index.to_numpy(), own.to_numpy())
    prices, days = adjusted(bars, offsets), session_days(bars.index, calendar, step)
    columns = {n: bars[n].to_numpy() for n in ("volume", "turnover", "bid", "ask")}
    columns |= {n: prices[n].to_numpy() for n in ("high", "low", "close")}
    columns["paid"] = bars["close"].to_numpy()
    arrays, flags = fingerprint_tails(
        columns, offsets, days, [*sums_of.values()], step=step, calendar=calendar
    )
    np.testing.assert_array_equal(arrays.T, table[list(FINGERPRINT_COLUMNS)])
    np.testing.assert_array_equal(flags.T, table[list(FINGERPRINT_FLAGS)])
    assert not table["vol30_short"].iloc[offsets[2] - 1]


def test_offsets_that_do_not_cut_the_bars_are_refused() -> None:
    """The error says from where to where they must run."""
    bars = daily(40)
    for wrong in ([0, 30], [1, 40], [0, 30, 20, 40], [40], [0.0, 40.0], None):
        with pytest.raises(DataError, match="offsets that ascend from 0 to 40"):
            fingerprint_symbols(bars, np.array(wrong))


def test_latest_is_the_fingerprint_of_the_seed() -> None:
    """The seed's fp has its five keys, with the newest bar's values."""
    bars = daily(400)
    fp = latest(bars)
    assert list(fp) == ["vol30", "trend_r2", "hurst", "spread", "volume_z"]
    assert fp == {key: float(value) for key, value in fingerprint(bars).iloc[-1][list(fp)].items()}
    assert all(np.isnan(value) for value in latest(bars.iloc[:0]).values())
