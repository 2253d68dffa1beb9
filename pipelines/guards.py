"""What else must hold before a challenger takes office, whatever its evidence.

- No expert that lives in the champion has died: one that takes at least .5 % of its modality's
  top-k places there takes as much here.
- Its probabilities mean what they say: the recalibration slope lies in [.8, 1.25], or its interval
  holds 1.
- Its plain mean loss, nothing clipped, is the lower one: bets are clipped, money is not.
- The evidence is fresh: the newest session that was judged is at most `freshness_days` old.
- It answers in time: one symbol takes at most `latency_ms` of a processor.

Each guard returns None, or why it fails. A night's figures are returned beside them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from atlas.config import PromotionConfig
from atlas.evaluation import Interval
from atlas.recalibration import recalibration_slope
from pipelines import pair, shadow
from pipelines.paths import Paths

__all__ = ["ALIVE", "SLOPE", "died", "lag_days", "loads", "slope", "unmet"]

ALIVE = 0.005
SLOPE = (0.8, 1.25)
PLACES = 2  # experts a row is routed to
Loads = dict[str, dict[str, float]]


def loads(answers: pd.DataFrame, modality: Mapping[str, str]) -> Loads:
    """Return each expert's share of the top places, by modality, as a mean over markets.

    Args:
        answers: what a version says, with expert_ids, the row's experts joined by commas.
        modality: of each market.
    """
    said = answers[~answers["abstain"].astype(bool)]
    shares: dict[str, list[dict[str, float]]] = {}
    for market, own in said.groupby("market"):
        names = own["expert_ids"].str.split(",").explode()
        share = names.value_counts(normalize=True)
        shares.setdefault(modality[str(market)], []).append(
            {str(name): float(part) for name, part in share.items()}
        )
    return {
        kind: {
            str(name): float(np.mean([one.get(name, 0.0) for one in found]))
            for name in sorted({name for one in found for name in one})
        }
        for kind, found in shares.items()
    }


def died(champion: Loads, challenger: Loads) -> list[str]:
    """Name the experts alive in the champion that are not in the challenger."""
    return [
        name
        for kind, shares in champion.items()
        for name, share in shares.items()
        if share >= ALIVE > challenger.get(kind, {}).get(name, 0.0)
    ]


def slope(paths: Paths, state: pair.State) -> Interval:
    """Return the challenger's recalibration slope on everything that it was judged on."""
    rows = shadow.read(paths, state["nights"])
    rows = rows[(rows["version"] == state["challenger"]) & rows["y"].notna()]
    rows = rows.drop_duplicates(pair.KEYS)
    return recalibration_slope(
        rows["y"].to_numpy(float),
        rows["probability"].to_numpy(float),
        rows["market"].to_numpy(str),
        rows["session"].to_numpy("int64"),
    )


def lag_days(state: pair.State, night: pd.Timestamp) -> int | None:
    """Return the days from the newest session judged to the night, None before the first."""
    if not state["days"]:
        return None
    newest = pd.Timestamp(state["days"][-1]["day"], tz="UTC")
    return int((night - newest).days)


def unmet(
    state: pair.State, slope: Interval, night: pd.Timestamp, settings: PromotionConfig
) -> list[str]:
    """Say which guards fail, in words; an empty list if none does."""
    reasons = []
    if dead := died(state["loads"]["champion"], state["loads"]["challenger"]):
        reasons.append(f"its expert {', '.join(dead)} has died (below {ALIVE:.1%} of the load)")
    if not (SLOPE[0] <= slope.value <= SLOPE[1] or slope.low <= 1 <= slope.high):
        reasons.append(
            f"its recalibration slope is {slope.value:.2f} [{slope.low:.2f}, {slope.high:.2f}], "
            f"outside [{SLOPE[0]}, {SLOPE[1]}]"
        )
    plain = pair.difference(state)
    if not plain < 0:
        reasons.append(f"its plain mean log-loss is not lower ({plain:+.5f})")
    lag = lag_days(state, night)
    if lag is None or lag > settings.freshness_days:
        reasons.append(
            f"its newest evidence is {lag} days old, more than {settings.freshness_days}"
        )
    spent = state.get("latency_ms", {}).get("challenger")
    if spent is not None and spent > settings.latency_ms:
        reasons.append(
            f"an answer about one symbol takes it {spent:.1f} ms, more than {settings.latency_ms:g}"
        )
    return reasons
