"""The rule: which expert a fingerprint names, without any training.

- `rule_experts` is version 0 of the gate, pure NumPy over fingerprints: modality, the seed's two
  rules, the catalogue's ranges on their timeframes, then the modality's default. It also
  warm-starts the MLP gate.
- `hysteresis` steadies its verdicts with a memory of nine bars and no state, so that a live tail
  of bars is routed as the whole history was.
"""

from collections.abc import Sequence
from functools import reduce
from operator import and_

import numpy as np
import numpy.typing as npt

from atlas.bars import Timeframe
from atlas.catalogue import CATALOGUE, DEFAULTS, ExpertSpec, Range
from atlas.data_fingerprint import FINGERPRINT_COLUMNS

__all__ = ["MEMORY", "SEED_RULES", "hysteresis", "rule_experts", "steadied"]

MEMORY = 9  # verdicts that hysteresis looks back on, the present one included
_DAY = 86_400

Verdicts = npt.NDArray[np.int8]

# The seed's v0: expert, range, and the shortest bar in seconds that the rule is meant for. EURUSD,
# a prime use of futures_trend, moves less than .5 % a day: the second rule spares intraday bars.
SEED_RULES = (
    ("crypto_hft", Range("vol30", low=0.06, open_low=True), 0),
    ("low_vol_etf", Range("vol30", high=0.005), _DAY),
)


def rule_experts(
    fingerprint: npt.NDArray[np.floating],
    modality: str,
    timeframe: Timeframe,
    *,
    catalogue: Sequence[ExpertSpec] = CATALOGUE,
    calibrated: bool = True,
) -> Verdicts:
    """Name one expert for every fingerprint, bar by bar, before hysteresis.

    Args:
        fingerprint: (N, F) in the order of `FINGERPRINT_COLUMNS`; NaN is outside every range.
        modality: chart or surface; only experts of it are named.
        timeframe: of the bars; an expert's ranges count only on its own timeframes.
        catalogue: the rows; the result indexes them.
        calibrated: whether the ranges on null probabilities count; without them a random walk
            passes for a trend.

    Returns:
        (N,) index into `catalogue`.

    Example:
        A daily chart with vol30 = .07 goes to crypto_hft; with vol30 = .015 and atr = .02 to
        equity_daily.
    """
    ids = [spec.id for spec in catalogue]
    columns = dict(zip(FINGERPRINT_COLUMNS, np.asarray(fingerprint).T, strict=True))
    verdicts = np.full(len(fingerprint), ids.index(DEFAULTS[modality]), np.int8)
    # Lowest precedence first: what is written later stands.
    for index in reversed(range(len(catalogue))):
        spec = catalogue[index]
        if spec.modality == modality and spec.is_home(timeframe.seconds):
            ranges = [r for r in spec.ranges if calibrated or not r.column.endswith("_null")]
            held = (r.holds(columns[r.column]) for r in ranges)
            verdicts[reduce(and_, held, np.ones(len(verdicts), np.bool_))] = index
    for expert, limit, shortest in reversed(SEED_RULES):
        if modality == "chart" and timeframe.seconds >= shortest and expert in ids:
            verdicts[limit.holds(columns[limit.column])] = ids.index(expert)
    return verdicts


def hysteresis(verdicts: Verdicts) -> Verdicts:
    """Replace each verdict by the most frequent of the last nine, ties going to the most recent.

    Args:
        verdicts: (N,) of one symbol in time order, each at least 0. The first eight look back on
            what there is.

    Returns:
        (N,) int8. Row t depends on verdicts t−8 … t alone.
    """
    if not len(verdicts):
        return np.zeros(0, np.int8)
    padded = np.concatenate([np.full(MEMORY - 1, -1, np.int8), verdicts])
    return steadied(np.lib.stride_tricks.sliding_window_view(padded, MEMORY))


def steadied(recent: Verdicts) -> Verdicts:
    """Return the most frequent verdict of each row, ties going to the most recent.

    Args:
        recent: (B, 9) the last verdicts of each of B bars, the newest last, at least 0; −1 where a
            symbol's bars do not reach back so far.

    Returns:
        (B,) int8.
    """
    best = np.full(len(recent), -1, np.int16)
    steady = np.array(recent[:, -1], np.int8)
    for expert in np.flatnonzero(np.bincount(recent[recent >= 0])):
        is_his = recent == expert
        # Count first, then how recently: both fit in one number to compare.
        last = MEMORY - np.argmax(is_his[:, ::-1], axis=1)
        score = np.where(is_his.any(axis=1), is_his.sum(axis=1) * (MEMORY + 1) + last, -1)
        better = score > best
        best[better], steady[better] = score[better], expert
    return steady
