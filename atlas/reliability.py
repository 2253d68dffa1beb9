"""Do probabilities mean what they say: the reliability curve, with intervals by session.

Bins hold equally many rows, as in `atlas.metrics.expected_calibration_error`, which is the mean of
the gaps that the curve shows. Intervals resample sessions: rows of one day go up together, and
counted one by one a curve would look surer than it is.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.evaluation import BLOCK, session_interval

__all__ = ["RELIABILITY_COLUMNS", "reliability_curve"]

Floats = NDArray[np.float64]
RELIABILITY_COLUMNS: Final = ("bin", "n", "probability", "share_up", "low", "high")


def reliability_curve(
    y: Floats,
    probability: Floats,
    sessions: NDArray[np.int64],
    *,
    bins: int = 10,
    block: float = BLOCK,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return mean probability and share of ups in bins of equally many rows.

    Args:
        y: 0 or 1, or the known probability, (B,).
        probability: of up, (B,).
        sessions: of the rows, (B,).
        bins: at most as many; equal probabilities stay in the order of the rows.
        block: mean block in sessions.
        resamples: how many.
        confidence: of low and high.
        seed: of the draws.

    Returns:
        A row a bin, lowest probability first: `RELIABILITY_COLUMNS`, shares as fractions. A bin
        that one session fills has an infinite interval. No rows give no bins.
    """
    y, probability = np.asarray(y, np.float64), np.asarray(probability, np.float64)
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    rows = []
    for place, part in enumerate(parts):
        found = session_interval(
            y[part],
            sessions[part],
            block=block,
            resamples=resamples,
            confidence=confidence,
            seed=seed + place,
        )
        rows.append((place, part.size, float(probability[part].mean()), *found))
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))
