"""Merge a source's rows with the stored ones: what is new, what differs, what was restated.

A stored price stays as it first came. What a source says later about the past enters `adj_close`
alone, so that raw and adjusted prices are both kept:

- A source that gives `adj_close` restates it with every split and dividend: the stored column takes
  the new values, rows that were not given again take the ratio of the row before them.
- A source without it that rescales its past prices (open, high, low and close by one factor, from
  the first row on) has applied a split: the stored prices stay, and the source's own become the
  adjusted ones. A price corrected otherwise is no split: it is counted, and the stored one stays.

Both are recognized by comparing with what is stored, so the same restatement is applied once.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import COLUMNS, OPTIONAL, PRICES
from atlas.config import Modality

__all__ = [
    "KEYS",
    "Adjustment",
    "among",
    "differing",
    "extends",
    "is_restated",
    "kind_of",
    "like_stored",
    "merged",
    "ordered",
    "restate",
    "with_adjusted",
]

KEYS: dict[Modality, list[str]] = {
    "chart": ["timestamp"],
    "surface": ["timestamp", "tenor", "delta"],
}
NOISE = 1e-5  # relative: vendors recompute adjusted prices in single precision
RESCALED = 1e-4  # relative: less is no split or dividend
PENNY = 0.006  # rescaled prices are often rounded to cents
STEADY = 0.005  # of log ratio, from row to row, where a factor stays and prices are rounded
SHARE = 0.9  # of the rows before a split that have to be rescaled by it


class Adjustment(NamedTuple):
    """One restatement of a symbol's past.

    Attributes:
        kind: split if the factor is a ratio of small numbers, dividend if a little below 1.
        factor: by which the earliest adjusted price changed.
        rows: how many stored rows changed.
        first: the first of them.
        until: the last of them: the event came after it.
    """

    kind: str
    factor: float
    rows: int
    first: pd.Timestamp
    until: pd.Timestamp


class _Shared(NamedTuple):
    """The N stored rows whose key both have once: prices of both, and what became of them."""

    stamps: pd.DatetimeIndex
    adjusted: NDArray[np.float64]  # (N,) what adj_close has to be now
    change: NDArray[np.float64]  # (N,) that, over what it was
    explained: NDArray[np.bool_]  # (N,) other prices, but rescaled by a split


def ordered(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Sort rows by key, duplicates in the order they came in, and columns as a file has them."""
    names = ["timestamp", *COLUMNS, *OPTIONAL, "tenor", "delta", "iv"]
    kept = [name for name in names if name in rows.columns]
    stamps = rows["timestamp"]
    if keys == ["timestamp"] and stamps.is_monotonic_increasing:
        return rows[kept].reset_index(drop=True)
    return rows.sort_values(keys, kind="stable", ignore_index=True)[kept]


def among(rows: pd.DataFrame, others: pd.DataFrame, keys: list[str]) -> NDArray[np.bool_]:
    """Return which rows have a key that is among the others' (a missing delta equals another)."""
    if keys == ["timestamp"]:
        return rows["timestamp"].isin(others["timestamp"]).to_numpy()
    found = rows[keys].merge(others[keys].drop_duplicates(), how="left", on=keys, indicator="in")
    return (found["in"] == "both").to_numpy()


def extends(given: pd.DataFrame, stored: pd.DataFrame) -> bool:
    """Return whether given rows begin with the stored ones as they are, and go on after them.

    True on most nights, and much quicker than looking keys up.
    """
    n = len(stored)
    if len(given) < n or list(given.columns) != list(stored.columns):
        return False
    if not given.iloc[:n].reset_index(drop=True).equals(stored):
        return False
    after = given["timestamp"].iloc[n:]
    return not n or not len(after) or bool(after.min() > stored["timestamp"].iloc[-1])


def differing(
    given: pd.DataFrame, stored: pd.DataFrame, keys: list[str], *, splits: bool = True
) -> int:
    """Count the rows that both have, with other values; adj_close is not compared.

    Args:
        splits: leave out rows that a split has rescaled.
    """
    names = [name for name in given.columns if name in stored.columns and name != "adj_close"]
    ours = ordered(stored[among(stored, given, keys)], keys)[names]
    theirs = ordered(given[among(given, stored, keys)], keys)[names]
    if len(ours) != len(theirs):
        return abs(len(ours) - len(theirs))
    if ours.equals(theirs):
        return 0
    same = (ours == theirs) | (ours.isna() & theirs.isna())
    changed = ~same.all(axis=1)
    if splits and "close" in names and changed.any():
        changed = changed & ~_rescaled(stored, given, theirs)
    return int(changed.sum())


def is_restated(stored: pd.DataFrame, given: pd.DataFrame) -> bool:
    """Return whether given bars change `adj_close` of stored ones, or bring the column."""
    if not len(stored) or not len(given):
        return False
    shared = _shared(stored, given)
    if shared is None:
        return False
    brings = "adj_close" not in stored.columns
    return brings or bool((np.abs(shared.change - 1) > NOISE).any())


def restate(
    stored: pd.DataFrame, given: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, Adjustment | None]:
    """Put what given bars say of the past into `adj_close`.

    Args:
        stored: all rows of a symbol, in order.
        given: rows of the source.

    Returns:
        Both with the column `adj_close`, and what changed, or None.
    """
    given = with_adjusted(given)
    shared = _shared(stored, given)
    if shared is None:
        return stored, given, None
    old = stored["close"].to_numpy(np.float64)
    if "adj_close" in stored.columns:
        known = stored["adj_close"].to_numpy(np.float64)
        old = np.where(np.isnan(known), old, known)
    place = pd.Series(np.arange(len(shared.stamps)), index=shared.stamps)
    at = place.reindex(pd.DatetimeIndex(stored["timestamp"]))
    is_shared = at.notna().to_numpy()
    near = at.ffill().bfill().to_numpy(np.int64)
    moved = np.abs(shared.change[near] - 1) > NOISE
    adjusted = np.where(is_shared, shared.adjusted[near], old * shared.change[near])
    adjusted = np.where(moved, adjusted, old)
    moved &= np.isfinite(adjusted)
    result = stored.assign(adj_close=adjusted)
    if not moved.any():
        return result, given, None
    times = stored["timestamp"][moved]
    factor = float((adjusted / old)[moved][0])
    found = Adjustment(kind_of(factor), factor, int(moved.sum()), times.iloc[0], times.iloc[-1])
    return result, given, found


def with_adjusted(bars: pd.DataFrame) -> pd.DataFrame:
    """Return bars with `adj_close`, the close itself where the source gives none."""
    if "adj_close" in bars.columns:
        return bars
    return bars.assign(adj_close=bars["close"])


def like_stored(
    given: dict[Path, pd.DataFrame], stored: dict[Path, pd.DataFrame]
) -> dict[Path, pd.DataFrame]:
    """Return the given parts, with `adj_close` where any stored part has one."""
    if any("adj_close" in part.columns for part in stored.values()):
        return {path: with_adjusted(part) for path, part in given.items()}
    return given


def merged(
    given: dict[Path, pd.DataFrame],
    stored: dict[Path, pd.DataFrame],
    grown: set[Path],
    keys: list[str],
    *,
    restated: bool,
) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Give the files that have to be written and their rows: those that gain any, or all.

    Args:
        grown: files that the given rows begin with as they are, and go on from.
    """
    for path in sorted({*given, *stored}):
        old, part = stored.get(path), given.get(path)
        if old is None or not len(old):
            assert part is not None
            yield path, ordered(part, keys)
            continue
        if part is not None and path in grown:
            new: pd.DataFrame | None = part.iloc[len(old) :]
        else:
            new = None if part is None else part[~among(part, old, keys)]
        if new is not None and len(new):
            yield path, ordered(pd.concat([old, new]), keys)
        elif restated:
            yield path, ordered(old, keys)


def kind_of(factor: float) -> str:
    """Name what changes adjusted prices by a factor.

    Example:
        .25 is a split, .993 a dividend, .7312 other.
    """
    near = Fraction(factor).limit_denominator(20) if factor > 0 else Fraction(0)
    small = near and max(near.numerator, near.denominator) <= 50 and near != 1
    plain = near.numerator == 1 or near.denominator <= 5
    if small and plain and abs(factor / float(near) - 1) < 0.002:
        return "split"
    return "dividend" if 0.8 < factor < 1 else "other"


def _shared(stored: pd.DataFrame, given: pd.DataFrame) -> _Shared | None:
    """Compare the rows that both have; None if adj_close plays no part."""
    has_given = "adj_close" in given.columns and bool(given["adj_close"].notna().any())
    has_stored = "adj_close" in stored.columns
    names = [*PRICES, "adj_close"]
    ours = _once(stored, names)
    theirs = _once(given, names)
    both = ours.join(theirs, how="inner", lsuffix="_s", rsuffix="_g").sort_index()
    if both.empty:
        return None
    ratio = (both["close_g"] / both["close_s"]).to_numpy()
    equal = np.ones(len(both), dtype=np.bool_)
    scaled = np.isfinite(ratio) & (ratio > 0) & (np.abs(ratio - 1) > RESCALED)
    for price in PRICES:
        mine, other = both[f"{price}_s"].to_numpy(), both[f"{price}_g"].to_numpy()
        gap = np.abs(other - ratio * mine)
        scaled &= gap <= np.maximum(2 * RESCALED * np.abs(other), PENNY)
        equal &= (np.abs(other - mine) <= NOISE * np.abs(mine)) | (np.isnan(mine) & np.isnan(other))
    if not _is_split(scaled, ratio):
        scaled[:] = False
    if not (has_given or has_stored or scaled.any()):
        return None
    target = both["adj_close_g"] if has_given else both["close_g"]
    factor = pd.Series(np.where(equal, 1.0, np.where(scaled, ratio, np.nan)))
    factor = factor.ffill().bfill().fillna(1.0)
    corrected = both["close_s"].to_numpy() * (target / both["close_g"]).to_numpy() * factor
    adjusted = np.where(equal | scaled, target, corrected)
    old = both["close_s"] if not has_stored else both["adj_close_s"].fillna(both["close_s"])
    change = pd.Series(adjusted / old.to_numpy()).replace([np.inf, -np.inf], np.nan)
    usable = change.ffill().bfill().fillna(1.0).to_numpy()
    return _Shared(pd.DatetimeIndex(both.index), adjusted, usable, scaled)


def _is_split(scaled: NDArray[np.bool_], ratio: NDArray[np.float64]) -> bool:
    """Return whether the rescaled rows are the first ones up to some day, by a few factors."""
    places = np.flatnonzero(scaled)
    if len(places) < 2 or scaled[: places[-1] + 1].mean() < SHARE:
        return False
    steps = np.abs(np.diff(np.log(ratio[places])))
    return bool((steps < STEADY).mean() >= SHARE)


def _once(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    unique = rows[~rows["timestamp"].duplicated(keep=False)]
    return unique.set_index("timestamp").reindex(columns=names)


def _rescaled(stored: pd.DataFrame, given: pd.DataFrame, rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows a split has rescaled."""
    shared = _shared(stored, with_adjusted(given))
    if shared is None:
        return np.zeros(len(rows), dtype=np.bool_)
    return rows["timestamp"].isin(shared.stamps[shared.explained]).to_numpy()
