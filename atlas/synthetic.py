"""Simulated markets with a known best accuracy: draws, frames and in-memory sets.

`atlas.laws` holds the laws; this file feeds them. Every variable of a symbol has a random stream
of its own, keyed by (seed, market, symbol, variable) and drawn in step order, so a longer history
extends a shorter one bit for bit. Everything is rounded before it is written (prices 1e-4, iv
1e-6, volume 1, p 1e-9), because log and exp differ in the last bit between processors.

The probability of the next move never stands beside bars: it comes as a frame of its own, which
only the evaluation reads.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, session_days, sessions
from atlas.catalogue import EXPERT_IDS
from atlas.errors import ConfigError, DataError
from atlas.laws import LAWS, Law, follow_chart, follow_surface
from atlas.surfaces import DELTAS, TENORS

__all__ = [
    "LAWS",
    "QUOTED",
    "Simulated",
    "SimulatedArrays",
    "SimulatedPath",
    "bayes_accuracy",
    "simulate",
    "simulate_arrays",
    "simulate_paths",
    "surfaces",
    "symbol_names",
    "timestamps",
]

Floats: TypeAlias = NDArray[np.float64]

QUOTED = ("open", "high", "low", "close", "volume", "bid", "ask")  # columns of a simulated bar
MIXED_SHARE = 0.3  # of a chart market's symbols that follow another chart archetype
FIRST_OPEN = 100.0
MONEYNESS = np.array([-1.0, -0.8, -0.5, -0.2, 0.0, 0.0, 0.2, 0.5, 0.8, 1.0])  # X at each delta
TENOR_FACTOR = np.array([1.0, 0.8, 0.65])
_CLOSE_STEP = Timeframe("5min", 300)  # every session's close lies on this grid


class Simulated(NamedTuple):
    """One symbol: its raw frame, and apart from it the truth (symbol, timestamp, p, law)."""

    symbol: str
    frame: pd.DataFrame
    truth: pd.DataFrame


class SimulatedArrays(NamedTuple):
    """P paths of N steps in memory.

    Attributes:
        paths: (P, N, 7) bars in the order of `QUOTED`, or (P, N, 3, 10) iv by tenor and delta.
        probability: (P, N) that the return of the *next* bar is up, given bars up to this one.
        law: (P,) index into `EXPERT_IDS` of the law each path follows.
    """

    paths: Floats
    probability: Floats
    law: NDArray[np.int8]


class SimulatedPath(NamedTuple):
    """One path of N steps in memory, as `SimulatedArrays` holds many.

    Attributes:
        steps: (N, 7) bars or (N, 3, 10) iv.
        probability: (N,).
        expert_id: of the law it follows.
    """

    steps: Floats
    probability: Floats
    expert_id: str


def bayes_accuracy(p: Floats) -> float:
    """Return the best accuracy possible, the mean of max(p, 1 − p); p in [0, 1], not empty.

    Example:
        `bayes_accuracy(np.array([0.3, 0.9]))` is 0.8.
    """
    return float(np.maximum(p, 1.0 - p).mean())


def symbol_names(market: str, count: int) -> tuple[str, ...]:
    """Return the names of a market's first symbols.

    Raises:
        ConfigError: if no law is known for the market.
    """
    return tuple(f"{_law(market).prefix}{number:03d}" for number in range(count))


def simulate(
    market: str,
    *,
    symbols: int,
    history: int,
    history_end: pd.Timestamp,
    timeframe: Timeframe,
    calendar: str,
    as_of: pd.Timestamp,
    seed: int,
) -> Iterator[Simulated]:
    """Yield the symbols of a simulated market with what is known at `as_of`.

    Args:
        market: a row of `LAWS`.
        symbols: how many.
        history: sessions in the history that ends at `history_end`; they fix where it starts.
        history_end: midnight UTC; moving `as_of` instead makes a history longer or shorter at
            its end and changes nothing before.

    Raises:
        ConfigError: if no law is known for the market.
        DataError: if the history starts after `as_of`.
    """
    times = timestamps(
        market,
        history=history,
        history_end=history_end,
        timeframe=timeframe,
        calendar=calendar,
        as_of=as_of,
    )
    if not len(times):
        raise DataError(
            f"{market}: its simulated history of {history} sessions starts after {as_of:%Y-%m-%d}: "
            "choose a later as_of, or more sessions in params.yaml (simulated.markets)"
        )
    for symbol in symbol_names(market, symbols):
        path = _path(market, symbol, len(times), seed, MIXED_SHARE)
        truth = {"symbol": symbol, "timestamp": times, "p": path.probability, "law": path.expert_id}
        yield Simulated(symbol, _frame(times, path.steps), pd.DataFrame(truth))


def simulate_arrays(
    market: str, *, symbols: int, bars: int, seed: int, mixed_share: float = MIXED_SHARE
) -> SimulatedArrays:
    """Simulate P symbols of N bars in memory, without a calendar.

    With the seed, the symbols and the share of a `simulate` call the paths are the very same.

    Args:
        mixed_share: share of symbols that follow another chart archetype; 0 gives the pure law.
            Surfaces are never mixed.

    Raises:
        ConfigError: if no law is known for the market.
    """
    paths = list(
        simulate_paths(market, symbols=symbols, bars=bars, seed=seed, mixed_share=mixed_share)
    )
    return SimulatedArrays(
        np.stack([path.steps for path in paths]),
        np.stack([path.probability for path in paths]),
        np.array([EXPERT_IDS.index(path.expert_id) for path in paths], dtype=np.int8),
    )


def simulate_paths(
    market: str, *, symbols: int, bars: int, seed: int, mixed_share: float = MIXED_SHARE
) -> Iterator[SimulatedPath]:
    """Yield the paths of `simulate_arrays` one by one, for sets that would not fit in memory.

    Raises:
        ConfigError: if no law is known for the market.
    """
    for symbol in symbol_names(market, symbols):
        yield _path(market, symbol, bars, seed, mixed_share)


def timestamps(
    market: str,
    *,
    history: int,
    history_end: pd.Timestamp,
    timeframe: Timeframe,
    calendar: str,
    as_of: pd.Timestamp,
) -> pd.DatetimeIndex:
    """Return the times of the simulated bars known at `as_of`, UTC in microseconds.

    Bars carry their open. Surfaces carry the close of their session, when they are known.

    Raises:
        ConfigError: if no law is known for the market.
    """
    is_surface = _is_surface(_law(market))
    day = pd.Timedelta(days=1)
    earliest = history_end - (3 * history + 30) * day  # more than enough for any calendar
    start = sessions(calendar, earliest, history_end - day)[-history:][0]
    days = sessions(calendar, start, as_of)
    if is_surface:
        times, known = _session_closes(calendar, days), pd.Timedelta(0)
    else:
        times, known = bar_opens(calendar, timeframe, days), timeframe.delta
    return times[times + known <= as_of]


def _session_closes(calendar: str, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
    opens = bar_opens(calendar, _CLOSE_STEP, days)
    session = session_days(opens, calendar, _CLOSE_STEP)
    is_last = np.append(session[1:] != session[:-1], True)[: len(session)]
    return opens[is_last] + _CLOSE_STEP.delta


def _law(market: str) -> Law:
    if market not in LAWS:
        raise ConfigError(
            f"simulated market {market!r}: expected one of {', '.join(LAWS)}; "
            "remove it from params.yaml (simulated.markets)"
        )
    return LAWS[market]


def _is_surface(law: Law) -> bool:
    return law.expert_id == "options_skew"


def _generator(seed: int, market: str, symbol: str, variable: str) -> np.random.Generator:
    name = f"{seed}/{market}/{symbol}/{variable}"
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def _path(market: str, symbol: str, n: int, seed: int, mixed_share: float) -> SimulatedPath:
    """Draw the first n steps of one symbol."""

    def draws(variable: str) -> np.random.Generator:
        return _generator(seed, market, symbol, variable)

    home = _law(market)
    if _is_surface(home):
        e = _standard_t(draws("size"), home.df, n)
        q, x, p = follow_surface(home, e, draws("sign").random(n), draws("coin").random(n))
        return SimulatedPath(surfaces(q, x), p[1:], home.expert_id)
    law = _followed(home, draws("law"), mixed_share)
    z_path = draws("path").standard_normal()
    level = law.level / np.sqrt(home.bars_a_day) * np.exp(0.22 * z_path)
    e = _standard_t(draws("size"), law.df, n)
    slow_z, u = draws("slow").standard_normal(n), draws("sign").random(n)
    close, step, size, p = follow_chart(law, level, e, slow_z, u)
    z = {name: draws(name).standard_normal(n) for name in ("high", "low", "volume", "quote")}
    half = 0.5 * law.spread * np.exp(0.5 * z_path + 0.2 * z["quote"])
    opened = np.concatenate([[FIRST_OPEN], close[:-1]])
    columns = [
        opened,
        np.maximum(opened, close) * np.exp(0.4 * size * np.abs(z["high"])),
        np.minimum(opened, close) * np.exp(-0.4 * size * np.abs(z["low"])),
        close,
        np.exp(8 + 0.4 * z["volume"] + law.volume_slope * step),
        close * (1 - half),
        close * (1 + half),
    ]
    written = [
        _whole(column) if name == "volume" else np.round(column, 4)
        for name, column in zip(QUOTED, columns, strict=True)
    ]
    return SimulatedPath(np.stack(written, axis=1), p[1:], law.expert_id)


def _standard_t(draws: np.random.Generator, df: float, n: int) -> Floats:
    e: Floats = draws.standard_t(df, n) / np.sqrt(df / (df - 2))
    return e


def _whole(volume: Floats) -> Floats:
    """Round to 1, and beyond 1e12 to 12 digits: there, 1 is near the last bit of a double."""
    written = np.round(volume)
    large = written >= 1e12
    written[large] = [float(f"{v:.11e}") for v in written[large]]
    return written


def _followed(home: Law, draws: np.random.Generator, mixed_share: float) -> Law:
    """Choose the law a chart symbol follows: its market's, or evenly one of the other four."""
    others = [law for law in LAWS.values() if law is not home and not _is_surface(law)]
    mixed, which = draws.random(2)
    return others[int(which * len(others))] if mixed < mixed_share else home


def surfaces(q: Floats, x: Floats) -> Floats:
    """Return iv (N, 3, 10) of smiles with curvature q (N,) and level x (N,)."""
    smile = -0.06 * MONEYNESS + q[:, None] * MONEYNESS**2  # (N, 10)
    iv = 0.25 + 0.1 * x[:, None, None] + TENOR_FACTOR[:, None] * smile[:, None, :]
    written: Floats = np.round(iv, 6)  # (N, 3, 10)
    return written


def _frame(times: pd.DatetimeIndex, values: Floats) -> pd.DataFrame:
    """Lay a path out as a raw frame: bars, or surfaces in long form."""
    if values.ndim == 2:
        columns = {name: values[:, place] for place, name in enumerate(QUOTED)}
        return pd.DataFrame({"timestamp": times, **columns})
    tenors = np.arange(1, TENORS + 1, dtype=np.int8)
    return pd.DataFrame(
        {
            "timestamp": times.repeat(TENORS * len(DELTAS)),
            "tenor": np.tile(np.repeat(tenors, len(DELTAS)), len(times)),
            "delta": np.tile(np.array(DELTAS), TENORS * len(times)),
            "iv": values.ravel(),
        }
    )
