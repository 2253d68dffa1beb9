"""Whom does the champion ask: has that changed, and is an expert never asked any more.

- Gate drift: shares of the places that experts take, live against the champion's unseen rows from
  before its night, with a limit measured as for fingerprints.
- An expert is dead if it takes less than `monitor.dead_share` of the places in every market where
  the catalogue expects it: those whose modality and timeframe are its home. One market is enough
  to live in: two daily experts may well share daily markets out among themselves.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.catalogue import EXPERT_IDS, expert_spec
from atlas.config import ATLASConfig, MarketConfig
from pipelines.watch.checks import Check, unjudged
from pipelines.watch.columns import Compared, compare, spans_of

__all__ = ["expert_checks", "gate_check", "homes", "shares"]

_ENOUGH = 1_000  # rows of a market, to say that an expert is not asked there


def gate_check(rows: pd.DataFrame, market: str, longest: int, rate: float) -> Check:
    """Compare whom the champion asks in its newest live sessions with whom it asked before.

    Args:
        rows: of this market, as `pipelines.watch.answers.answers` gives them.
        longest: sessions of the window, at most.
        rate: accepted chance of a false alarm.
    """
    asked = Compared("gate", market, "routing", "jensen_shannon", rate)
    before = rows[~rows["is_live"]]
    days = np.unique(rows["session"].to_numpy(np.int64))
    first = int(before["session"].max()) + 1 if len(before) else 0
    spans = spans_of(days, first, longest)
    if spans is None:
        why = "no live answer yet" if len(before) else "no answer from before its night"
        return unjudged("gate", market, "routing", why)
    counts = _places(before)
    now = _places(rows[rows["session"].between(*spans.window)]).sum(0)
    return compare(asked, counts, now, spans.sessions)


def expert_checks(rows: pd.DataFrame, config: ATLASConfig, dead_share: float) -> list[Check]:
    """Look for experts that are asked in none of the markets where the catalogue expects them."""
    wanted = config.moe.experts if config.moe.enabled else ()
    checks = []
    for expert in wanted:
        expected = [name for name in homes(expert, config.markets) if name in set(rows["market"])]
        loads = {
            market: shares(own).get(expert, 0.0)
            for market in expected
            if len(own := _recent(rows, market)) >= _ENOUGH
        }
        if not loads:
            why = f"fewer than {_ENOUGH} answers in the markets that it is meant for"
            checks.append(unjudged("experts", "", expert, why))
            continue
        value = max(loads.values())
        alarm = value < dead_share
        line = (
            f"expert {expert} is dead: it takes {value:.2%} of the places in "
            f"{', '.join(loads)}, where the catalogue expects it; alarm below {dead_share:.2%}"
        )
        checks.append(
            Check(
                *("experts", "", expert, value, np.nan, dead_share),
                alarm=alarm,
                judged=True,
                line=line if alarm else "",
            )
        )
    return checks


def homes(expert: str, markets: dict[str, MarketConfig]) -> list[str]:
    """Return the markets where the catalogue expects an expert."""
    spec = expert_spec(expert)
    return [
        name
        for name, settings in markets.items()
        if settings.modality == spec.modality
        and spec.is_home(Timeframe.parse(settings.timeframe).seconds)
    ]


def shares(rows: pd.DataFrame) -> dict[str, float]:
    """Return each expert's share of the places of some answers."""
    counts = _places(rows).sum(0)
    total = max(counts.sum(), 1.0)
    return {name: float(n / total) for name, n in zip(EXPERT_IDS, counts, strict=True) if n}


def _recent(rows: pd.DataFrame, market: str) -> pd.DataFrame:
    own = rows[rows["market"] == market]
    live = own[own["is_live"]]
    return live if len(live) >= _ENOUGH else own


def _places(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Count the places of each expert by session, (S, E)."""
    days, row = np.unique(rows["session"].to_numpy(np.int64), return_inverse=True)
    counts = np.zeros((days.size, len(EXPERT_IDS)))
    asked = rows["expert_ids"].astype(str).str.split(",", expand=True)
    for place in asked.columns:
        codes = pd.Categorical(asked[place], categories=EXPERT_IDS).codes
        np.add.at(counts, (row[codes >= 0], codes[codes >= 0]), 1.0)
    return counts
