"""Score what `benchmarks.ideas` keeps: log-loss less another's, by session, seeds averaged first.

Intervals are from a stationary bootstrap of sessions, whose blocks hold twice the longest horizon;
p-values are Diebold and Mariano's. Below 0 the first loses less.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from atlas.comparison import loss_difference, over_seeds
from atlas.evaluation import POOLED, pooled, session_draws

__all__ = ["BLOCK", "base_of", "same_rows", "score"]

BLOCK = 10.0  # sessions
_KEYS = ["market", "symbol", "timestamp"]


def base_of(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the base rate of a model's own question as a model of one seed."""
    return [frame.assign(probability=frame["base"])]


def same_rows(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Say whether two models were asked the same of the same rows."""
    columns = [*_KEYS, "y"]
    return len(a) == len(b) and all((a[c].to_numpy() == b[c].to_numpy()).all() for c in columns)


def score(own: Sequence[pd.DataFrame], other: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Return by market, and for their mean, the difference of losses and its 95 % interval.

    Args:
        own: a frame for each seed: market, symbol, timestamp, session, y, probability.
        other: the same of what it is compared with.

    Returns:
        For each market value, low, high, n, hits (share of right calls) and other_hits; for
        `POOLED` also p.
    """
    a, b = over_seeds(own), over_seeds(other)
    difference = (a["loss"] - b["loss"]).to_numpy()
    markets = a["market"].astype(str).to_numpy()
    found, draws = {}, []
    for place, market in enumerate(np.unique(markets)):
        rows = markets == market
        sessions = a["session"].to_numpy(np.int64)[rows]
        draws.append(session_draws(difference[rows], sessions, block=BLOCK, seed=place))
        found[str(market)] = draws[-1].interval(0.95)._asdict() | {
            "n": int(rows.sum()),
            "hits": float(a["hit"].to_numpy()[rows].mean()),
            "other_hits": float(b["hit"].to_numpy()[rows].mean()),
        }
    mean = {name: float(np.mean([one[name] for one in found.values()])) for name in _MEANS}
    found[POOLED] = pooled(draws).interval(0.95)._asdict() | mean | {"n": len(a)}
    found[POOLED]["p"] = loss_difference(own, other).p_value
    return found


_MEANS = ("hits", "other_hits")
