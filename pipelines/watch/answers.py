"""What the champion has said, from the shadow log, and what came of it.

- A row is *live* if its bar opened at or after the night that the champion was trained in; the
  others are older than that and still unseen by it, which makes them its reference.
- A row whose outcome was unknown when it was logged is answered by the newest benchmark's rows,
  which also give the base rate's probability; until then it waits.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipelines import register, shadow, tracking
from pipelines.files import read_json
from pipelines.paths import Paths
from pipelines.shadow import KEYS

__all__ = ["Champion", "answers", "champion"]

_NAMES = ("accuracy", "log_loss")


class Champion(NamedTuple):
    """Who holds the office.

    Attributes:
        version: its number in the registry.
        as_of: the night that it was trained in.
        variant: moe_rule or moe_mlp.
        first_test: its first unseen session by market, days since 1970-01-01.
        promised: by market its accuracy and log_loss on its own test rows, and base_log_loss.
    """

    version: str
    as_of: pd.Timestamp
    variant: str
    first_test: dict[str, int]
    promised: dict[str, dict[str, float]]

    @property
    def day(self) -> int:
        """The first live session, days since 1970-01-01."""
        return int(self.as_of.timestamp() // 86_400)


def champion(paths: Paths) -> Champion | None:
    """Return the home's champion, or None; a home without a registry is left without one."""
    if not (paths.mlflow_server.is_file() or (paths.var / "mlflow" / "mlflow.db").is_file()):
        return None
    held = tracking.champion(paths)
    if held is None:
        return None
    tags = held.tags
    first = {str(name): int(day) for name, day in json.loads(tags.get("first_test", "{}")).items()}
    variant = str(tags.get("variant", "moe_mlp"))
    night = pd.Timestamp(str(tags["as_of"]), tz="UTC")
    run = tracking.open_registry(paths).get_run(str(held.run_id)) if held.run_id else None
    metrics = dict(run.data.metrics) if run else {}
    promised = {market: _promised(metrics, variant, market) for market in first}
    return Champion(str(held.version), night, variant, first, promised)


def answers(paths: Paths, held: Champion) -> pd.DataFrame:
    """Return the champion's answers: `KEYS`, session, y, base, probability, expert_ids, is_live.

    Each bar once, abstentions left out; y and base are NaN while nobody knows.
    """
    since = str(held.as_of.date())  # it was not there to be asked before
    rows = shadow.read(paths, [night for night in shadow.nights(paths) if night >= since])
    rows = rows[(rows["version"] == held.version) & ~rows["abstain"].astype(bool)]
    rows = rows.sort_values("y", na_position="last", kind="stable").drop_duplicates(KEYS)
    if rows.empty:
        rows = _of_its_night(paths, held)
    known = _outcomes(paths)
    names = [*KEYS, "session", "y", "probability", "expert_ids"]
    rows = rows[names].merge(known, on=KEYS, how="left")
    date = pd.Series(pd.DatetimeIndex(rows["timestamp"]).floor("D").as_unit("s").asi8 // 86_400)
    session = rows["session"].fillna(rows["day"]).fillna(date).astype(np.int64)
    y = rows["y"].astype(np.float64).fillna(rows["outcome"])
    rows = rows.assign(session=session, y=y, is_live=session >= held.day)
    rows = rows.drop(columns=["outcome", "day"])
    return rows.sort_values(["market", "session"], kind="stable", ignore_index=True)


def _of_its_night(paths: Paths, held: Champion) -> pd.DataFrame:
    """Return the test rows of the champion's own night, while the home still holds them."""
    empty = pd.DataFrame(columns=shadow.COLUMNS)
    path, night = paths.model(held.variant) / "predictions.parquet", register.registration(paths)
    if not path.is_file() or not night.is_file():
        return empty
    if str(read_json(night).get("candidate_version")) != held.version:
        return empty
    rows = pd.read_parquet(path)
    rows = rows[rows["split"] == "test"].reset_index(drop=True)
    gate = [name for name in rows.columns if name.startswith("gate_")]
    asked = np.argsort(-rows[gate].to_numpy(), axis=1, kind="stable")[:, :2]
    names = np.array([name.removeprefix("gate_") for name in gate])[asked]
    return rows.assign(expert_ids=[",".join(pair) for pair in names])


def _outcomes(paths: Paths) -> pd.DataFrame:
    path = paths.benchmark / "predictions.parquet"
    names = {"session": "day", "y": "outcome", "probability": "base"}
    if not path.is_file():
        return pd.DataFrame(columns=[*KEYS, *names.values()])
    rows = pd.read_parquet(path)
    rows = rows[(rows["model"] == "base_rate") & (rows["split"] == "test")]
    return rows[[*KEYS, *names]].rename(columns=names).astype({"outcome": np.float64})


def _promised(metrics: dict[str, Any], variant: str, market: str) -> dict[str, float]:
    found = {name: metrics.get(f"{name}/{variant}/{market}", np.nan) for name in _NAMES}
    found["base_log_loss"] = metrics.get(f"log_loss/base_rate/{market}", np.nan)
    return {name: float(value) for name, value in found.items()}
