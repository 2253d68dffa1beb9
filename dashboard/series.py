"""Long series made short enough to draw: a few hundred points, whatever a market has.

A screen has a thousand columns; a year of one-minute bars has half a million rows. What is sent is
the mean (of shares) or the last value (of prices) of equally many rows a point.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["POINTS", "Shares", "iso", "last_values", "mean_shares"]

POINTS = 360

Floats = NDArray[np.float64]


class Shares(NamedTuple):
    """Mean shares over time: `times` (N,), `means` (N, K), each row the mean of its bucket."""

    times: pd.DatetimeIndex
    means: Floats


def mean_shares(times: "pd.Series[pd.Timestamp]", values: Floats, points: int = POINTS) -> Shares:
    """Average rows by time, in at most `points` buckets of equally many distinct times.

    Args:
        times: (N,) of the rows, in any order; rows of equal time fall in one bucket.
        values: (N, K); NaN counts as 0.
    """
    if not len(times):
        return Shares(pd.DatetimeIndex([], tz="UTC"), np.zeros((0, values.shape[1])))
    stamps = np.asarray(pd.DatetimeIndex(times).as_unit("us").asi8)
    distinct, place = np.unique(stamps, return_inverse=True)
    width = -(-len(distinct) // points)
    bucket = place // width
    count = np.bincount(bucket).astype(float)
    sums = np.stack([np.bincount(bucket, np.nan_to_num(column)) for column in values.T], axis=1)
    starts = distinct[::width]
    index = pd.DatetimeIndex(starts.view("datetime64[us]")).tz_localize("UTC")
    return Shares(index, sums / count[:, None])


def last_values(series: "pd.Series[float]", points: int = POINTS) -> "pd.Series[float]":
    """Keep the last value of equally many rows, at most `points` of them and always the newest."""
    step = -(-len(series) // points) or 1
    kept: pd.Series[float] = series.iloc[::-1].iloc[::step].iloc[::-1]
    return kept


def iso(times: pd.DatetimeIndex) -> list[str]:
    """Return times as texts that a browser reads, in UTC."""
    return [str(text) for text in times.strftime("%Y-%m-%dT%H:%M:%S")]
