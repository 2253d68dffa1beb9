"""The shadow log as people read it: what both versions said, night by night, and what became of it.

- A night writes down two kinds of rows: windows whose outcome is known, which it judges the pair
  by, and each symbol's newest bar, whose outcome nobody knew. The second kind is live: no model
  could have been fitted to it.
- A logged row never changes. The outcome of a live row is looked up where it appears later: in the
  logs of later nights, and in the test windows of the last night's benchmark. Those lie on every
  h-th bar, so of a market whose horizon is many bars only some live rows are ever scored.
- A version that abstains said nothing: such rows are counted as silent and never as right or wrong.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from atlas.errors import DataError
from dashboard.reading import columns, stored
from pipelines import shadow
from pipelines.paths import Paths

__all__ = ["NIGHTS", "ROLES", "Log", "Said", "live_rows", "read_log"]

NIGHTS = 60  # the newest ones; longer no challenger stands by default
ROLES = ("champion", "challenger")
_KEYS = ["market", "symbol", "timestamp"]
_WANTED = ["role", "version", *_KEYS, "session", "y", "probability", "abstain", "reason"]


class Said(NamedTuple):
    """One version in one night; shares in [0, 1], NaN where there is nothing to count."""

    night: str
    role: str
    version: str
    judged: int
    right: float
    log_loss: float
    silent: int
    live: int
    matured: int
    live_right: float


class Log(NamedTuple):
    """Every version and night, newest first; the live rows; and the files that cannot be read.

    `live` holds night, role, version, market, symbol, timestamp, probability, abstain, reason and
    the outcome `y`, NaN while it is not known.
    """

    said: list[Said]
    live: pd.DataFrame
    faults: list[str]

    @property
    def nights(self) -> list[str]:
        """Return the nights, newest first."""
        return sorted({one.night for one in self.said}, reverse=True)


def read_log(paths: Paths) -> Log:
    """Read the newest nights of the log.

    Raises:
        DataError: there is no log yet, or no night of it can be read.
    """
    files = [
        paths.artifacts / "shadow" / f"{night}.parquet" for night in shadow.nights(paths)[-NIGHTS:]
    ]
    if not files:
        raise DataError(
            "No night has asked a champion and a challenger yet. The log begins with the first "
            "night that has both: run make nightly AS_OF=… for the day after the champion's"
        )
    scored = paths.benchmark / "predictions.parquet"
    return stored([*files, scored], "shadow", lambda: _log(files, scored))


def live_rows(log: Log, night: str, market: str) -> pd.DataFrame:
    """Return a line for each newest bar of a night: both probabilities, and the outcome.

    Returns:
        market, symbol, timestamp, champion, challenger (NaN where silent or not there) and y.
    """
    own = log.live[log.live["night"] == night]
    if market:
        own = own[own["market"] == market]
    lines = own[[*_KEYS, "y"]].drop_duplicates(_KEYS)
    for role in ROLES:
        said = own[(own["role"] == role) & ~own["abstain"]]
        given = said[[*_KEYS, "probability"]].rename(columns={"probability": role})
        lines = lines.merge(given.drop_duplicates(_KEYS), on=_KEYS, how="left")
    found: pd.DataFrame = lines.sort_values(["market", "symbol"]).reset_index(drop=True)
    return found


def _log(files: list[Path], scored: Path) -> Log:
    judged: list[Said] = []
    live: list[pd.DataFrame] = []
    outcomes: list[pd.DataFrame] = []
    faults: list[str] = []
    for path in files:
        try:
            rows = columns(path, _WANTED)
        except DataError as error:
            faults.append(str(error))
            continue
        rows["abstain"] = rows["abstain"].astype(bool)
        known = rows["y"].notna() & rows["session"].notna()
        outcomes.append(_outcomes(rows[known], live))
        judged += _judged(path.stem, rows[known])
        live.append(_texts(rows[~known].assign(night=path.stem)))
    if not live:
        raise DataError(faults[0])
    try:
        outcomes.append(
            _outcomes(columns(scored, [*_KEYS, "y"], equal={"model": "base_rate"}), live)
        )
    except DataError as error:
        faults.append(str(error))
    open_rows = _with_outcomes(live, outcomes)
    return Log(_came_out(judged, open_rows), open_rows, faults)


def _texts(rows: pd.DataFrame) -> pd.DataFrame:
    """Turn categories back into texts, so that rows of several files can be joined."""
    names = [name for name in ("role", "version", "market", "symbol", "reason") if name in rows]
    return rows.astype(dict.fromkeys(names, "str"))


def _outcomes(rows: pd.DataFrame, live: list[pd.DataFrame]) -> pd.DataFrame:
    """Keep of rows with an outcome those at a time at which an earlier live row stands."""
    times = pd.concat([one["timestamp"] for one in live]) if live else rows["timestamp"].iloc[:0]
    kept = rows.loc[rows["timestamp"].isin(times), [*_KEYS, "y"]]
    return _texts(kept.drop_duplicates(_KEYS))


def _with_outcomes(live: list[pd.DataFrame], outcomes: list[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat(live, ignore_index=True).drop(columns=["y", "session"])
    known = pd.concat(outcomes, ignore_index=True).dropna(subset=["y"]).drop_duplicates(_KEYS)
    return rows.merge(known, on=_KEYS, how="left")


def _judged(night: str, rows: pd.DataFrame) -> list[Said]:
    found = []
    for (role, version), own in rows.groupby(["role", "version"], observed=True):
        said = own[~own["abstain"]]
        right, loss = _scores(said)
        silent = len(own) - len(said)
        one = Said(night, str(role), str(version), len(said), right, loss, silent, 0, 0, np.nan)
        found.append(one)
    return found


def _came_out(judged: list[Said], live: pd.DataFrame) -> list[Said]:
    """Add to each version and night how its live rows came out; newest night first."""
    known = {(one.night, one.role, one.version): one for one in judged}
    for key, own in live.groupby(["night", "role", "version"]):
        place = (str(key[0]), str(key[1]), str(key[2]))
        said = own[~own["abstain"]]
        matured = said[said["y"].notna()]
        before = known.get(place) or Said(*place, 0, np.nan, np.nan, 0, 0, 0, np.nan)
        known[place] = before._replace(
            live=len(said), matured=len(matured), live_right=_scores(matured)[0]
        )
    return sorted(known.values(), key=lambda one: (one.night, one.role), reverse=True)


def _scores(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the share of right directions and the mean log-loss, nats; NaN without a row."""
    if not len(rows):
        return np.nan, np.nan
    p = rows["probability"].to_numpy(float).clip(1e-7, 1 - 1e-7)
    up = rows["y"].to_numpy(float) > 0.5
    losses = -np.log(np.where(up, p, 1 - p))
    return float(((p > 0.5) == up).mean()), float(losses.mean())
