"""The proof of a first champion: its log-loss beats the base rate's, and chance is no excuse.

The log-loss is a mean over markets; the interval of the difference, from resampled sessions, must
exclude 0. Sessions are resampled in blocks as for the night's table, at least twice the label's
horizon. A standing champion is challenged otherwise, by `pipelines.pair`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.config import ATLASConfig, PromotionConfig
from atlas.evaluation import BLOCK, Interval, block_length, pooled, session_draws
from atlas.metrics import log_losses

__all__ = ["Verdict", "block_lengths", "judge"]


class Verdict(NamedTuple):
    """Whether the candidate is better, why, and the figures behind it."""

    better: bool
    reason: str
    figures: dict[str, Any]


def judge(
    rows: pd.DataFrame,
    rival: str,
    settings: PromotionConfig,
    blocks: Mapping[str, float] | None = None,
) -> Verdict:
    """Compare a candidate with its rival on the same rows.

    Args:
        rows: market, session, y (0 or 1), probability (the candidate's) and rival.
        rival: the rival's name, for the reason.
        settings: resamples and confidence of the interval.
        blocks: mean length of the resampled blocks by market, sessions; a week where not given.
    """
    y = rows["y"].to_numpy(float)
    own = log_losses(y, rows["probability"].to_numpy(float))
    other = log_losses(y, rows["rival"].to_numpy(float))
    markets = rows["market"].to_numpy(str)
    losses = pd.DataFrame({"market": markets, "candidate": own, "rival": other})
    interval = _difference(losses, rows["session"].to_numpy("int64"), settings, blocks or {})
    by_market = losses.groupby("market").mean()
    figures = {
        "rival": rival,
        "log_loss_candidate": float(by_market["candidate"].mean()),
        "log_loss_rival": float(by_market["rival"].mean()),
        "difference": interval.value,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "confidence": settings.confidence,
        "rows": len(rows),
        "markets": by_market.round(6).to_dict("index"),
    }
    better = interval.high < 0
    claim = "is lower" if better else "is not proven lower"
    return Verdict(
        better,
        f"log-loss {figures['log_loss_candidate']:.5f} {claim} than that of {rival}, "
        f"{figures['log_loss_rival']:.5f}: difference {interval.value:+.5f}, "
        f"{settings.confidence:.0%} interval [{interval.low:+.5f}, {interval.high:+.5f}]",
        figures,
    )


def _difference(
    losses: pd.DataFrame,
    sessions: NDArray[np.int64],
    settings: PromotionConfig,
    blocks: Mapping[str, float],
) -> Interval:
    """Return the mean over markets of the candidate's loss less the rival's, and its interval."""
    gain = (losses["candidate"] - losses["rival"]).to_numpy(float)
    markets = losses["market"].to_numpy(str)
    draws = [
        session_draws(
            gain[markets == market],
            sessions[markets == market],
            block=blocks.get(str(market), BLOCK),
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=place,
        )
        for place, market in enumerate(np.unique(markets))
    ]
    return pooled(draws).interval(settings.confidence)


def block_lengths(rows: pd.DataFrame, config: ATLASConfig) -> dict[str, float]:
    """Return the block of each market's test rows, as `pipelines.benchmark` counts it."""
    blocks = {}
    for market, own in rows.groupby("market"):
        horizon = config.label(str(market)).horizon
        days = own["session"].nunique() * own["symbol"].nunique()
        blocks[str(market)] = block_length(horizon, len(own) / days * horizon)
    return blocks
