"""Score networks with pre-trained kernels against those without, on the very same windows.

A difference is the pre-trained arm less the other, so below 0 it loses less (log-loss, QLIKE) and
above 0 it gains more. Rows of a path (simulated) or a session (real) share their luck: those are
what intervals and tests count. Losses are averaged over seeds first; no seed is picked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from atlas.comparison import compare
from atlas.evaluation import POOLED
from atlas.metrics import log_losses, qlike_losses
from atlas.shares import Share, Windows, model_shares, paired_gain
from atlas.significance import (
    LEAST_LAG,
    Difference,
    diebold_mariano,
    diebold_mariano_pooled,
    holm,
    session_means,
)

__all__ = ["real", "simulated"]

_NORMAL = 1.959964  # two-sided 95 %
Row = dict[str, Any]


def simulated(pretrained: pd.DataFrame, cold: pd.DataFrame) -> Row:
    """Return by market lift and gain of both arms, of Bayes, and the paired differences.

    Args:
        pretrained: the arm's rows of all seeds, `session` naming the path.
        cold: the other's, on the same windows.
    """
    markets = list(dict.fromkeys(cold["market"]))
    arms = {"pretrained": _windows(pretrained), "cold": _windows(cold)}
    lags, blocks = dict.fromkeys(markets, 0), dict.fromkeys(markets, 1.0)
    losses = compare(
        [pretrained], [cold], lags=lags, blocks=blocks, target="p", resamples=200
    ).set_index("market")
    rows = []
    for market in (*markets, POOLED):
        chosen = {
            arm: own if market == POOLED else {market: own[market]} for arm, own in arms.items()
        }
        row: Row = {"market": market}
        for arm, own in chosen.items():
            shares = model_shares(own)
            row[arm] = {"lift": list(shares.bayes_lift), "gain": list(shares.bayes_gain)}
        ahead, _ = paired_gain(chosen["pretrained"], chosen["cold"])
        said = losses.loc[market]
        row |= {"gain_difference": _interval(ahead), "p": float(said["dm_p"])}
        rows.append(row | {"loss_difference": _of(said)})
    for row, adjusted in zip(rows, _holm([row["p"] for row in rows[:-1]]), strict=True):
        row["holm"] = adjusted
    return {"rows": rows}


def real(pretrained: Sequence[pd.DataFrame], cold: Sequence[pd.DataFrame]) -> Row:
    """Return by market log-loss and QLIKE of both arms, and the paired differences.

    Args:
        pretrained: the arm's rows, a frame a seed.
        cold: the other's, on the same windows.
    """
    table = compare(pretrained, cold, resamples=200).set_index("market")
    markets = [market for market in table.index if market != POOLED]
    found = {arm: _losses(own) for arm, own in (("pretrained", pretrained), ("cold", cold))}
    tests = _qlike_tests(found["pretrained"], found["cold"], markets)
    rows: list[Row] = []
    for market in table.index:
        row: Row = {"market": market, "n": int(table.loc[market, "n"])}
        for arm, own in found.items():
            means = own.groupby("market")[["log_loss", "qlike"]].mean()
            mean = means.mean() if market == POOLED else means.loc[market]
            row[arm] = {name: float(mean[name]) for name in ("log_loss", "qlike")}
        row |= {"loss_difference": _of(table.loc[market]), "p": float(table.loc[market, "dm_p"])}
        low, high = tests[market].interval()
        row["qlike_difference"] = [tests[market].value, low, high]
        row["qlike_p"] = tests[market].p_value
        rows.append(row)
    for name, p in (("holm", "p"), ("qlike_holm", "qlike_p")):
        for row, adjusted in zip(rows, _holm([row[p] for row in rows[:-1]]), strict=True):
            row[name] = adjusted
    return {"rows": rows}


def _windows(rows: pd.DataFrame) -> dict[str, Windows]:
    parts = rows[np.isfinite(rows["p"])].groupby("market", sort=False)
    return {
        str(market): Windows(
            own["p"].to_numpy(np.float64),
            own["probability"].to_numpy(np.float64),
            own["p"].to_numpy(np.float64),
            own["session"].to_numpy(np.int64),
        )
        for market, own in parts
    }


def _losses(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return log-loss and QLIKE of every row, means over seeds; QLIKE is NaN where unknown."""
    first = frames[0]
    direction = [
        log_losses(one["y"].to_numpy(np.float64), one["probability"].to_numpy(np.float64))
        for one in frames
    ]
    variance = [
        qlike_losses(
            one["log_rv"].to_numpy(np.float64), one["log_variance_predicted"].to_numpy(np.float64)
        )
        for one in frames
    ]
    kept = first[["market", "session"]]
    return kept.assign(log_loss=np.mean(direction, axis=0), qlike=np.mean(variance, axis=0))


def _qlike_tests(a: pd.DataFrame, b: pd.DataFrame, markets: Sequence[str]) -> dict[str, Difference]:
    tests, series = {}, []
    for market in markets:
        own = a["market"].to_numpy() == market
        difference = (a["qlike"] - b["qlike"]).to_numpy()[own]
        known = np.isfinite(difference)
        days, means = session_means(difference[known], a["session"].to_numpy(np.int64)[own][known])
        tests[market] = diebold_mariano(means, lag=LEAST_LAG)
        series.append((days, means))
    tests[POOLED] = diebold_mariano_pooled(series, [LEAST_LAG] * len(markets))
    return tests


def _of(row: "pd.Series[Any]") -> list[float]:
    return [float(row[name]) for name in ("loss_difference", "loss_low", "loss_high")]


def _interval(share: Share) -> list[float]:
    half = _NORMAL * share.error
    return [share.value, share.value - half, share.value + half]


def _holm(p: Sequence[float]) -> list[float | None]:
    """Return the markets' p-values adjusted, and none for their mean."""
    return [*(float(x) for x in holm(np.asarray(p))), None]
