"""A champion and its one challenger: what is judged each night, and what is kept of it.

- Judged are sessions that neither has trained or chosen itself on (from the later of their first
  test sessions on; the cut has put an embargo before those), each once. A session is ready when
  every market that still moves has reached it; a market whose newest session is older than
  `SETTLED_DAYS` before the night is not waited for.
- One session is one bet (`atlas.eprocess`): the mean over markets of the mean loss difference of
  its rows, with markets that have no row that day counting 0. Markets of one day share its news, so
  they are not bets of their own.
- A row that one of them abstains on counts as the base rate's probability, which is what one has
  without an answer: nobody wins by silence, nor is judged on the rows it likes.
- artifacts/challenge/<champion>-<challenger>.json is the whole state, written at once: days judged,
  nights, evidence. It is computed from the days in it, and a night adds only later days. So a
  night that was killed or runs again counts nothing twice.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.config import PromotionConfig
from atlas.eprocess import evidence
from atlas.metrics import log_losses
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = [
    "KEYS",
    "ROLES",
    "SETTLED_DAYS",
    "State",
    "add",
    "difference",
    "evidence_of",
    "filled",
    "load",
    "losses",
    "opened",
    "ready",
    "save",
    "unjudged",
]

KEYS = ["market", "symbol", "timestamp"]
SETTLED_DAYS = 7
ROLES = ("champion", "challenger")
State = dict[str, Any]


def load(paths: Paths, champion: str, challenger: str) -> State | None:
    """Return the state of a pair, or None before its first night."""
    path = _path(paths, champion, challenger)
    return dict(read_json(path)) if path.is_file() else None


def opened(champion: str, challenger: str, markets: list[str], settings: PromotionConfig) -> State:
    """Return the state of a pair that has not been judged yet.

    The bound and the markets stay those of the first night: a bet whose terms change after the
    outcome proves nothing.
    """
    return {
        "bound": settings.bound,
        "challenger": challenger,
        "champion": champion,
        "days": [],
        "e": 1.0,
        "markets": sorted(markets),
        "nights": [],
    }


def save(paths: Paths, state: State) -> Path:
    """Write the state atomically; return where."""
    path = _path(paths, state["champion"], state["challenger"])
    write_json(path, state)
    return path


def ready(rows: pd.DataFrame, night: pd.Timestamp) -> pd.DataFrame:
    """Keep the rows of sessions that every market which still moves has reached.

    Args:
        rows: market and session, days since 1970-01-01.
        night: the night's midnight.
    """
    if rows.empty:
        return rows
    newest = rows.groupby("market")["session"].max()
    moving = newest[newest >= _days(night) - SETTLED_DAYS]
    last = moving.min() if len(moving) else newest.max()
    reached: pd.DataFrame = rows.loc[rows["session"] <= last].reset_index(drop=True)
    return reached


def unjudged(rows: pd.DataFrame, state: State) -> pd.DataFrame:
    """Keep the pair's markets and the sessions after the last one that was judged."""
    kept = rows.loc[rows["market"].isin(state["markets"])]
    if state["days"]:
        kept = kept.loc[kept["session"] > state["days"][-1]["session"]]
    fresh: pd.DataFrame = kept.reset_index(drop=True)
    return fresh


def filled(rows: pd.DataFrame, role: str, answers: pd.DataFrame) -> pd.DataFrame:
    """Add what a version says of the rows as the column `role`, and `said_<role>`.

    Args:
        rows: `KEYS` and base, the base rate's probability, which stands where nothing was said.
        role: champion or challenger.
        answers: what the version says, with abstain; rows not answered at all are absent.
    """
    given = answers.loc[~answers["abstain"].astype(bool), [*KEYS, "probability"]]
    both = rows.merge(
        given.rename(columns={"probability": role}), on=KEYS, how="left", validate="1:1"
    )
    said = both[role].notna()
    both[role] = both[role].fillna(both["base"])
    return both.assign(**{f"said_{role}": said})


def add(state: State, night: str, rows: pd.DataFrame, loads: dict[str, Any]) -> State:
    """Return the state after a night.

    Args:
        state: as `load` or `opened` gave it.
        night: its date; a night that is in the state already counts once.
        rows: unjudged rows with session, y, champion and challenger (probabilities), said_champion
            and said_challenger.
        loads: how often each expert was asked, for `pipelines.guards`.
    """
    nights = [*state["nights"], *([] if night in state["nights"] else [night])]
    state = {**state, "nights": nights}
    if len(rows):
        state = {**state, "days": [*state["days"], *_days_of(rows, state, night)]}
    if len(rows) > state.get("loads_rows", 0):  # one session of few rows would miss rare experts
        state = {**state, "loads": loads, "loads_rows": len(rows)}
    return {**state, "e": evidence_of(state)}


def evidence_of(state: State, *, reverse: bool = False) -> float:
    """Return e for "the challenger is better", or with `reverse` for "it is worse"."""
    gains = np.array([-day["difference"] for day in state["days"]])
    return evidence(-gains if reverse else gains, bound=state["bound"])


def losses(state: State) -> dict[str, dict[str, float]]:
    """Return for each market its rows and the mean log-loss of both over all of them, nats."""
    sums: dict[str, NDArray[np.float64]] = {}
    for day in state["days"]:
        for market, found in day["losses"].items():
            sums[market] = sums.get(market, np.zeros(3)) + np.asarray(found, float)
    return {
        market: {"rows": rows, "champion": champion / rows, "challenger": challenger / rows}
        for market, (rows, champion, challenger) in sorted(sums.items())
    }


def difference(state: State) -> float:
    """Return the mean over markets of the loss difference over all rows, challenger − champion.

    Nothing is clipped here. Below 0 the challenger is better; NaN before the first session.
    """
    gaps = [own["challenger"] - own["champion"] for own in losses(state).values()]
    return float(np.mean(gaps)) if gaps else float("nan")


def _days_of(rows: pd.DataFrame, state: State, night: str) -> list[dict[str, Any]]:
    y = rows["y"].to_numpy(float)
    lost = {role: log_losses(y, rows[role].to_numpy(float)) for role in ROLES}
    silent = {f"silent_{role}": ~rows[f"said_{role}"].to_numpy(bool) for role in ROLES}
    table = pd.DataFrame(
        {"session": rows["session"], "market": rows["market"], "rows": 1, **lost, **silent}
    )
    sums = table.groupby(["session", "market"], sort=True).sum()
    days = []
    for session in np.unique(rows["session"]):
        own = sums.loc[int(session)]
        gap = (own["challenger"] - own["champion"]) / own["rows"]
        lines = zip(own.index, own["rows"], own["champion"], own["challenger"], strict=True)
        days.append(
            {
                "day": str(np.datetime64(int(session), "D")),
                "session": int(session),
                "night": night,
                "difference": float(gap.sum() / len(state["markets"])),
                "losses": {str(name): [int(n), float(a), float(b)] for name, n, a, b in lines},
                "silent": {role: int(own[f"silent_{role}"].sum()) for role in ROLES},
            }
        )
    return days


def _days(moment: pd.Timestamp) -> int:
    return int(moment.timestamp() // 86_400)


def _path(paths: Paths, champion: str, challenger: str) -> Path:
    return paths.artifacts / "challenge" / f"{champion}-{challenger}.json"
