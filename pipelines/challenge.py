"""Ask a registered version for predictions, in a process of its own with its own code.

- A champion is judged on rows from its own first test session on: before it lie sessions that it
  trained on or was calibrated on.
- Before any code of the version runs, its files are checked against the digest in the registry.
- Each symbol comes with the bars that a full answer needs: 320 bars and 31 whole sessions before
  the first row asked for, so that windows, fingerprints and vol30 are those of a long history.
"""

import json
import logging
import sys
import tempfile
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from atlas.bars import Timeframe
from atlas.calendars import session_days
from atlas.config import ATLASConfig, MarketConfig
from atlas.errors import ModelError
from pipelines import launch, packaging, score, store, tracking
from pipelines.paths import Paths

__all__ = [
    "BARS_BEFORE",
    "SESSIONS_BEFORE",
    "answers",
    "check",
    "first_sessions",
    "frames",
    "recent",
    "unseen",
]

log = logging.getLogger(__name__)
BARS_BEFORE = 320
SESSIONS_BEFORE = 31  # 30 completed ones and the one the first row lies in


def first_sessions(version: ModelVersion) -> dict[str, int]:
    """Return the first test session of each market of a version, days since 1970-01-01."""
    days: dict[str, int] = json.loads(version.tags.get("first_test", "{}"))
    return days


def unseen(rows: pd.DataFrame, first: dict[str, int]) -> pd.DataFrame:
    """Keep the rows in sessions that a model with these first test sessions has not seen.

    Markets that the model does not know are left out.
    """
    start = rows["market"].map(first)
    return rows[rows["session"] >= start].reset_index(drop=True)


def answers(
    paths: Paths,
    version: str,
    frame: pd.DataFrame,
    *,
    threads: int,
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Return what a version says of a long frame; see `pipelines.score` for the frame.

    Args:
        now: the moment of the question, to which bars may be stale; None for the clock.

    Raises:
        ModelError: a file of the version was tampered with, it refuses the frame, saying why, or
            it cannot be loaded or fails; its last lines are in the message.
    """
    check(paths, version)
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "asked.parquet", Path(scratch) / "answered.parquet"
        frame.to_parquet(asked, index=False)
        command = [sys.executable, "-m", "pipelines.score"]
        command += ["--tracking-uri", paths.tracking_uri]
        command += ["--model-uri", _address(paths, version)]
        command += ["--frame", str(asked), "--out", str(answered)]
        command += ["--now", now.isoformat()] if now is not None else []
        environment = launch.child_environment(threads)
        try:
            deque(launch.stream(command, environment, f"version {version}"), 0)
        except ModelError as error:
            said = score.refusal(answered)
            if not said.is_file():
                raise
            raise ModelError(f"version {version}: {said.read_text('utf-8')}") from error
        return pd.read_parquet(answered)


def _address(paths: Paths, version: str) -> str:
    """Return where a child finds a version; it has no login, so not at a server behind one."""
    if paths.mlflow_server.is_file():
        return str(tracking.files_of(paths, tracking.resolve(paths, version)))
    return f"models:/{tracking.MODEL}/{version}"


def check(paths: Paths, version: str) -> None:
    """Compare the files of a version with the digest in the registry.

    Raises:
        ModelError: a file is missing or was changed.
    """
    held = tracking.resolve(paths, version)
    wanted = held.tags.get(tracking.MANIFEST)
    if wanted is None:
        log.warning("version %s was registered without a digest: its files are unproven", version)
        return
    packaging.check(tracking.files_of(paths, held), wanted)


def frames(
    paths: Paths, config: ATLASConfig, rows: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Collect the long frame that answers `rows`, with the column `since` of `pipelines.score`.

    Args:
        rows: market, symbol, timestamp of the bars asked for.
        as_of: the night; no bar known after it is handed over.
    """
    parts = []
    grouped = rows.groupby(["market", "symbol"], sort=False, as_index=False)
    for market, symbol, first in grouped["timestamp"].min().itertuples(index=False):
        settings = config.markets[market]
        bars = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
        tail = recent(bars, settings, first)
        parts.append(tail.assign(market=market, symbol=symbol))
    frame = pd.concat(parts, ignore_index=True)
    since = rows.groupby("market")["timestamp"].min()
    return frame.assign(since=frame["market"].map(since))


def recent(bars: pd.DataFrame, settings: MarketConfig, first: pd.Timestamp) -> pd.DataFrame:
    """Drop the rows of a symbol that are not needed to answer from the bar at `first` on.

    Args:
        bars: as `store.read_bars` gives them; surfaces have many rows a time.

    Returns:
        The rows kept, timestamp as a column.
    """
    if "timestamp" not in bars.columns:
        bars = bars.reset_index()
    times = pd.DatetimeIndex(bars["timestamp"].drop_duplicates())
    days = session_days(times, settings.calendar, Timeframe.parse(settings.timeframe))
    reach = max(int(times.searchsorted(first)) - BARS_BEFORE, 0)
    known = np.unique(days)
    start = known[max(int(np.searchsorted(known, days[reach])) - SESSIONS_BEFORE, 0)]
    tail: pd.DataFrame = bars.loc[bars["timestamp"] >= times[np.searchsorted(days, start)]]
    return tail
