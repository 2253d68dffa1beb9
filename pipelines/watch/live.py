"""Does the champion still do what it promised, on bars that came after its training.

- Its edge is the base rate's log-loss less its own, nats a row. What it promised is its edge on its
  own test rows. The alarm says that it has lost more than half of that.
- The proof is an e-process over sessions (`atlas.eprocess`): it may be looked at every day, and an
  edge that is kept raises an alarm with a chance of at most 1 / `monitor.evidence`, however long
  one watches, all markets and their mean together.
- Accuracy and log-loss come with 95 % intervals over sessions, for people; they decide nothing.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.eprocess import evidence
from atlas.evaluation import POOLED, session_interval
from atlas.metrics import hits, log_losses
from pipelines.watch.answers import Champion
from pipelines.watch.checks import Check, unjudged

__all__ = ["BOUND", "figures", "live_checks"]

BOUND = 0.5  # nats: a session's edge counts up to this; sessions of few rows swing by a tenth
_RESAMPLES = 500
_FEWEST = 5  # sessions of which an interval can be said


def live_checks(
    rows: pd.DataFrame, held: Champion, markets: list[str], needed: float
) -> list[Check]:
    """Judge the champion's edge in each market, and its mean over markets.

    Args:
        rows: as `pipelines.watch.answers.answers` gives them.
        needed: e-value that is proof; each of the checks needs as many times more.
    """
    known = _known(rows)
    limit = needed * (len(markets) + 1)
    checks, gains = [], {}
    for market in markets:
        own = known[known["market"] == market]
        half = _half(held, market)
        if own.empty or not np.isfinite(half):
            why = "no live answer has met its outcome yet" if own.empty else "no promise is kept"
            checks.append(unjudged("live", market, "edge_lost", why))
            continue
        gains[market] = half - own.groupby("session")["edge"].mean()
        checks.append(_check(market, own, gains[market], half, limit))
    if gains:
        table = pd.DataFrame(gains).fillna(0.0)  # a market without rows bets nothing that day
        half = float(np.mean([_half(held, market) for market in gains]))
        checks.append(_check("", known, table.mean(axis=1), half, limit))
    return checks


def figures(rows: pd.DataFrame, held: Champion, market: str) -> dict[str, Any]:
    """Return a market's live rows, accuracy and log-loss with intervals, and what was promised."""
    own = _known(rows[rows["market"] == market])
    waiting = int(rows[(rows["market"] == market) & rows["is_live"]]["y"].isna().sum())
    found: dict[str, Any] = {"rows": len(own), "waiting": waiting, "sessions": 0}
    found["promised"] = {
        name: _number(value) for name, value in held.promised.get(market, {}).items()
    }
    if own.empty:
        return found
    y, p = own["y"].to_numpy(float), own["probability"].to_numpy(float)
    days = own["session"].to_numpy(np.int64)
    found["sessions"] = int(np.unique(days).size)
    found["accuracy"] = _interval(hits(y, p), days)
    found["log_loss"] = _interval(log_losses(y, p), days)
    found["base_log_loss"] = _number(float(own["base_loss"].mean()))
    return found


def _check(
    market: str, own: pd.DataFrame, gains: "pd.Series[float]", half: float, limit: float
) -> Check:
    edge = own.groupby("market")["edge"].mean().mean()
    e = evidence(np.asarray(gains.sort_index(), np.float64), bound=BOUND)
    alarm = e >= limit
    line = (
        f"{market or POOLED}: the champion has lost more than half of its edge on the base rate: "
        f"{edge:+.4f} nats a row in {len(gains)} live sessions, {2 * half:+.4f} "
        f"promised; e = {e:.3g}, alarm from {limit:g}"
    )
    return Check("live", market, "edge_lost", e, 1.0, limit, alarm, True, line if alarm else "")


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the live rows whose outcome is known, with base_loss and edge, nats."""
    live = rows[rows["is_live"] & rows["y"].notna()]
    usual = live.groupby("market")["base"].transform("mean").fillna(0.5)
    y = live["y"].to_numpy(float)
    base = log_losses(y, live["base"].fillna(usual).to_numpy(float))
    own = log_losses(y, live["probability"].to_numpy(float))
    return live.assign(base_loss=base, edge=base - own)


def _half(held: Champion, market: str) -> float:
    """Return half of the edge promised, 0 if none was; NaN if the registry does not say."""
    promised = held.promised.get(market, {})
    edge = promised.get("base_log_loss", np.nan) - promised.get("log_loss", np.nan)
    return float(np.maximum(edge, 0.0) / 2)


def _interval(values: NDArray[np.float64], days: NDArray[np.int64]) -> list[float | None]:
    if np.unique(days).size < _FEWEST:
        return [_number(float(values.mean())), None, None]
    found = session_interval(values, days, resamples=_RESAMPLES)
    return [_number(found.value), _number(found.low), _number(found.high)]


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
