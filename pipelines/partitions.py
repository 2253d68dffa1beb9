"""Which file of the store holds a row: by month, by year, or a symbol's single one.

Bars of a minute or less lie in a file a month, other intraday bars in a file a year, daily bars and
surfaces in one file a symbol.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from atlas.bars import Timeframe
from atlas.config import Modality

__all__ = ["partition_of", "partition_unit", "partitions"]


def partition_unit(timeframe: Timeframe, modality: Modality) -> Literal["M", "Y"] | None:
    """Return whether a symbol has a file a month (M), a year (Y), or a single one (None)."""
    if modality == "surface" or not timeframe.is_intraday:
        return None
    return "M" if timeframe.seconds <= 60 else "Y"


def partition_of(time: pd.Timestamp, unit: str | None) -> str:
    """Return the label of the file that holds a time; empty for a symbol's single file."""
    return {"M": f"{time:%Y-%m}", "Y": f"{time:%Y}"}.get(unit or "", "")


def partitions(
    base: Path, rows: pd.DataFrame, timeframe: Timeframe, modality: Modality
) -> dict[Path, pd.DataFrame]:
    """Part a symbol's rows by file.

    Args:
        base: the symbol's place in the store, without a suffix.
        rows: with the column `timestamp`.

    Returns:
        The rows of each file, in their order.
    """
    unit = partition_unit(timeframe, modality)
    if unit is None:
        return {base.with_name(f"{base.name}.parquet"): rows}
    period = rows["timestamp"].dt.tz_localize(None).to_numpy().astype(f"datetime64[{unit}]")
    if (period[1:] < period[:-1]).any():
        order = np.argsort(period, kind="stable")
        rows, period = rows.iloc[order], period[order]
    starts = np.flatnonzero(np.r_[len(rows) > 0, period[1:] != period[:-1]])
    return {
        base / f"{partition_of(pd.Timestamp(period[start]), unit)}.parquet": rows.iloc[start:end]
        for start, end in pairwise([*starts, len(rows)])
    }
