"""Who is asked: gate probabilities over time, the load of each expert, and two alarms.

- The gate of a trained variant is known where the night scored it: on validation and test windows.
  The rule's verdict is known at every bar, from the fingerprints.
- Load is the share of the top-2 places that an expert takes; an expert below half a per cent of its
  modality's places is called dead.
- Drift compares what the gate does lately with what it did before: total variation between the mean
  weights of validation windows and those of the newest fifth of the test windows.
"""

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from atlas.catalogue import CATALOGUE, EXPERT_IDS
from atlas.errors import DataError
from dashboard.reading import batches, columns, footer, stored
from dashboard.series import POINTS, Shares, mean_shares
from pipelines.paths import Paths

__all__ = [
    "DEAD",
    "DRIFT",
    "GATES",
    "Alarm",
    "Loads",
    "active_experts",
    "alarms",
    "gate_columns",
    "gate_shares",
    "loads",
    "predictions",
]

GATES = ("moe_mlp", "moe_rule", "rule")
DEAD = 0.005
DRIFT = 0.25
_NEWEST = 0.2
_DAY = pd.Timedelta(days=1)
_NOTHING = "the gate has nothing between these dates: widen the range"

Floats = NDArray[np.float64]


class Loads(NamedTuple):
    """Share of the top-2 places, (markets, experts), on test windows; rows sum to 1."""

    markets: tuple[str, ...]
    experts: tuple[str, ...]
    shares: Floats


class Alarm(NamedTuple):
    """Something about the gate that a person should look at."""

    kind: str
    subject: str
    text: str


def gate_shares(
    paths: Paths,
    gate: str,
    market: str,
    symbol: str | None,
    first: dt.date | None,
    last: dt.date | None,
) -> tuple[tuple[str, ...], Shares]:
    """Return the experts and their mean weight over time, for a market or one symbol of it.

    Raises:
        DataError: there is nothing of that market, symbol and time.
    """
    if gate == "rule":
        return _verdicts(paths, market, symbol, first, last)
    experts, rows = predictions(paths, gate, market, symbol)
    keep = np.ones(len(rows), bool)
    if first is not None:
        keep &= (rows["timestamp"] >= pd.Timestamp(first, tz="UTC")).to_numpy()
    if last is not None:
        keep &= (rows["timestamp"] < pd.Timestamp(last, tz="UTC") + _DAY).to_numpy()
    if not keep.any():
        raise DataError(f"{symbol or market}: {_NOTHING}")
    values = rows.loc[keep, gate_columns(experts)].to_numpy(float)
    return experts, mean_shares(rows.loc[keep, "timestamp"], values)


def predictions(
    paths: Paths, variant: str, market: str, symbol: str | None = None
) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Return a variant's experts and its windows of a market: timestamp, split, gate_<expert>.

    Raises:
        DataError: the variant has no predictions, or none of that market or symbol.
    """
    path = paths.model(variant) / "predictions.parquet"
    names = footer(path).schema.names
    experts = tuple(name for name in EXPERT_IDS if f"gate_{name}" in names)
    if not experts:
        raise DataError(f"{variant} has no gate: choose moe_mlp, moe_rule or the rule")
    equal = {"market": market} | ({"symbol": symbol} if symbol else {})
    wanted = ["timestamp", "split", *gate_columns(experts)]

    def read() -> pd.DataFrame:
        return columns(path, wanted, equal=equal)

    rows = stored([path], ("gate", market, symbol), read)
    if rows.empty:
        what = f"{market}/{symbol}" if symbol else market
        raise DataError(f"{what}: the last night scored no window of it")
    return experts, rows


def gate_columns(experts: tuple[str, ...]) -> list[str]:
    """Return the names that experts' weights have in a file of predictions."""
    return [f"gate_{name}" for name in experts]


def loads(paths: Paths, variant: str, markets: tuple[str, ...]) -> Loads:
    """Return each expert's share of the top-2 places by market, on test windows.

    Raises:
        DataError: the variant has no predictions.
    """
    path = paths.model(variant) / "predictions.parquet"
    experts = tuple(name for name in EXPERT_IDS if f"gate_{name}" in footer(path).schema.names)

    def read() -> Loads:
        taken = np.zeros((len(markets), len(experts)))
        seen = np.zeros(len(markets), bool)
        names, known = gate_columns(experts), pa.array(markets, "large_string")
        for batch in batches(path, ["market", *names], equal={"split": "test"}):
            owner = pc.index_in(batch.column("market").cast("large_string"), known)
            owners = owner.fill_null(-1).to_numpy(zero_copy_only=False)
            places = _top_two(batch.select(names).to_pandas().to_numpy(float))
            for k in range(len(markets)):
                taken[k] += places[owners == k].sum(axis=0)
                seen[k] |= bool((owners == k).any())
        shares = taken / np.maximum(taken.sum(axis=1, keepdims=True), 1)
        there = tuple(name for name, is_seen in zip(markets, seen, strict=True) if is_seen)
        return Loads(there, experts, shares[seen])

    return stored([path], ("loads", markets), read)


def active_experts(paths: Paths, variant: str, market: str) -> list[tuple[str, float]]:
    """Return the experts of a market's newest session and their mean weights, heaviest first.

    Raises:
        DataError: there are no predictions of it.
    """
    experts, rows = predictions(paths, variant, market)
    newest = rows[rows["timestamp"] >= rows["timestamp"].max().normalize()]
    means = newest[gate_columns(experts)].to_numpy(float).mean(axis=0)
    order = np.argsort(-means)
    return [(experts[k], float(means[k])) for k in order if means[k] > 0]


def alarms(paths: Paths, variant: str, markets: tuple[str, ...]) -> list[Alarm]:
    """Return dead experts of all markets together, and markets whose gate has drifted.

    Raises:
        DataError: the variant has no predictions.
    """
    return [*_dead(loads(paths, variant, markets)), *_drifted(paths, variant, markets)]


def _dead(found: Loads) -> list[Alarm]:
    dead = []
    for modality in ("chart", "surface"):
        own = {spec.id for spec in CATALOGUE if spec.modality == modality}
        serving = [k for k, name in enumerate(found.experts) if name in own]
        rows = found.shares[found.shares[:, serving].sum(axis=1) > 0.5]
        if not len(rows):
            continue
        for k in serving:
            share = float(rows[:, k].mean())
            if share < DEAD:
                text = f"takes {share:.2%} of the top-2 places of {modality} windows"
                dead.append(Alarm("dead expert", found.experts[k], text))
    return dead


def _drifted(paths: Paths, variant: str, markets: tuple[str, ...]) -> list[Alarm]:
    drifted = []
    for market in markets:
        try:
            experts, rows = predictions(paths, variant, market)
        except DataError:
            continue
        values = rows[gate_columns(experts)].to_numpy(float)
        is_test = (rows["split"] == "test").to_numpy()
        if not is_test.any() or is_test.all():
            continue
        line = rows["timestamp"][is_test].quantile(1 - _NEWEST)
        newest = is_test & (rows["timestamp"] >= line).to_numpy()
        moved = values[newest].mean(axis=0) - values[~is_test].mean(axis=0)
        distance = float(np.abs(moved).sum() / 2)
        if distance > DRIFT:
            more = experts[int(np.argmax(moved))]
            text = f"{distance:.0%} of the gate's weight has moved since validation, most to {more}"
            drifted.append(Alarm("gate drift", market, text))
    return drifted


def _verdicts(
    paths: Paths, market: str, symbol: str | None, first: dt.date | None, last: dt.date | None
) -> tuple[tuple[str, ...], Shares]:
    """Count the rule's verdicts in equally long spans of time, piece by piece of the file."""
    path = paths.fingerprints(market)

    def count() -> tuple[tuple[str, ...], Shares]:
        begin, end = _extent(path, first, last)
        width = max(-(-(end - begin) // POINTS), 1)
        counts = np.zeros((POINTS, len(EXPERT_IDS)))
        equal = {"symbol": symbol} if symbol else None
        for batch in batches(path, ["timestamp", "rule"], equal=equal):
            times = batch.column("timestamp").cast("int64").to_numpy()
            verdicts = pc.index_in(batch.column("rule"), pa.array(EXPERT_IDS, "large_string"))
            codes = verdicts.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
            inside = (times >= begin) & (times < end)
            place = (times[inside] - begin) // width * len(EXPERT_IDS) + codes[inside]
            counts += np.bincount(place, minlength=counts.size).reshape(counts.shape)
        there = counts.sum(axis=1) > 0
        if not there.any():
            raise DataError(f"{symbol or market}: {_NOTHING}")
        starts = begin + np.flatnonzero(there) * width
        index = pd.DatetimeIndex(starts.view("datetime64[us]")).tz_localize("UTC")
        shares = counts[there] / counts[there].sum(axis=1, keepdims=True)
        return EXPERT_IDS, Shares(index, shares)

    return stored([path], ("rule", symbol, first, last), count)


def _extent(path: Path, first: dt.date | None, last: dt.date | None) -> tuple[int, int]:
    """Return the microseconds between which a file has rows and a range wants them."""
    found = footer(path)
    place = found.schema.names.index("timestamp")
    marks = [found.row_group(k).column(place).statistics for k in range(found.num_row_groups)]
    begin = min((pd.Timestamp(mark.min) for mark in marks), default=pd.Timestamp(0))
    end = max((pd.Timestamp(mark.max) for mark in marks), default=pd.Timestamp(0))
    if first is not None:
        begin = max(begin, pd.Timestamp(first, tz="UTC"))
    if last is not None:
        end = min(end, pd.Timestamp(last, tz="UTC") + _DAY - pd.Timedelta("1us"))
    return _microseconds(begin), _microseconds(end) + 1


def _microseconds(moment: pd.Timestamp) -> int:
    return int(moment.as_unit("us").asm8.view("i8"))  # nanoseconds would end in 2262


def _top_two(weights: Floats) -> Floats:
    """Mark with 1 the two largest of every row, (N, E); zeros take no place."""
    chosen = np.argsort(-weights, axis=1)[:, :2]
    taken = np.zeros_like(weights)
    np.put_along_axis(taken, chosen, np.take_along_axis(weights, chosen, 1) > 0, axis=1)
    return taken
