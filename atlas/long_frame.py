"""The one long frame that a served model is asked with: whose rows are whose, in which order.

Rows may come in any order, names as text or categories, times as dates or text. They are sorted
once, by market and symbol in order of first appearance and then by time; a frame that comes sorted
is not copied.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import utc_microseconds
from atlas.errors import DataError
from atlas.session_vol import VOL_SESSIONS, KnownSums

__all__ = ["REQUIRED", "SUMS", "Rows", "by_market", "session_sums_of", "sums_text"]

REQUIRED = ("market", "symbol", "timestamp")
SUMS = "session_sums"  # the column

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

Positions = NDArray[np.int64]


class Rows(NamedTuple):
    """One market's rows, symbol after symbol, each in order of time.

    Attributes:
        market: its name.
        frame: the rows; index of no meaning.
        symbols: n names in order of first appearance.
        offsets: symbol i at offsets[i]:offsets[i+1], (n+1,).
        timestamp: microseconds since 1970 UTC, (N,).
    """

    market: str
    frame: pd.DataFrame
    symbols: tuple[str, ...]
    offsets: Positions
    timestamp: Positions

    def by_symbol(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield each symbol's name and rows."""
        for symbol, start, stop in zip(
            self.symbols, self.offsets[:-1], self.offsets[1:], strict=True
        ):
            yield symbol, self.frame.iloc[start:stop]


def by_market(frame: pd.DataFrame) -> list[Rows]:
    """Part a long frame into markets, in order of first appearance.

    Rows without a market or a symbol are left out.

    Raises:
        DataError: a required column is missing, or a time cannot be read.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DataError(f"frame: expected columns {', '.join(REQUIRED)}; missing: {missing}")
    times = utc_microseconds(frame, "frame", DataError)
    market, markets = _coded(frame["market"])
    symbol, symbols = _coded(frame["symbol"])
    begins = _begins(market, symbol)
    if not _is_sorted(times, market, symbol, begins):
        order = _order(times, market, symbol)
        frame = frame.iloc[order]
        times, market, symbol = times[order], market[order], symbol[order]
        begins = _begins(market, symbol)
    names = [symbols[code] for code in symbol[begins].tolist()]
    edges = np.append(begins, len(times))
    of_market = market[begins]
    found = []
    for code, name in enumerate(markets):
        own = np.flatnonzero(of_market == code)
        if not own.size:
            continue
        bounds = edges[own[0] : own[-1] + 2]
        start, stop = int(bounds[0]), int(bounds[-1])
        part = frame if stop - start == len(frame) else frame.iloc[start:stop]
        held = tuple(names[place] for place in own)
        found.append(Rows(name, part, held, bounds - start, times[start:stop]))
    return found


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


def session_sums_of(rows: Rows) -> list[KnownSums | None]:
    """Read the session sums of each symbol of a market; None where there are none.

    Raises:
        DataError: naming the symbol, if they are not what `sums_text` writes.
    """
    if SUMS not in rows.frame.columns:
        return [None] * len(rows.symbols)
    codes, texts = pd.factorize(rows.frame[SUMS])
    found: list[KnownSums | None] = []
    for place, symbol in enumerate(rows.symbols):
        own = np.unique(codes[rows.offsets[place] : rows.offsets[place + 1]])
        given = [texts[code] for code in own if code >= 0]
        found.append(_read_sums(given, f"{rows.market}/{symbol}") if given else None)
    return found


def _read_sums(texts: list[Any], name: str) -> KnownSums:
    try:
        (text,) = texts
        pairs = sorted(dict(json.loads(text)).items())
        odd = [day for day, _ in pairs if not _DAY.fullmatch(day)]
        if odd:
            raise ValueError(f"{odd[0]!r} is no date")
        days = np.array([day for day, _ in pairs], "datetime64[D]").astype(np.int64)
        values = np.array([value for _, value in pairs], np.float64)
        if (values < 0).any() or np.isinf(values).any():
            raise ValueError("a sum of squares is negative or infinite")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name}: expected {SUMS} to be one text for all rows, a JSON object of sums by date "
            f'such as {{"2026-11-18": 0.0002}}; got {texts[:2]}: {error}'
        ) from None
    return KnownSums(days, values)


def _coded(column: pd.Series) -> tuple[Positions, list[str]]:
    """Number the names of a column in order of first appearance, −1 where there is none."""
    codes, found = pd.factorize(column.array)  # of the column itself it takes thrice as long
    names = [str(name) for name in found]
    if len(set(names)) < len(names):  # 1 and "1"
        again, unique = pd.factorize(np.array(names, dtype=object))
        codes = np.append(again, -1)[codes]
        names = [str(name) for name in unique]
    return codes.astype(np.int64, copy=False), names


def _begins(market: Positions, symbol: Positions) -> Positions:
    """Return the rows at which a market or a symbol follows another one."""
    is_new = np.ones(len(market), np.bool_)
    is_new[1:] = (market[1:] != market[:-1]) | (symbol[1:] != symbol[:-1])
    return np.flatnonzero(is_new)


def _is_sorted(times: Positions, market: Positions, symbol: Positions, begins: Positions) -> bool:
    """Say whether no row is nameless, each symbol's rows are together, and their times ascend."""
    of_market, of_symbol = market[begins], symbol[begins]
    if min(of_market.min(initial=0), of_symbol.min(initial=0)) < 0:
        return False
    if len(pd.unique(_paired(of_market, of_symbol))) < len(begins):
        return False
    falls = times[1:] < times[:-1]
    falls[begins[1:] - 1] = False
    return not falls.any() and bool((of_market[1:] >= of_market[:-1]).all())


def _paired(market: Positions, symbol: Positions) -> Positions:
    """Return one number for each pair of a market and a symbol, −1 included."""
    return market * (int(symbol.max(initial=0)) + 2) + symbol


def _order(times: Positions, market: Positions, symbol: Positions) -> Positions:
    """Return how to sort the rows, leaving out nameless ones."""
    group, _ = pd.factorize(_paired(market, symbol))
    order = np.lexsort((times, group, market))
    return order[(market[order] >= 0) & (symbol[order] >= 0)]
