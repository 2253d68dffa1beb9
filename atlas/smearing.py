"""From the log of realised variance that a model expects to the log of the variance it expects.

A model that is fitted on log variance says E[log RV], and e to that power lies below E[RV], which
QLIKE is minimized by (Patton, 2011). Duan's (1983) smearing estimate mends it: the mean of e^d over
residuals d = log RV − forecast that the model was not fitted on, here of its validation rows. Its
log is also the one shift of all forecasts with the least QLIKE there.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["MIN_ROWS", "smeared", "smearing"]

MIN_ROWS = 30
Floats = NDArray[np.float64]


def smearing(log_rv: Floats, forecast: Floats) -> float:
    """Return the log of the mean of e^(log_rv − forecast); rows with a NaN are left out.

    Args:
        log_rv: log realised variance (B,).
        forecast: of it (B,). Fewer than 30 rows where both are known give 0.
    """
    apart = np.asarray(log_rv, np.float64) - np.asarray(forecast, np.float64)
    apart = apart[np.isfinite(apart)]
    return float(np.log(np.mean(np.exp(apart)))) if apart.size >= MIN_ROWS else 0.0


def smeared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with `log_variance_predicted`, smeared per market on its validation rows.

    Args:
        rows: of one model, fitted once: market, split, log_rv (NaN unknown), log_rv_predicted.
    """
    judged = rows[rows["split"] == "validation"]
    shifts = {
        market: smearing(own["log_rv"].to_numpy(), own["log_rv_predicted"].to_numpy())
        for market, own in judged.groupby("market")
    }
    shift = rows["market"].map(shifts).astype(np.float64).fillna(0.0)
    return rows.assign(log_variance_predicted=rows["log_rv_predicted"] + shift)
