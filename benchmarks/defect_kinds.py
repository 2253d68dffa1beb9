"""The kinds of defect that `benchmarks.defects` injects, as rows of data.

A kind spoils a copy of one symbol's rows from row `at` on and says within which times it did; a
kind of file writes the spoiled file.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from atlas.bars import PRICES

__all__ = ["EDGE", "FILE_KINDS", "KINDS", "Kind", "Rng"]

EDGE = 30  # rows at either end where nothing is spoiled
FOUR = list(PRICES)

Rng = np.random.Generator
Span = tuple[pd.Timestamp, pd.Timestamp]
Spoiled = tuple[pd.DataFrame, Span]
Spoil = Callable[[pd.DataFrame, int], Spoiled]


class Kind(NamedTuple):
    """One kind of defect: on which market's rows, and what is done at row `at`."""

    name: str
    market: str
    spoil: Spoil


def _at(frame: pd.DataFrame, first: int, last: int | None = None) -> Span:
    times = frame["timestamp"]
    return times.iloc[first], times.iloc[first if last is None else last]


def _value(column: str, value: float) -> Spoil:
    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        frame[column] = frame[column].mask(frame.index == at, value)
        return frame, _at(frame, at)

    return spoil


def _times(columns: list[str], factor: float, rows: int | None = 1) -> Spoil:
    """Multiply columns from a row on, over some rows or to the end."""

    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        last = len(frame) - 1 if rows is None else at + rows - 1
        frame.loc[at:last, columns] *= factor
        return frame, _at(frame, at)

    return spoil


def _swapped(frame: pd.DataFrame, at: int) -> Spoiled:
    frame.loc[at, ["high", "low"]] = frame.loc[at, ["low", "high"]].to_numpy()
    return frame, _at(frame, at)


def _outside(column: str, bound: str, factor: float) -> Spoil:
    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        frame[column] = frame[column].where(frame.index != at, factor * frame[bound])
        return frame, _at(frame, at)

    return spoil


def _again(rows: int, factor: float = 1.0) -> Spoil:
    """Let rows come twice, the second time with other values if a factor says so."""

    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        copy = frame.iloc[at : at + rows].copy()
        number = [name for name in (*FOUR, "iv") if name in frame]
        copy[number] *= factor
        both = pd.concat([frame, copy]).sort_values("timestamp", kind="stable", ignore_index=True)
        return both, _at(frame, at, at + rows - 1)

    return spoil


def _moved(distance: int) -> Spoil:
    """Put one row before others that are older."""

    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        order = list(range(len(frame)))
        order.insert(at - distance, order.pop(at))
        return frame.iloc[order].reset_index(drop=True), _at(frame, at - distance, at)

    return spoil


def _held(columns: list[str], rows: int) -> Spoil:
    """Let columns keep their values over some rows."""

    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        frame.loc[at : at + rows, columns] = frame.loc[at, columns].to_numpy()
        return frame, _at(frame, at, at + rows)

    return spoil


def _gone(rows: int) -> Spoil:
    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        span = _at(frame, at, at + rows - 1)
        return frame.drop(index=range(at, at + rows)).reset_index(drop=True), span

    return spoil


def _session_gone(frame: pd.DataFrame, at: int) -> Spoiled:
    day = frame["timestamp"].dt.normalize()
    gone = day == day[at]
    times = frame["timestamp"][gone]
    return frame[~gone].reset_index(drop=True), (times.min(), times.max())


def _shifted(shift: str, sessions: int | None) -> Spoil:
    """Move the time of some sessions, or of all that follow."""

    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        day = frame["timestamp"].dt.normalize()
        days = pd.DatetimeIndex(day.unique()).sort_values()
        first = min(int(days.searchsorted(day[at])), len(days) - 3)
        chosen = days[first:] if sessions is None else days[first : first + sessions]
        moved = day.isin(chosen)
        frame["timestamp"] = frame["timestamp"].where(
            ~moved, frame["timestamp"] + pd.Timedelta(shift)
        )
        times = frame["timestamp"][moved]
        frame = frame.sort_values("timestamp", kind="stable", ignore_index=True)
        return frame, (times.min(), times.max())

    return spoil


def _at_time(change: Callable[[pd.Timestamp], pd.Timestamp]) -> Spoil:
    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        time = change(frame["timestamp"][at])
        frame["timestamp"] = frame["timestamp"].mask(frame.index == at, time)
        return frame.sort_values("timestamp", kind="stable", ignore_index=True), (time, time)

    return spoil


def _weekend(time: pd.Timestamp) -> pd.Timestamp:
    return time + pd.Timedelta(days=5 - time.dayofweek)  # that week's Saturday


def _wings(factor: float) -> Spoil:
    def spoil(frame: pd.DataFrame, at: int) -> Spoiled:
        wing = frame.index[(frame["delta"].abs() < 0.2) & (frame.index >= at)][0]
        frame.loc[wing, "iv"] *= factor
        return frame, _at(frame, wing)

    return spoil


def _stuck_surface(frame: pd.DataFrame, at: int) -> Spoiled:
    times = pd.DatetimeIndex(frame["timestamp"].unique())
    first = min(int(times.searchsorted(frame["timestamp"][at])), len(times) - 10)
    held = frame[frame["timestamp"] == times[first]].set_index(["tenor", "delta"])["iv"]
    place = pd.MultiIndex.from_frame(frame[["tenor", "delta"]])
    within = frame["timestamp"].isin(times[first : first + 9])
    frame["iv"] = np.where(within, held.reindex(place).to_numpy(), frame["iv"])
    return frame, (times[first], times[first + 8])


def _snapshot_gone(frame: pd.DataFrame, at: int) -> Spoiled:
    time = frame["timestamp"][at]
    left = frame[frame["timestamp"] != time].reset_index(drop=True)
    return left, (time.normalize(), time)  # a snapshot is missed by its date


def _kinds(market: str, **spoils: Spoil) -> list[Kind]:
    return [Kind(name.replace("_", " "), market, spoil) for name, spoil in spoils.items()]


DAILY = _kinds(
    "equity_daily",
    close_NaN=_value("close", np.nan),
    open_NaN=_value("open", np.nan),
    high_infinite=_value("high", np.inf),
    close_infinite=_value("close", np.inf),
    close_zero=_value("close", 0.0),
    all_prices_zero=_times(FOUR, 0.0),
    low_negative=_value("low", -1.0),
    all_prices_negative=_times(FOUR, -1.0),
    high_and_low_swapped=_swapped,
    close_above_high=_outside("close", "high", 1.02),
    open_below_low=_outside("open", "low", 0.98),
    volume_negative=_value("volume", -1.0),
    volume_infinite=_value("volume", np.inf),
    bid_above_ask=_outside("bid", "ask", 1.01),
    bid_zero=_value("bid", 0.0),
    adj_close_negative=_value("adj_close", -1.0),
    row_twice=_again(1),
    key_twice_with_other_values=_again(1, 1.01),
    two_rows_out_of_order=_moved(1),
    row_ten_places_too_early=_moved(10),
    one_bar_times_100=_times([*FOUR, "adj_close"], 100.0),
    one_bar_by_100=_times([*FOUR, "adj_close"], 0.01),
    one_bar_times_10=_times([*FOUR, "adj_close"], 10.0),
    high_times_20=_times(["high"], 20.0),
    low_by_20=_times(["low"], 0.05),
    times_100_from_there_on=_times([*FOUR, "adj_close"], 100.0, None),
    unannounced_split_2_for_1=_times([*FOUR, "adj_close"], 0.5, None),
    unannounced_split_3_for_2=_times([*FOUR, "adj_close"], 2 / 3, None),
    unannounced_reverse_split_1_for_5=_times([*FOUR, "adj_close"], 5.0, None),
    bar_copied_to_the_next_day=_held([*FOUR, "volume", "adj_close"], 1),
    prices_stuck_for_ten_days=_held([*FOUR, "adj_close"], 10),
    session_missing=_gone(1),
    bar_on_a_saturday=_at_time(_weekend),
    future_timestamp=_at_time(lambda time: time.replace(year=2062)),
)
INTRADAY = _kinds(
    "equity_5min",
    close_off_by_a_fifth=_times(["close", "high"], 1.2),
    high_off_by_a_fifth=_times(["high"], 1.2),
    bar_missing=_gone(1),
    whole_session_missing=_session_gone,
    time_zone_shifted_by_five_hours=_shifted("-5h", None),
    clock_not_changed_for_two_sessions=_shifted("-1h", 2),
    bar_between_the_steps=_at_time(lambda time: time + pd.Timedelta("17s")),
    bar_after_hours=_at_time(lambda time: time.normalize() + pd.Timedelta("23h")),
    quotes_stuck_for_forty_bars=_held(["bid", "ask"], 40),
)
AROUND_THE_CLOCK = _kinds(
    "crypto_1min",
    DST_hole_of_an_hour=_gone(60),
    doubled_hour=_again(60, 1.0001),
    minute_missing=_gone(1),
    prices_stuck_for_ten_minutes=_held([*FOUR, "adj_close"], 10),
    minute_times_100=_times([*FOUR, "adj_close"], 100.0),
    close_off_by_a_twentieth=_times(["close", "high"], 1.05),
)
SURFACES = _kinds(
    "options_skew",
    iv_zero=_value("iv", 0.0),
    iv_near_zero=_value("iv", 0.004),
    iv_NaN=_value("iv", np.nan),
    iv_negative=_value("iv", -0.2),
    iv_in_percent=_times(["iv"], 100.0),
    wing_times_6=_wings(6.0),
    delta_unknown=_value("delta", 0.33),
    tenor_unknown=_value("tenor", 9),
    quote_twice=_again(1, 1.01),
    delta_missing=_gone(1),
    snapshot_missing=_snapshot_gone,
    surface_stuck_for_nine_days=_stuck_surface,
)
KINDS: tuple[Kind, ...] = (*DAILY, *INTRADAY, *AROUND_THE_CLOCK, *SURFACES)
FILE_KINDS: dict[str, Callable[[Path, pd.DataFrame, Rng], Path]] = {}


def _file(name: str) -> Callable[[Callable[[Path, pd.DataFrame, Rng], Path]], object]:
    def keep(write: Callable[[Path, pd.DataFrame, Rng], Path]) -> object:
        FILE_KINDS[name] = write
        return write

    return keep


@_file("Parquet truncated")
def _truncated(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:
    path = base.with_suffix(".parquet")
    frame.to_parquet(path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(rng.integers(1, size))])
    return path


@_file("Parquet with a byte turned over")
def _flipped(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:
    path = base.with_suffix(".parquet")
    frame.to_parquet(path)
    content = bytearray(path.read_bytes())
    content[-int(rng.integers(1, 9))] ^= 0xFF  # in the length of the footer or the magic word
    path.write_bytes(bytes(content))
    return path


@_file("empty file")
def _empty(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:  # noqa: ARG001
    path = base.with_suffix((".csv", ".parquet")[int(rng.integers(2))])
    path.write_bytes(b"")
    return path


@_file("file without rows")
def _rowless(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:  # noqa: ARG001
    path = base.with_suffix(".parquet")
    frame.iloc[:0].to_parquet(path)
    return path


@_file("CSV with commas for points")
def _commas(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:
    path = base.with_suffix(".csv")
    frame.iloc[int(rng.integers(200)) :].to_csv(path, sep=";", decimal=",", index=False)
    return path


@_file("CSV with a word for a price")
def _word(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:
    path = base.with_suffix(".csv")
    text = frame.astype({"close": object})
    text.loc[int(rng.integers(len(frame))), "close"] = "n.v."
    text.to_csv(path, index=False)
    return path


@_file("column missing")
def _columnless(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:
    path = base.with_suffix(".parquet")
    frame.drop(columns=FOUR[int(rng.integers(4))]).to_parquet(path)
    return path


@_file("timestamp without a unit")
def _unitless(base: Path, frame: pd.DataFrame, rng: Rng) -> Path:
    path = base.with_suffix(".parquet")
    seconds = frame["timestamp"].astype("int64") // 10 ** int(rng.integers(1, 7))
    frame.assign(timestamp=seconds).to_parquet(path)
    return path
