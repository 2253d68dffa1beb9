"""The volatility table: how well each model says the coming realised variance.

QLIKE of the variance and R² of its log per market and model, seeds averaged, and a Diebold–Mariano
test of one model's QLIKE against each rival's, session by session, Holm over markets. A row counts
for all models or none. Every model's variance is its log's, smeared alike (`atlas.smearing`);
`qlike_as_said` is that of e to the power of what it says of the log.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.errors import ModelError
from atlas.evaluation import POOLED
from atlas.metrics import qlike, qlike_losses, r2
from atlas.significance import (
    LEAST_LAG,
    Difference,
    diebold_mariano,
    diebold_mariano_pooled,
    holm,
    session_means,
)

__all__ = ["VOLATILITY_COLUMNS", "volatility_table", "volatility_tests"]

Floats = NDArray[np.float64]
VOLATILITY_COLUMNS: Final = ("market", "model", "n", "qlike", "qlike_as_said", "r2")
_KEYS: Final = ["symbol", "timestamp"]


def volatility_table(rows: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Score every model's forecasts.

    Args:
        rows: by model, a frame for each seed with the same rows: market, symbol, timestamp,
            session, log_rv (NaN unknown), log_rv_predicted and log_variance_predicted.

    Returns:
        `VOLATILITY_COLUMNS`; rows named `POOLED` are means over markets.
    """
    table = []
    for market in _markets(rows):
        known = _known(rows, market)
        for model, frames in _of(rows, market).items():
            scores = np.mean([_scores(frame[known]) for frame in frames], axis=0)
            table.append((market, model, int(known.sum()), *map(float, scores)))
    frame = pd.DataFrame(table, columns=list(VOLATILITY_COLUMNS))
    pooled = [
        (POOLED, model, int(own["n"].sum()), *own[list(VOLATILITY_COLUMNS[3:])].mean())
        for model, own in frame.groupby("model", sort=False)
    ]
    return pd.concat([frame, pd.DataFrame(pooled, columns=frame.columns)], ignore_index=True)


def volatility_tests(
    rows: Mapping[str, Sequence[pd.DataFrame]],
    model: str,
    rivals: Sequence[str],
    *,
    lags: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Test whether a model's QLIKE is below its rivals'.

    Args:
        rows: as for `volatility_table`.
        model: whose losses come first: below 0 it is better.
        rivals: those that are not there are passed over.
        lags: HAC lag in sessions by market.

    Returns:
        model, against, market, qlike_difference, dm_p, dm_p_holm; the pooled row has no Holm.

    Raises:
        ModelError: the model has no rows.
    """
    if model not in rows:
        raise ModelError(f"expected forecasts of {model} to test; got {', '.join(rows)}")
    tables = []
    for rival in (name for name in rivals if name in rows):
        found, series, used = [], [], []
        for market in _markets(rows):
            days, differences = _differences(rows, market, model, rival)
            lag = (lags or {}).get(market, LEAST_LAG)
            found.append((market, diebold_mariano(differences, lag=lag)))
            series.append((days, differences))
            used.append(lag)
        adjusted = holm(np.array([test.p_value for _, test in found]))
        found.append((POOLED, diebold_mariano_pooled(series, used)))
        tables.append(_rows(model, rival, found, [*adjusted, np.nan]))
    return pd.concat(tables, ignore_index=True)


def _rows(
    model: str, rival: str, found: Sequence[tuple[str, Difference]], adjusted: Sequence[float]
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": model,
            "against": rival,
            "market": [market for market, _ in found],
            "qlike_difference": [test.value for _, test in found],
            "dm_p": [test.p_value for _, test in found],
            "dm_p_holm": adjusted,
        }
    )


def _differences(
    rows: Mapping[str, Sequence[pd.DataFrame]], market: str, model: str, rival: str
) -> tuple[NDArray[np.int64], Floats]:
    known, own = _known(rows, market), _of(rows, market)
    losses = [
        np.mean([_losses(frame)[known] for frame in own[name]], axis=0) for name in (model, rival)
    ]
    sessions = own[model][0]["session"].to_numpy(np.int64)[known]
    return session_means(losses[0] - losses[1], sessions)


def _scores(rows: pd.DataFrame) -> tuple[float, float, float]:
    actual, said = (rows[name].to_numpy(np.float64) for name in ("log_rv", "log_rv_predicted"))
    return float(_losses(rows).mean()), qlike(actual, said), r2(actual, said)


def _losses(rows: pd.DataFrame) -> Floats:
    return qlike_losses(
        rows["log_rv"].to_numpy(np.float64), rows["log_variance_predicted"].to_numpy(np.float64)
    )


def _markets(rows: Mapping[str, Sequence[pd.DataFrame]]) -> list[str]:
    first = next(iter(rows.values()))[0]
    return [str(market) for market in first["market"].unique()]


def _of(
    rows: Mapping[str, Sequence[pd.DataFrame]], market: str
) -> dict[str, Sequence[pd.DataFrame]]:
    return {
        model: [
            frame[frame["market"] == market].sort_values(_KEYS, kind="stable", ignore_index=True)
            for frame in frames
        ]
        for model, frames in rows.items()
    }


def _known(rows: Mapping[str, Sequence[pd.DataFrame]], market: str) -> NDArray[np.bool_]:
    """Say which rows of a market every model and seed has a forecast and an outcome for."""
    losses = [_losses(frame) for frames in _of(rows, market).values() for frame in frames]
    if len({len(one) for one in losses}) > 1:
        raise ModelError(f"{market}: expected the same rows of every model; score them on one cut")
    return np.asarray(np.all([np.isfinite(one) for one in losses], axis=0))
