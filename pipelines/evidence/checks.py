"""Hold the simulated figures against their targets, and the simulation against being too easy.

Shares are of the ceilings, errors over paths. A share above 1 + 3 standard errors is a bug and is
raised, not shown.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from atlas.shares import LIMITS, NAMED, Share, Windows, check_shares, model_shares, paired_gain

__all__ = ["CHECK_COLUMNS", "checks"]

CHECK_COLUMNS = ("figure", "value", "error", "target", "met")
_LEAST = (  # model, share, target: at least that much
    ("moe_mlp", "informed_lift", 0.97),
    ("moe_mlp", "informed_gain", 0.90),
    ("moe_rule", "informed_lift", 0.88),
    ("moe_oracle", "bayes_lift", 0.95),
)
# the simulation counts only if these stay below
_MOST = tuple((name, "informed_lift", most) for name, most in LIMITS.items() if name != NAMED)
_RIVALS = ("cnn_fingerprint", "lightgbm")
_AHEAD, _P = 0.03, 0.01


def checks(test: Mapping[str, Sequence[pd.DataFrame]], named: Sequence[float] = ()) -> pd.DataFrame:
    """Return a row for each target that can be judged.

    Args:
        test: by model, one frame of all seeds; a model called `informed` is the ceiling.
        named: by seed, how often trees name the law from fingerprint and timeframe alone.

    Raises:
        ModelError: a model has more than the ceiling allows.
    """
    if "informed" not in test:
        return pd.DataFrame(columns=list(CHECK_COLUMNS))
    windows = {model: _windows(frames[0], test["informed"][0]) for model, frames in test.items()}
    shares = {model: model_shares(own) for model, own in windows.items()}
    for model, own in shares.items():
        if model != "bayes":
            check_shares(model, own, is_told=model == "moe_oracle")
    rows = []
    for limits, at_least in ((_LEAST, True), (_MOST, False)):
        for model, name, target in limits:
            if model in shares:
                share: Share = getattr(shares[model], name)
                met = share.value >= target if at_least else share.value <= target
                sign = "≥" if at_least else "≤"
                rows.append((f"{name} {model}", *share, f"{sign} {target:.2f}", met))
    if len(named):
        most, value = LIMITS[NAMED], float(np.mean(named))
        error = float(np.std(named, ddof=1) / np.sqrt(len(named))) if len(named) > 1 else np.nan
        rows.append((NAMED, value, error, f"≤ {most:.2f}", value <= most))
    rivals = [name for name in _RIVALS if name in shares]
    if "moe_mlp" in shares and rivals:
        best = max(rivals, key=lambda name: shares[name].informed_gain.value)
        ahead, p = paired_gain(windows["moe_mlp"], windows[best])
        met = ahead.value >= _AHEAD and p < _P
        figure, aim = f"informed_gain moe_mlp − {best}, p = {p:.2g}", f"≥ {_AHEAD:.2f}, p < {_P}"
        rows.append((figure, *ahead, aim, met))
    return pd.DataFrame(rows, columns=list(CHECK_COLUMNS))


def _windows(rows: pd.DataFrame, ceiling: pd.DataFrame) -> dict[str, Windows]:
    keys = ["market", "symbol", "timestamp"]
    rows, ceiling = (frame.sort_values(keys, ignore_index=True) for frame in (rows, ceiling))
    found = {}
    for market in rows["market"].unique():
        own = (rows["market"] == market).to_numpy()
        found[str(market)] = Windows(
            p=rows["p"].to_numpy(np.float64)[own],
            q=rows["probability"].to_numpy(np.float64)[own],
            ceiling=ceiling["probability"].to_numpy(np.float64)[own],
            path=rows["session"].to_numpy(np.int64)[own],
        )
    return found
