"""The shadow log: what champion and challenger said in each night, kept as it was said.

artifacts/shadow/<night>.parquet holds a row for each version and bar: those that were scored that
night, with the outcome `y`, and each symbol's newest bar, whose outcome nobody knew yet. A row that
is in the log is never changed: running a night again adds what is missing and nothing else.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipelines.files import write_parquet
from pipelines.paths import Paths

__all__ = ["COLUMNS", "keep", "nights", "read"]

KEYS = ["market", "symbol", "timestamp"]
COLUMNS = [
    *("night", "role", "version", *KEYS),
    *("session", "y", "probability", "volatility", "expert_ids", "abstain", "reason"),
]


def keep(
    paths: Paths,
    night: str,
    rows: pd.DataFrame,
    answers: Iterable[tuple[str, str, pd.DataFrame]],
) -> int:
    """Add a night's predictions to its file; return how many rows are new.

    Args:
        rows: what was scored: market, symbol, timestamp, session, y.
        answers: role, version and the version's answers, every bar from some moment on.
    """
    parts = []
    for role, version, said in answers:
        newest = said.groupby(["market", "symbol"])["timestamp"].transform("max")
        known = rows[[*KEYS, "session", "y"]]
        marked = said.merge(known, on=KEYS, how="left", validate="1:1")
        wanted = marked["session"].notna() | (said["timestamp"] == newest).to_numpy()
        parts.append(marked[wanted].assign(night=night, role=role, version=version))
    if not parts:
        return 0
    fresh = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    fresh["abstain"] = fresh["abstain"].astype(bool)
    before = read(paths, [night])
    both = pd.concat([before, fresh], ignore_index=True) if len(before) else fresh
    both = both.drop_duplicates(["version", *KEYS], keep="first")
    if len(both) > len(before):
        write_parquet(_path(paths, night), both)
    return len(both) - len(before)


def nights(paths: Paths) -> list[str]:
    """Return the nights of the log, oldest first."""
    return sorted(path.stem for path in (paths.artifacts / "shadow").glob("*.parquet"))


def read(paths: Paths, wanted: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the log of some nights, by default of all; columns `COLUMNS`."""
    chosen = [_path(paths, night) for night in (nights(paths) if wanted is None else wanted)]
    parts = [pd.read_parquet(path) for path in chosen if path.is_file()]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    log: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return log


def _path(paths: Paths, night: str) -> Path:
    return paths.artifacts / "shadow" / f"{night}.parquet"
