"""The contract of a bar frame: which columns, which types, what a timestamp means.

A timestamp is the bar's *open*, in UTC; the bar is known at open + timeframe, and daily bars carry
midnight UTC of their session's date. A frame is checked for its form here and never for its
values: rows that break high ≥ max(open, close) are the business of validation, which must see
them. A missing volume is missing, never 0.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.arrays import DatetimeArray

from atlas.errors import BarsError, ConfigError, DataError

__all__ = [
    "COLUMNS",
    "OPTIONAL",
    "PRICES",
    "Timeframe",
    "adjusted",
    "check_bars",
    "number_column",
    "utc_microseconds",
    "utc_timestamps",
]

PRICES = ("open", "high", "low", "close")
COLUMNS = (*PRICES, "volume")
OPTIONAL = ("bid", "ask", "turnover", "adj_close", "contract")

_CHECKED = pd.DatetimeTZDtype("us", "UTC")  # of timestamps that need no reading
_DAY = 86_400
_UNITS = {"w": 7 * _DAY, "d": _DAY, "h": 3_600, "min": 60, "s": 1}  # longest first
Microseconds = npt.NDArray[np.int64]
_TIMEFRAME = re.compile(r"([1-9][0-9]*)(s|min|h|d|w)")


@dataclass(frozen=True)
class Timeframe:
    """The length of a bar, from one second to one week; `parse` gives equal lengths one name."""

    name: str
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Timeframe":
        """Read a length such as `1s`, `5min`, `4h`, `1d` or `1w`.

        Raises:
            ConfigError: if `text` is no length from 1s to 1w.

        Example:
            `Timeframe.parse("60min")` is `Timeframe("1h", 3600)`.
        """
        seconds = _seconds(text) if isinstance(text, str) else 0
        if not seconds:
            raise ConfigError(
                f"timeframe {text!r}: expected a number and one of s, min, h, d, w, "
                "between 1s and 1w, such as 5min"
            )
        return _timeframe(seconds)

    @property
    def delta(self) -> pd.Timedelta:
        """The length as a Timedelta."""
        return pd.Timedelta(seconds=self.seconds)

    @property
    def is_intraday(self) -> bool:
        """Whether bars are shorter than a day."""
        return self.seconds < _DAY

    @property
    def bars_per_day(self) -> float:
        """Bars in 24 hours (1 for daily bars, 1/7 for weekly ones), whatever the calendar."""
        return _DAY / self.seconds


@lru_cache(256)  # one answer of a served model asks fifteen times
def _seconds(text: str) -> int:
    """Return how long a text says that a bar is; 0 if it does not, or not from 1s to 1w."""
    found = _TIMEFRAME.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    return seconds if seconds <= _UNITS["w"] else 0


@lru_cache(256)
def _timeframe(seconds: int) -> Timeframe:
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return Timeframe(f"{seconds // _UNITS[unit]}{unit}", seconds)


def check_bars(frame: pd.DataFrame, *, symbol: str = "") -> pd.DataFrame:
    """Bring a frame of N bars into the library's form, without judging its values.

    Args:
        frame: `timestamp` as a column or as the index (dates with a zone are converted, dates
            without one are taken as UTC), `open high low close`, and any of `volume` and
            `OPTIONAL`. Other columns are left out.
        symbol: named in errors.

    Returns:
        The N rows in their order: index `timestamp` (UTC, microseconds), columns float64 in the
        order of `COLUMNS` and `OPTIONAL`. A frame without volume gets a column of NaN. A frame
        that is in this form costs no copy.

    Raises:
        BarsError: naming the symbol and the column that is missing or cannot be read.
    """
    if not isinstance(frame, pd.DataFrame):
        raise BarsError(
            f"{symbol or 'bars'}: expected a pandas DataFrame with the columns timestamp, "
            f"{', '.join(PRICES)}; got {type(frame).__module__}.{type(frame).__name__}"
        )
    given = frame.set_index("timestamp") if list(frame.columns[:1]) == ["timestamp"] else frame
    if _is_checked(given):
        return given.copy(deep=False)  # shares memory until either is written to
    index = pd.DatetimeIndex(utc_timestamps(frame, symbol, BarsError), name="timestamp")
    data = {
        name: number_column(frame, name, symbol, BarsError)
        for name in (*COLUMNS, *OPTIONAL)
        if name in PRICES or name in frame.columns
    }
    bars = pd.DataFrame(data, index=index)
    if "volume" not in bars:
        bars.insert(len(PRICES), "volume", np.nan)
    return bars


def adjusted(
    bars: pd.DataFrame, offsets: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
) -> pd.DataFrame:
    """Scale open, high, low and close by adj_close / close.

    A row without a usable `adj_close` takes the factor of the row before; rows before the first
    factor become NaN, as a price on another scale would read as a move. A frame without any
    `adj_close` comes back as it is. Volume, bid, ask and turnover keep their values.

    Args:
        bars: checked bars, (N,).
        offsets: of symbols end to end, symbol i at offsets[i]:offsets[i + 1]; each is adjusted by
            itself, as if it came alone.

    Example:
        close 10 with adj_close 5 and open 8 gives open 4, close 5.
    """
    if "adj_close" not in bars or bars["adj_close"].isna().all():
        return bars
    factor = (bars["adj_close"] / bars["close"]).replace([np.inf, -np.inf], np.nan)
    if offsets is None or len(offsets) == 2:
        factor = factor.ffill()
    else:
        symbol = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        given = bars["adj_close"].notna().groupby(symbol).transform("any")
        factor = factor.groupby(symbol).ffill().where(given, 1.0)
    scaled = {name: bars[name] * factor for name in PRICES}
    return bars.assign(**scaled, adj_close=scaled["close"])


def utc_timestamps(frame: pd.DataFrame, symbol: str, error: type[DataError]) -> pd.Series:
    """Read the column or index `timestamp` of a frame as UTC in microseconds.

    Raises:
        DataError: of the class `error`, naming the symbol and the first row that is no date.
    """
    if "timestamp" in frame.columns:
        raw = pd.Series(frame["timestamp"].array)
    elif isinstance(frame.index, pd.DatetimeIndex) or frame.index.name == "timestamp":
        raw = pd.Series(frame.index.array)
    else:
        raise error(_missing(symbol, "timestamp", frame))
    if raw.dtype == _CHECKED and not raw.hasnans:
        return raw
    if pd.api.types.is_numeric_dtype(raw.dtype):
        raise error(
            f"{symbol or 'frame'}: column 'timestamp': expected dates such as "
            f"2026-11-20T14:30:00Z, got numbers of an unknown unit ({raw.dtype})"
        )
    try:
        parsed = pd.to_datetime(raw, utc=True, format="ISO8601", errors="coerce")
    except (ValueError, TypeError) as cause:
        raise error(f"{symbol or 'frame'}: column 'timestamp': {cause}") from None
    if parsed.isna().any():
        row = int(np.flatnonzero(parsed.isna())[0])
        came = raw.iloc[row]
        fault: str = (
            "holds no date: remove the row or fill in its date"
            if pd.isna(came)
            else f"expected a date such as 2026-11-20T14:30:00Z (ISO 8601), got {came!r}"
        )
        raise error(f"{symbol or 'frame'}: column 'timestamp': row {row} (from 0) {fault}")
    return parsed.dt.as_unit("us")


def utc_microseconds(frame: pd.DataFrame, symbol: str, error: type[DataError]) -> Microseconds:
    """Read the column or index `timestamp` of a frame as microseconds since 1970 UTC, (N,).

    Raises:
        DataError: as `utc_timestamps`.
    """
    if "timestamp" in frame.columns and (column := frame["timestamp"]).dtype.kind == "M":
        times = np.asarray(cast("DatetimeArray", column.array).as_unit("us").view("i8"))
        if not (times == pd.NaT.value).any():
            return times
    return np.asarray(pd.DatetimeIndex(utc_timestamps(frame, symbol, error)).asi8)


def number_column(
    frame: pd.DataFrame, name: str, symbol: str, error: type[DataError]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Read one column of a frame as float64.

    Raises:
        DataError: of the class `error`, naming the symbol and the column.
    """
    if name not in frame.columns:
        raise error(_missing(symbol, name, frame))
    column = frame[name]
    if isinstance(column, pd.DataFrame):
        raise error(f"{symbol or 'frame'}: column {name!r} comes more than once: keep one of them")
    if column.dtype == np.float64:
        return column.to_numpy()
    if column.dtype.kind in "Mmc":  # as numbers these would be nanoseconds, or lose a part
        raise error(f"{symbol or 'frame'}: column {name!r}: expected numbers; got {column.dtype}")
    try:
        return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as cause:
        raise error(f"{symbol or 'frame'}: column {name!r}: expected numbers; {cause}") from None


def _is_checked(frame: pd.DataFrame) -> bool:
    index, columns = frame.index, tuple(frame.columns)
    return (
        index.name == "timestamp"
        and index.dtype == _CHECKED
        and not index.hasnans
        and columns[: len(COLUMNS)] == COLUMNS
        and columns == tuple(name for name in (*COLUMNS, *OPTIONAL) if name in columns)
        and all(dtype == np.float64 for dtype in frame.dtypes.tolist())
    )


def _missing(symbol: str, name: str, frame: pd.DataFrame) -> str:
    came = ", ".join(str(column) for column in frame.columns) or "none"
    return f"{symbol or 'frame'}: column {name!r} is missing; columns that came: {came}"
