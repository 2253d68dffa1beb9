"""One symbol: its newest window as bars and as the model sees it, its fingerprint, its answers.

A fingerprint is told range by range: which rows of the catalogue hold, which rule speaks, and how
likely a value is by chance. Chance is the stored null of a random walk for trend and Hurst; for the
others it is the share of the market's own rows that lie in the range.
"""

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from atlas.bars import COLUMNS, Timeframe, adjusted
from atlas.catalogue import CATALOGUE, DEFAULTS, Range
from atlas.charts import WINDOW, render, render_surfaces
from atlas.config import LabelConfig, MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.errors import DataError
from atlas.rule import SEED_RULES
from atlas.surfaces import atm_iv, skew_iv, surface_grid
from dashboard.gates import gate_columns
from dashboard.reading import batches, columns, footer, stored
from dashboard.words import counted
from pipelines import store
from pipelines.paths import Paths

__all__ = [
    "Claim",
    "Condition",
    "Portrait",
    "Window",
    "answers",
    "asked",
    "claims",
    "fingerprint_history",
    "newest_window",
    "portrait",
    "price_history",
]

Floats = NDArray[np.float64]
_VOLATILITY = {"log_rv": "realised", "log_rv_predicted": "volatility"}
_ASKED = {
    "direction": "the close is higher",
    "relative_direction": "the close has done better than the median symbol's",
    "surface_change": "the {measure} of implied volatility is higher",
}
_NO_FINGERPRINT = "{}/{}: the last night has no fingerprint of it"
_SAMPLE = 20_000  # rows of a market that stand for all of them
_MARKET_LINES = 12  # symbols that an index of a market is made of


class Condition(NamedTuple):
    """One range of the catalogue: its column, the range and the value as text, whether it holds."""

    column: str
    wanted: str
    value: str
    holds: bool
    chance: str


class Claim(NamedTuple):
    """One expert's rows of conditions; `speaks` if it is named by all of them together."""

    expert: str
    is_home: bool
    conditions: tuple[Condition, ...]
    speaks: bool


class Portrait(NamedTuple):
    """The newest fingerprint of a symbol, the rule's verdict now, and after its memory."""

    timestamp: pd.Timestamp
    values: dict[str, float]
    flags: dict[str, bool]
    raw: str
    steady: str
    reason: str
    claims: tuple[Claim, ...]


class Window(NamedTuple):
    """The newest 64 bars or surfaces: times, what people read, and the model's channels."""

    times: pd.DatetimeIndex
    lines: dict[str, Floats]
    channels: dict[str, Floats]
    is_surface: bool


def portrait(paths: Paths, market: str, settings: MarketConfig, symbol: str) -> Portrait:
    """Explain the newest fingerprint of a symbol.

    Raises:
        DataError: there is none.
    """
    row = _newest(paths, market, symbol)
    values = {name: float(row[name]) for name in FINGERPRINT_COLUMNS}
    found = claims(values, settings, _usual(paths, market))
    raw, reason = _verdict(values, settings, found)
    flags = {name: bool(row[name]) for name in ("vol30_short", "spread_estimated")}
    return Portrait(row["timestamp"], values, flags, raw, str(row["rule"]), reason, found)


def fingerprint_history(paths: Paths, market: str, symbol: str, column: str) -> pd.DataFrame:
    """Return timestamp and one column of a symbol's fingerprints, in order of time.

    Raises:
        DataError: there are none.
    """
    path = paths.fingerprints(market)

    def read() -> pd.DataFrame:
        return columns(path, ["timestamp", column], equal={"symbol": symbol})

    rows: pd.DataFrame = stored([path], ("history", symbol, column), read)
    if rows.empty:
        raise DataError(_NO_FINGERPRINT.format(market, symbol))
    return rows


def _newest(paths: Paths, market: str, symbol: str) -> "pd.Series[Any]":
    """Return a symbol's newest fingerprint, whole; of the others one piece at a time is held."""
    path = paths.fingerprints(market)
    names = ["timestamp", *FINGERPRINT_COLUMNS, "vol30_short", "spread_estimated", "rule"]

    def read() -> pd.DataFrame:
        last = deque(batches(path, names, equal={"symbol": symbol}), maxlen=1)
        return last[0].slice(last[0].num_rows - 1).to_pandas() if last else pd.DataFrame()

    rows: pd.DataFrame = stored([path], ("newest", symbol), read)
    if rows.empty:
        raise DataError(_NO_FINGERPRINT.format(market, symbol))
    return rows.iloc[-1]


def claims(
    values: dict[str, float], settings: MarketConfig, usual: pd.DataFrame
) -> tuple[Claim, ...]:
    """Hold a fingerprint against every row of the catalogue of its modality."""
    seconds = Timeframe.parse(settings.timeframe).seconds
    found = []
    for spec in CATALOGUE:
        if spec.modality != settings.modality:
            continue
        conditions = tuple(_condition(one, values, usual) for one in spec.ranges)
        is_home = spec.is_home(seconds)
        speaks = is_home and all(condition.holds for condition in conditions)
        found.append(Claim(spec.id, is_home, conditions, speaks))
    return tuple(found)


def asked(label: LabelConfig) -> str:
    """Say in words what a probability is the probability of."""
    what = _ASKED[label.kind].format(measure=label.measure)
    pause = f" and a pause of {label.skip}" if label.skip else ""
    return f"{what} after {counted(label.horizon, 'bar')}{pause}"


def newest_window(
    paths: Paths, market: str, settings: MarketConfig, symbol: str, night: pd.Timestamp
) -> Window:
    """Return the newest window that a night knows, for eyes and for the model.

    Raises:
        DataError: the symbol is not stored, or has too few bars.
    """
    files = store.symbol_files(paths, market, symbol)

    def read() -> Window:
        return _window(paths, market, settings, symbol, night)

    return stored([*files, paths.validation(market)], ("window", symbol, night), read)


def answers(paths: Paths, variant: str, market: str, symbol: str) -> pd.DataFrame:
    """Return the windows of a symbol that a variant scored, in order of time.

    Columns timestamp, split, y, probability; volatility (predicted, of the market's volatility
    horizon) with what it was, `realised`, and gate_<expert>, where it has them.

    Raises:
        DataError: there are none.
    """
    path = paths.model(variant) / "predictions.parquet"
    there = footer(path).schema.names
    names = ["timestamp", "split", "y", "probability"]
    names += [name for name in ("log_rv", "log_rv_predicted") if name in there]
    names += [n for n in gate_columns(tuple(spec.id for spec in CATALOGUE)) if n in there]

    def read() -> pd.DataFrame:
        equal = {"market": market, "symbol": symbol}
        rows = columns(path, names, equal=equal).sort_values("timestamp", ignore_index=True)
        for name in {"log_rv", "log_rv_predicted"} & set(there):
            rows[_VOLATILITY[name]] = np.exp(rows[name] / 2)
        return rows

    rows: pd.DataFrame = stored([path], ("answers", market, symbol), read)
    if rows.empty:
        raise DataError(f"{market}/{symbol}: the last night scored no window of it")
    return rows


def price_history(
    paths: Paths, market: str, settings: MarketConfig, symbol: str | None, night: pd.Timestamp
) -> "tuple[pd.Series[float], str]":
    """Return prices for under a gate, and what they are: a symbol's, or an index of some symbols.

    Raises:
        DataError: nothing is stored.
    """
    if symbol is not None:
        said = "implied volatility at the money" if settings.modality == "surface" else "close"
        return _price(paths, market, settings, symbol, night), said
    names = store.symbols(paths, market)
    chosen = names[:: -(-len(names) // _MARKET_LINES) or 1]
    parts = [_price(paths, market, settings, name, night) for name in chosen]
    parts = [part / part.iloc[0] * 100 for part in parts if len(part)]
    if not parts:
        raise DataError(f"{market}: no bars are stored: run ingest first")
    whole = pd.concat(parts, axis=1).ffill().mean(axis=1)
    return whole, f"mean of {len(chosen)} of {len(names)} symbols, 100 at the start"


def _price(
    paths: Paths, market: str, settings: MarketConfig, symbol: str, night: pd.Timestamp
) -> "pd.Series[float]":
    files = store.symbol_files(paths, market, symbol)

    def read() -> "pd.Series[float]":
        if settings.modality == "surface":
            stamps, grid = _surfaces(paths, market, settings, symbol, night)
            return pd.Series(atm_iv(grid), index=stamps)
        names = set().union(*(footer(path).schema.names for path in files))
        wanted = ["timestamp", "close"] + (["adj_close"] if "adj_close" in names else [])
        rows = pd.concat([columns(path, wanted) for path in files], ignore_index=True)
        rows = rows[store.known_by(rows["timestamp"], night, settings)]
        close = rows["adj_close"].fillna(rows["close"]) if "adj_close" in rows else rows["close"]
        found: pd.Series[float] = close.set_axis(pd.DatetimeIndex(rows["timestamp"]))
        return found[~found.index.duplicated()].dropna()

    if not files:
        raise DataError(f"{market}/{symbol}: no bars are stored: run ingest first")
    return stored(files, ("price", symbol, night), read)


def _surfaces(
    paths: Paths, market: str, settings: MarketConfig, symbol: str, night: pd.Timestamp
) -> tuple[pd.DatetimeIndex, Floats]:
    return surface_grid(store.read_bars(paths, market, symbol, as_of=night, config=settings))


def _window(
    paths: Paths, market: str, settings: MarketConfig, symbol: str, night: pd.Timestamp
) -> Window:
    if settings.modality == "surface":
        stamps, grid = _surfaces(paths, market, settings, symbol, night)
        _long_enough(len(stamps), market, symbol)
        image = render_surfaces(grid, np.array([len(grid) - 1]))[0].astype(float)  # (2, 3, 9, T)
        tenors = {f"tenor {k + 1}": image[0, k] for k in range(image.shape[1])}
        channels = {**tenors, "mask, tenor 1": image[1, 0]}
        lines = {"at the money": atm_iv(grid)[-WINDOW:], "skew": skew_iv(grid)[-WINDOW:]}
        return Window(stamps[-WINDOW:], lines, channels, is_surface=True)
    bars = store.read_bars(paths, market, symbol, as_of=night, config=settings)
    _long_enough(len(bars), market, symbol)
    values = adjusted(bars)[list(COLUMNS)].to_numpy(np.float64).T  # (5, N)
    image = render(values, np.array([values.shape[1] - 1]))[0].astype(float)  # (4, H, T)
    channels = dict(zip(("range", "body", "close", "volume"), image, strict=True))
    lines = dict(zip(COLUMNS, values[:, -WINDOW:], strict=True))
    return Window(pd.DatetimeIndex(bars.index[-WINDOW:]), lines, channels, is_surface=False)


def _long_enough(found: int, market: str, symbol: str) -> None:
    if found < WINDOW:
        raise DataError(f"{market}/{symbol}: a window has {WINDOW} bars; this symbol has {found}")


def _usual(paths: Paths, market: str) -> pd.DataFrame:
    """Return rows of a market, evenly spread, that say what is usual there."""
    path = paths.fingerprints(market)

    def read() -> pd.DataFrame:
        step, before = max(1, int(footer(path).num_rows) // _SAMPLE), 0
        parts = []
        for batch in batches(path, FINGERPRINT_COLUMNS):
            chosen = np.arange(-before % step, batch.num_rows, step)
            parts.append(batch.take(pa.array(chosen)).to_pandas())
            before += batch.num_rows
        return pd.concat(parts) if parts else pd.DataFrame(columns=list(FINGERPRINT_COLUMNS))

    return stored([path], "usual", read)


def _condition(one: Range, values: dict[str, float], usual: pd.DataFrame) -> Condition:
    value = values[one.column]
    holds = bool(one.holds(np.array([value]))[0])
    return Condition(one.column, _said(one), _figure(value), holds, _chance(one, value, usual))


def _chance(one: Range, value: float, usual: pd.DataFrame) -> str:
    if one.column.endswith("_null"):
        if math.isnan(value):
            return "unknown"
        return f"a random walk reaches this in {_share(1 - value)} of windows"
    known = usual[one.column].dropna()
    if known.empty:
        return "the market has no such value"
    return (
        f"{_share(float(one.holds(known.to_numpy(float)).mean()))} of this market's bars are in it"
    )


def _share(value: float) -> str:
    """Return a share in per cent; what is rare is not called none."""
    return "less than 1%" if 0 < value < 0.01 else f"{value:.0%}"


def _verdict(
    values: dict[str, float], settings: MarketConfig, found: tuple[Claim, ...]
) -> tuple[str, str]:
    """Return the expert that the rule names for this bar alone, and which part of it spoke."""
    seconds = Timeframe.parse(settings.timeframe).seconds
    for expert, limit, shortest in SEED_RULES:
        if settings.modality == "chart" and seconds >= shortest:
            value = values[limit.column]
            if limit.holds(np.array([value]))[0]:
                return expert, f"the first rules: {limit.column} {_figure(value)} is {_said(limit)}"
    for claim in found:
        if claim.speaks:
            return claim.expert, "all ranges of its catalogue row hold"
    return DEFAULTS[settings.modality], "no rule claims this bar; it serves what nobody claims"


def _said(one: Range) -> str:
    low = f"{'above' if one.open_low else 'at least'} {one.low:g}" if one.low > -math.inf else ""
    high = ""
    if one.high < math.inf:
        high = f"{'at most' if one.closed_high else 'below'} {one.high:g}"
    return " and ".join(part for part in (low, high) if part)


def _figure(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.4g}"
