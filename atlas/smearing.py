"""From the log of realised variance that a model says to the log of the variance it expects.

A model that is fitted on log variance says E[log RV], and e to that power lies below E[RV], by
which QLIKE is least (Patton, 2011). The smearing estimate (Duan, 1983) mends it: the mean of e^d
over residuals d = log RV − forecast. Here they are those of validation rows, on which no weight was
fitted, though trees and networks stop by them. Their mean need not be 0, so the log of that number
also brings a model to the level of the validation span, however short; it is the one shift of all
forecasts with the least QLIKE there.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.errors import ModelError

__all__ = ["MIN_ROWS", "smeared", "smearing"]

MIN_ROWS = 30
Floats = NDArray[np.float64]


def smearing(log_rv: Floats, forecast: Floats) -> float:
    """Return the log of the mean of e^(log_rv − forecast).

    Args:
        log_rv: log realised variance (B,).
        forecast: of it (B,). Rows where either is NaN or infinite are left out; fewer than 30
            others give 0.

    >>> round(smearing(np.tile([-1.0, 1.0], 15), np.zeros(30)), 4)  # log cosh 1
    0.4338
    """
    apart = np.asarray(log_rv, np.float64) - np.asarray(forecast, np.float64)
    apart = apart[np.isfinite(apart)]
    return float(np.log(np.mean(np.exp(apart)))) if apart.size >= MIN_ROWS else 0.0


def smeared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with `log_variance_predicted`, smeared per market on its validation rows.

    Args:
        rows: of one model, fitted once: market, split, log_rv (NaN unknown), log_rv_predicted. A
            market with fewer than 30 known validation rows stays as it was said.

    Raises:
        ModelError: there is no validation row at all.
    """
    judged = rows[rows["split"] == "validation"]
    if judged.empty:
        raise ModelError("expected forecasts of validation rows to smear by; got none: score anew")
    shifts = {
        market: smearing(own["log_rv"].to_numpy(), own["log_rv_predicted"].to_numpy())
        for market, own in judged.groupby("market")
    }
    shift = rows["market"].map(shifts).astype(np.float64).fillna(0.0)
    return rows.assign(log_variance_predicted=rows["log_rv_predicted"] + shift)
