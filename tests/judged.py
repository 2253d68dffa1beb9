"""The outcome of a validation, written plainly, for tests that are about what comes after it."""

import pandas as pd

from pipelines.files import write_json, write_parquet
from pipelines.paths import Paths

__all__ = ["judge"]


def judge(paths: Paths, market: str, as_of: pd.Timestamp, bad: pd.DataFrame | None = None) -> None:
    """Say that the night `as_of` has judged every row it knows, and found only `bad` ones bad."""
    none = pd.DataFrame(
        {"symbol": pd.Series(dtype=str), "timestamp": pd.DatetimeIndex([], tz="UTC")}
    )
    write_parquet(paths.quarantine(market), none if bad is None else bad)
    night = as_of.isoformat()
    outcome = {"as_of": night, "covers": night, "passed": True, "store": "", "unreadable": []}
    write_json(paths.validation(market), outcome)
