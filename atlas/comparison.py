"""Compare two models of a table, market by market, on the very same rows.

- A model may bring several seeds; losses and right calls are averaged over them, row by row, before
  anything is tested. No seed is picked.
- Per market: Diebold–Mariano on the log-loss, McNemar on the calls, both by sessions and adjusted
  over markets by Holm. The last row is the mean over markets, never over rows.
- Where the true probability is known, `target="p"` scores without label noise.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.errors import ModelError
from atlas.evaluation import BLOCK, POOLED
from atlas.metrics import expected_log_losses, hits
from atlas.significance import (
    LEAST_LAG,
    Difference,
    McNemar,
    diebold_mariano,
    diebold_mariano_pooled,
    holm,
    mcnemar_sessions,
    session_means,
)

__all__ = ["COMPARISON_COLUMNS", "compare", "loss_difference", "over_seeds"]

Floats = NDArray[np.float64]
Target = Literal["y", "p"]
COMPARISON_COLUMNS: Final = (
    "market",
    "n",
    "sessions",
    "lag",
    "loss_difference",
    "loss_low",
    "loss_high",
    "dm",
    "dm_p",
    "dm_p_holm",
    "only_a",
    "only_b",
    "accuracy_difference",
    "mcnemar_p",
    "mcnemar_p_holm",
)
_KEYS: Final = ["market", "symbol", "timestamp"]


def compare(
    a: Sequence[pd.DataFrame],
    b: Sequence[pd.DataFrame],
    *,
    lags: Mapping[str, int] | None = None,
    blocks: Mapping[str, float] | None = None,
    target: Target = "y",
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether model a loses less than model b.

    Args:
        a: the first model's rows, a frame for each seed: market, symbol, timestamp, session
            (days), y (0 or 1), probability of up, and p, the true one, for `target="p"`.
        b: the second's, of any number of seeds, on the same rows.
        lags: HAC lag in sessions by market, `atlas.significance.hac_lag`; 5 where none is given.
        blocks: mean block in sessions by market, `atlas.evaluation.block_length`; 5 likewise.
        target: score against what happened, or against the known probability.
        confidence: of loss_low and loss_high.
        resamples: of McNemar's test.
        seed: of its draws.

    Returns:
        A row a market, in order of appearance, and one named `POOLED`: `COMPARISON_COLUMNS`.
        loss_difference is in nats, a − b, below 0 where a is better; accuracy_difference is a
        fraction, above 0 where a is; only_a and only_b are rows that one model alone called
        rightly. The pooled row has no McNemar test (NaN) and is not among Holm's tests.

    Raises:
        ModelError: the rows differ between models or seeds, or p is asked for and missing.
    """
    lags, blocks = lags or {}, blocks or {}
    rows = _paired(over_seeds(a, target=target), over_seeds(b, target=target))
    series = _series(rows)
    tests, calls = {}, {}
    for place, (market, (_, differences)) in enumerate(series.items()):
        own = rows[rows["market"] == market]
        tests[market] = diebold_mariano(differences, lag=lags.get(market, LEAST_LAG))
        calls[market] = mcnemar_sessions(
            own["hit_a"].to_numpy(),
            own["hit_b"].to_numpy(),
            own["session"].to_numpy(np.int64),
            block=blocks.get(market, BLOCK),
            resamples=resamples,
            seed=seed + place,
        )
    names, pooled = list(series), _pooled(series, lags)
    table = [_row(name, rows, tests[name], calls[name], confidence) for name in names]
    table.append(_row(POOLED, rows, pooled, _mean(list(calls.values())), confidence))
    frame = pd.DataFrame(table, columns=list(COMPARISON_COLUMNS))
    for test in ("dm", "mcnemar"):
        adjusted = holm(frame[f"{test}_p"].to_numpy()[:-1])
        frame[f"{test}_p_holm"] = [*adjusted, np.nan]
    return frame


def loss_difference(
    a: Sequence[pd.DataFrame],
    b: Sequence[pd.DataFrame],
    *,
    lags: Mapping[str, int] | None = None,
    target: Target = "y",
) -> Difference:
    """Return the mean over markets of loss a − loss b, the pooled row of `compare` alone.

    Raises:
        ModelError: as `compare`.
    """
    rows = _paired(over_seeds(a, target=target), over_seeds(b, target=target))
    return _pooled(_series(rows), lags or {})


def over_seeds(frames: Sequence[pd.DataFrame], *, target: Target = "y") -> pd.DataFrame:
    """Return market, symbol, timestamp, session and the row's loss and hit, means over seeds.

    Raises:
        ModelError: there is no frame, seeds have other rows, or p is asked for and missing.
    """
    if not frames:
        raise ModelError("expected predictions of at least one seed; got none: train the model")
    parts = [frame.sort_values(_KEYS, kind="stable", ignore_index=True) for frame in frames]
    first = parts[0]
    for part in parts[1:]:
        _same_rows(first, part, "seeds of one model")
    aims = first[target].to_numpy(np.float64)
    if not np.isfinite(aims).all():
        raise ModelError(
            f"expected {target} of every row to score against; "
            f"{int((~np.isfinite(aims)).sum())} of {aims.size} rows have none: "
            "score those markets against what happened, target 'y'"
        )
    calls = [part["probability"].to_numpy(np.float64) for part in parts]
    return first[[*_KEYS, "session"]].assign(
        loss=np.mean([expected_log_losses(aims, q) for q in calls], axis=0),
        hit=np.mean([hits(aims, q) for q in calls], axis=0),
    )


def _paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    _same_rows(a, b, "both models")
    return a.rename(columns={"loss": "loss_a", "hit": "hit_a"}).assign(
        loss_b=b["loss"], hit_b=b["hit"]
    )


def _series(rows: pd.DataFrame) -> dict[str, tuple[NDArray[np.int64], Floats]]:
    """Return each market's sessions and its mean differences of loss in them."""
    found = {}
    for market in rows["market"].unique():
        own = rows[rows["market"] == market]
        difference = (own["loss_a"] - own["loss_b"]).to_numpy()
        found[str(market)] = session_means(difference, own["session"].to_numpy(np.int64))
    return found


def _pooled(
    series: Mapping[str, tuple[NDArray[np.int64], Floats]], lags: Mapping[str, int]
) -> Difference:
    return diebold_mariano_pooled(
        list(series.values()), [lags.get(market, LEAST_LAG) for market in series]
    )


def _same_rows(a: pd.DataFrame, b: pd.DataFrame, whose: str) -> None:
    same = len(a) == len(b) and bool((a["timestamp"] == b["timestamp"]).all())
    same = same and all((a[key].astype(str) == b[key].astype(str)).all() for key in _KEYS[:2])
    if not same:
        raise ModelError(
            f"expected the same rows of {whose}; got {len(a)} and {len(b)} rows, not the same: "
            "score them on one cut"
        )


def _row(
    market: str, rows: pd.DataFrame, test: Difference, calls: McNemar, confidence: float
) -> tuple[object, ...]:
    n = len(rows) if market == POOLED else int((rows["market"] == market).sum())
    low, high = test.interval(confidence)
    loss = (test.value, low, high, test.statistic, test.p_value, np.nan)
    hit = (calls.only_a, calls.only_b, calls.value, calls.p_value, np.nan)
    return (market, n, test.sessions, test.lag, *loss, *hit)


def _mean(calls: Sequence[McNemar]) -> McNemar:
    return McNemar(
        sum(one.only_a for one in calls),
        sum(one.only_b for one in calls),
        float(np.mean([one.value for one in calls])),
        float("nan"),
    )
