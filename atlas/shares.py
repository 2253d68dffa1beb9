"""How much of what can be known a model found: shares of the ceilings, with standard errors.

- A share is taken per market, then averaged over markets: lift(model) / lift(ceiling), and the gain
  whose denominator is the ceiling's (SIMULATION, "Scores").
- Paths are the unit of chance: a path has one law and one level. Standard errors come from
  resampling whole paths; paths of several seeds are simply more paths.
- No honest model passes the informed ceiling: a share above 1 + 3 SE is a bug, and is raised.
- `too_easy` says what of the simulation would flatter every gate.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.errors import DataError, ModelError
from atlas.metrics import calls, expected_log_losses

__all__ = [
    "LIMITS",
    "NAMED",
    "Share",
    "Shares",
    "Windows",
    "check_shares",
    "model_shares",
    "paired_gain",
    "too_easy",
]

NAMED = "law named by fingerprint and timeframe"
LIMITS = {  # the most that is allowed if the simulation is to tell gates apart (SIMULATION)
    NAMED: 0.85,
    "moe_random": 0.80,
    "moe_uniform": 0.80,
    "cnn_fingerprint": 0.92,
}
RESAMPLES = 1_000
Floats = NDArray[np.float64]


class Windows(NamedTuple):
    """Test windows of one market, all (B,): what is true, what was said, and whose path.

    Attributes:
        p: true probability of up, which is the Bayes ceiling.
        q: the model's.
        ceiling: the informed one's (`atlas.ceilings.informed`).
        path: a number that differs between paths, over all seeds.
    """

    p: Floats
    q: Floats
    ceiling: Floats
    path: NDArray[np.int64]


class Share(NamedTuple):
    """A share and its standard error over paths."""

    value: float
    error: float


class Shares(NamedTuple):
    """Means over markets of a model's shares."""

    bayes_lift: Share
    informed_lift: Share
    bayes_gain: Share
    informed_gain: Share


def model_shares(
    markets: Mapping[str, Windows], *, resamples: int = RESAMPLES, seed: int = 0
) -> Shares:
    """Score a model against both ceilings.

    Args:
        markets: its test windows, all seeds together; at least two paths a market.
        resamples: of the paths; the same seed resamples the same paths for every model.

    Returns:
        Four shares; 1 is the ceiling, 0 is chance.

    Raises:
        DataError: naming a market without windows or with a single path.
    """
    values, drawn = [], []
    for place, (market, rows) in enumerate(markets.items()):
        sums = _path_sums(market, rows)  # (paths, 6)
        counts = _counts(len(sums), resamples, (seed, place))
        values.append(_ratios(sums.sum(axis=0)[None])[0])
        drawn.append(_ratios(counts @ sums))
    mean = np.mean(values, axis=0)
    error = np.mean(drawn, axis=0).std(axis=0, ddof=1)
    found = [Share(float(v), float(e)) for v, e in zip(mean, error, strict=True)]
    return Shares(*found)


def paired_gain(
    markets: Mapping[str, Windows],
    rivals: Mapping[str, Windows],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Share, float]:
    """Return by how much a model's informed gain exceeds a rival's, and a one-sided p-value.

    Both are resampled by the same paths; p is the share of resamples in which the model is not
    ahead, never below 1 / (resamples + 1).

    Raises:
        DataError: the two were not scored on the same windows.
    """
    value, drawn = 0.0, np.zeros(resamples)
    for place, (market, rows) in enumerate(markets.items()):
        other = rivals[market]
        if not (np.array_equal(rows.p, other.p) and np.array_equal(rows.path, other.path)):
            raise DataError(f"{market}: expected model and rival on the same windows; got others")
        pair = [_path_sums(market, one) for one in (rows, other)]
        counts = _counts(len(pair[0]), resamples, (seed, place))
        ahead = [_ratios(counts @ sums)[:, 3] for sums in pair]
        whole = [_ratios(sums.sum(axis=0)[None])[0, 3] for sums in pair]
        value += float(whole[0] - whole[1]) / len(markets)
        drawn += (ahead[0] - ahead[1]) / len(markets)
    p_value = (1 + int((drawn <= 0).sum())) / (resamples + 1)
    return Share(value, float(drawn.std(ddof=1))), p_value


def check_shares(model: str, shares: Shares, *, is_told: bool = False) -> None:
    """Refuse a share above 1 + 3 SE: the score, the ceiling or the model is wrong.

    Args:
        is_told: whether the model is told the law (the oracle gate); it may pass the informed
            ceiling, and only Bayes bounds it.

    Raises:
        ModelError: naming model and share.
    """
    for name, share in zip(Shares._fields, shares, strict=True):
        if is_told and name.startswith("informed"):
            continue
        if share.value > 1 + 3 * share.error + 1e-9:
            raise ModelError(
                f"{model}: expected {name} of at most 1 + 3 standard errors, got "
                f"{share.value:.4f} ± {share.error:.4f}: look for a leak of the truth, or for a "
                "posterior fitted on too little"
            )


def too_easy(named: float, informed_lift: Mapping[str, float]) -> Sequence[str]:
    """Say what makes the simulation too easy to count, one line each; nothing if it is not.

    Args:
        named: `atlas.ceilings.law_named_by_fingerprint`.
        informed_lift: by model; of these `LIMITS` are looked at, those that were scored.
    """
    scores = {NAMED: named, **informed_lift}
    return [
        f"{name}: {scores[name]:.3f} is above {limit:.2f}: the simulation is too easy; mend it by "
        "overlap of the laws' levels, not by the score"
        for name, limit in LIMITS.items()
        if name in scores and scores[name] > limit
    ]


def _path_sums(market: str, rows: Windows) -> Floats:
    """Sum by path what the shares are ratios of, (paths, 6)."""
    paths, place = np.unique(rows.path, return_inverse=True)
    if len(paths) < 2:
        raise DataError(
            f"{market}: expected windows of at least two paths to tell chance from skill; got "
            f"{len(paths)}: draw more paths"
        )
    edge = 2 * rows.p - 1
    coin = np.log(2.0)
    columns = (
        calls(rows.q) * edge,
        np.abs(edge),
        calls(rows.ceiling) * edge,
        coin - expected_log_losses(rows.p, rows.q),
        coin - expected_log_losses(rows.p, rows.p),
        coin - expected_log_losses(rows.p, rows.ceiling),
    )
    return np.column_stack([np.bincount(place, weights=column) for column in columns])


def _ratios(sums: Floats) -> Floats:
    """Return the four shares of summed columns (R, 6), (R, 4)."""
    lift, bayes, informed, gain, bayes_gain, informed_gain = sums.T
    return np.column_stack([lift / bayes, lift / informed, gain / bayes_gain, gain / informed_gain])


def _counts(paths: int, resamples: int, seed: tuple[int, int]) -> Floats:
    """Count how often each path is drawn, (R, paths)."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(paths, np.full(paths, 1 / paths), size=resamples)
    return drawn.astype(np.float64)
