"""What a night's rows of a market are like: read, measured, run through the suite, put in words.

Measuring goes symbol by symbol, as symbols have nothing to do with each other. Where a hundredth
of a symbol's bars lies outside its calendar, it is the calendar that is wrong: that is said once,
not of every bar.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas import coverage, measures
from atlas.bars import Timeframe
from atlas.calendars import session_days
from atlas.config import MarketConfig
from atlas.errors import DataError, GateError
from pipelines import store
from pipelines.paths import Paths
from pipelines.suite import Mask

__all__ = [
    "Findings",
    "Rows",
    "bad_share",
    "bad_throughout",
    "fault",
    "keys",
    "measured",
    "read",
    "reasons",
    "worst",
]

MISFIT = 0.01  # of a symbol's bars outside its calendar
SOURCE_STALE = 0.5  # of a market's symbols stale: its source has stopped


class Rows(NamedTuple):
    """What a night knows of a market, N rows.

    Attributes:
        frame: all of them, symbol after symbol.
        unreadable: the reasons of the symbols that cannot be read.
        files: how many of the rows each file holds, in their order.
    """

    frame: pd.DataFrame
    unreadable: dict[str, str]
    files: dict[str, int]


class Findings(NamedTuple):
    """What a night's N rows of a market are like.

    Attributes:
        rows: all of them, symbol after symbol.
        broken: which rows break each rule, by its name.
        warned: the names of the rules that only warn.
        bad: which rows break any of the others.
        readable: number of symbols that could be read.
        unreadable: why the others could not.
    """

    rows: pd.DataFrame
    broken: dict[str, Mask]
    warned: frozenset[str]
    bad: Mask
    readable: int
    unreadable: dict[str, str]


class Measured(NamedTuple):
    """What is known of a market's rows beside themselves.

    Attributes:
        columns: for the rules, (N,) each.
        sessions: symbol, session, expected, missing, unexpected, first, missing_quotes.
        misfits: share of bars outside the calendar, of the symbols that it does not fit.
        behind: sessions since the last row, of each symbol.
    """

    columns: dict[str, NDArray[np.float64]]
    sessions: pd.DataFrame
    misfits: dict[str, float]
    behind: dict[str, int]


def read(paths: Paths, settings: MarketConfig, as_of: pd.Timestamp, market: str) -> Rows:
    """Read every symbol into one frame."""
    frames, unreadable = [], {}
    files: dict[str, int] = {}
    for symbol in store.symbols(paths, market):
        try:
            frame, own = store.read_raw(paths, market, symbol, as_of=as_of, config=settings)
        except DataError as error:
            unreadable[symbol] = str(error)
            continue
        files |= {str(path.relative_to(paths.home)): count for path, count in own.items()}
        if settings.modality == "chart":
            frame = frame.reset_index()
        frames.append(frame.assign(symbol=symbol))
    if not any(len(frame) for frame in frames):
        nothing = f"no rows known by {as_of:%Y-%m-%d}: run ingest"
        raise GateError(f"{market}: {next(iter(unreadable.values()), nothing)}")
    every = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    return Rows(every, unreadable, files)


def measured(rows: pd.DataFrame, settings: MarketConfig, as_of: pd.Timestamp) -> Measured:
    """Measure the rows of every symbol."""
    parts, sessions, misfits, behind = [], [], {}, {}
    timeframe = Timeframe.parse(settings.timeframe)
    delay = timeframe.seconds * 1_000_000 if settings.modality == "chart" else 0
    known_at = int(as_of.as_unit("us").value) - delay
    codes, names = pd.factorize(rows["symbol"])
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, end in pairwise([*starts, len(rows)]):
        symbol, own = str(names[codes[start]]), rows.iloc[start:end]
        times = pd.DatetimeIndex(own["timestamp"])
        odd = coverage.off_session(
            times, settings.calendar, timeframe, daily=settings.modality == "surface"
        )
        if odd.mean() > MISFIT:
            misfits[symbol] = round(float(odd.mean()), 6)
        stamps = times.as_unit("us").asi8
        parts.append(
            {
                **_of_symbol(own, stamps, settings),
                "seconds_since_previous": np.diff(stamps, prepend=stamps[:1]) / 1e6,
                "seconds_before_night": (known_at - stamps) / 1e6,
                "off_session": np.where(symbol in misfits, 0.0, odd),
            }
        )
        sessions.append(_sessions(own, times, settings).assign(symbol=symbol))
        behind[symbol] = coverage.sessions_behind(times.max(), as_of, settings.calendar, timeframe)
    measured_names = set().union(*parts)
    columns = {
        name: np.concatenate(
            [part.get(name, np.full(len(part["copies"]), np.nan)) for part in parts]
        )
        for name in sorted(measured_names)
    }
    return Measured(columns, pd.concat(sessions, ignore_index=True), misfits, behind)


def keys(rows: pd.DataFrame) -> list[str]:
    """Return the columns that tell a market's rows apart."""
    return ["symbol", "timestamp", *(name for name in ("tenor", "delta") if name in rows)]


def reasons(rows: pd.DataFrame, broken: dict[str, Mask]) -> pd.DataFrame:
    """Return the keys of the rows that break a rule, one row a key, with the rules' names."""
    own = keys(rows)
    # by place: a mask would be read once for every column
    places = {name: np.flatnonzero(mask) for name, mask in broken.items()}
    parts = [rows.iloc[place][own].assign(reason=name) for name, place in places.items()]
    every = pd.concat(parts, ignore_index=True).drop_duplicates()
    return every.groupby(own, dropna=False, sort=True)["reason"].agg("; ".join).reset_index()


def bad_share(found: Findings) -> float:
    """Return the share of bad rows; what cannot be read counts as bad, at the others' average."""
    unread = len(found.unreadable) * len(found.rows) / found.readable
    return float((found.bad.sum() + unread) / (len(found.rows) + unread))


def bad_throughout(found: Findings) -> dict[str, str]:
    """Return the symbols without a good row, each with the rule that most of them break."""
    if not found.bad.any():
        return {}
    whole = pd.Series(found.bad).groupby(found.rows["symbol"], sort=False).all()
    return {
        str(symbol): f"every row is bad, most by rule {_rule_of(found, str(symbol))[0]}"
        for symbol in whole.index[whole]
    }


def worst(found: Findings, settings: MarketConfig) -> dict[str, str] | None:
    """Return symbol, session, rule and time of the worst found, for a notice; None if all is well.

    It is a symbol that cannot be read, else the one with the largest share of bad rows.
    """
    if found.unreadable:
        symbol = next(iter(found.unreadable))
        return {"symbol": symbol, "session": "", "rule": "readable", "time": ""}
    case = _worst(found)
    if case is None:
        return None
    symbol, rule, first = case
    timeframe = Timeframe.parse(settings.timeframe)
    day = session_days(pd.DatetimeIndex([first]), settings.calendar, timeframe)[0]
    session = str(np.datetime64(int(day), "D"))
    return {"symbol": symbol, "session": session, "rule": rule, "time": first.isoformat()}


def _worst(found: Findings) -> tuple[str, str, pd.Timestamp] | None:
    if not found.bad.any():
        return None
    by_symbol = pd.Series(found.bad).groupby(found.rows["symbol"], sort=False).mean()
    symbol = str(by_symbol.idxmax())
    return symbol, *_rule_of(found, symbol)


def fault(found: Findings, limit: float, market: str) -> str | None:
    """Return why a market fails, naming its worst symbol and what to do, or None."""
    share = bad_share(found)
    if share <= limit:
        return None
    what = f"{market}: {share:.2%} of its rows are bad, more than its limit of {limit:.2%}"
    if found.unreadable:
        reason = next(iter(found.unreadable.values()))
        return f"{what}; {len(found.unreadable)} symbols cannot be read: {reason}"
    case = _worst(found)
    assert case is not None
    symbol, rule, first = case
    own = (found.rows["symbol"] == symbol).to_numpy()
    return (
        f"{what}; worst symbol {symbol}: {found.bad[own].mean():.2%} bad, mostly by rule {rule}, "
        f"first at {first.isoformat()}: correct its bars or leave the symbol out"
    )


def _of_symbol(
    own: pd.DataFrame, stamps: NDArray[np.int64], settings: MarketConfig
) -> dict[str, NDArray[np.float64]]:
    names = [name for name in own if name not in ("symbol", "timestamp")]
    values = {str(name): own[name].to_numpy(np.float64) for name in names}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if settings.modality == "surface":
            place = values["tenor"], values["delta"]
            bad = measures.quote_measures(stamps, *place)
            return bad | measures.quote_warnings(stamps, *place, values["iv"])
        step = Timeframe.parse(settings.timeframe).seconds * 1_000_000
        bad = measures.bar_measures(stamps, values, step)
        return bad | measures.bar_warnings(stamps, values, step)


def _sessions(own: pd.DataFrame, times: pd.DatetimeIndex, settings: MarketConfig) -> pd.DataFrame:
    """Return one symbol's sessions that lack bars or quotes, or hold bars at odd hours."""
    timeframe = Timeframe.parse(settings.timeframe)
    is_surface = settings.modality == "surface"
    found = coverage.troubled_sessions(times, settings.calendar, timeframe, daily=is_surface)
    found["missing_quotes"] = 0
    if not is_surface:
        return found
    lacking = coverage.missing_quotes(own)
    lacking["session"] = lacking["timestamp"].dt.tz_localize(None).dt.normalize().dt.as_unit("us")
    nothing: dict[str, Any] = {"expected": 1, "missing": 0, "unexpected": 0}
    lacking = lacking.rename(columns={"timestamp": "first"}).assign(**nothing)[found.columns]
    return pd.concat([part for part in (found, lacking) if len(part)] or [found]).sort_values(
        ["session", "first"], ignore_index=True
    )


def _rule_of(found: Findings, symbol: str) -> tuple[str, pd.Timestamp]:
    """Return the rule that most rows of a symbol break, and when it is first broken."""
    own = (found.rows["symbol"] == symbol).to_numpy()
    rules = [name for name in found.broken if name not in found.warned]
    rule = max(rules, key=lambda name: int((found.broken[name] & own).sum()))
    return rule, found.rows.loc[own & found.broken[rule], "timestamp"].min()
