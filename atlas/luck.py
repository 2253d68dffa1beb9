"""What a model finds where there is nothing to find, and where the answer lies open.

A market's own moves, shuffled in time and given random signs, are a walk that no honest model
calls better than a coin: any skill there is a leak, wherever it hides. To show that a leak would be
seen, the labels are moved back into the window: then the answer lies open, and must be found.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from atlas.audit import Finding, finding
from atlas.baselines import LightGBM, LightGBMSettings
from atlas.evaluation import session_interval
from atlas.metrics import hits
from atlas.sampling import spread_evenly
from atlas.windows import MarketData, Panel, log_positive, moves

__all__ = ["CONFIDENCE", "check_shifted", "check_shuffled", "shuffled_values"]

Floats = NDArray[np.float64]
CONFIDENCE = 0.999  # a check of many markets, every night, must not be red by chance
_SEEN = 0.7  # accuracy that an open answer must reach
_TESTED = 4_000  # windows
_SMALL = LightGBMSettings(
    rows=4_000, validation_rows=2_000, rounds=40, learning_rate=0.15, leaves=15, min_leaf=50
)


def shuffled_values(panel: Panel, *, seed: int = 0) -> Floats:
    """Return the panel's bars or surfaces as a walk without any law, in the panel's shape.

    Each symbol keeps its moves, in another order and each up or down by a fair coin. Opens are the
    close before, wicks and volume go with their move; surfaces move in logs, all quotes together.
    """
    rng, values = np.random.default_rng(seed), panel.values.copy()
    for start, stop in zip(panel.offsets[:-1], panel.offsets[1:], strict=True):
        if panel.modality == "surface":
            values[start:stop] = _walk_of_surfaces(values[start:stop], rng)
        elif stop > start:
            values[:, start:stop] = _walk_of_bars(values[:, start:stop], rng)
    return values


def check_shuffled(walk: MarketData) -> Finding:
    """Fit boosted trees on the shuffled market and see whether they beat a coin on its test rows.

    Args:
        walk: `shuffled_values` through the whole path: fingerprints, labels and cut made anew.
    """
    return _judged(walk, "time shuffled")


def check_shifted(own: MarketData) -> Finding:
    """Label each bar with the move it ends, which the window shows, and see it found."""
    ask = own.labels.question
    past = moves(own.panel, kind=ask.kind, measure=ask.measure, horizon=ask.horizon)
    direction = np.where(np.isnan(past) | (past == 0), np.nan, past > 0).astype(np.float32)
    known = np.isfinite(direction)
    rows = {part: getattr(own.split, part) for part in ("train", "validation", "test")}
    shifted = replace(
        own,
        labels=replace(own.labels, direction=direction),
        split=replace(own.split, **{part: ends[known[ends]] for part, ends in rows.items()}),
    )
    found = _judged(shifted, "label shifted")
    if found.verdict == "unknown":
        return found
    seen = found.changed == 1
    note = f"{found.note}: an open answer is {'found' if seen else 'not found'}"
    return found._replace(changed=0, verdict="tight" if seen else "blind", note=note)


def _judged(own: MarketData, check: str) -> Finding:
    market, split = own.panel.market, own.split
    ends = spread_evenly(split.test, _TESTED)
    if not ends.size or split.train.size < 2 * _SMALL.min_leaf or not split.validation.size:
        return finding(market, check, 0, 0, note="too few rows to fit on")
    model = LightGBM(_SMALL).fit({market: own})
    y = own.labels.direction[ends].astype(np.float64)
    right = hits(y, model.predict(market, ends))
    interval = session_interval(right, own.panel.session[ends], confidence=CONFIDENCE)
    low, high = (100 * max(0.0, min(1.0, side)) for side in interval[1:])
    note = f"accuracy {100 * interval.value:.1f} in {low:.1f} … {high:.1f}"
    if check == "label shifted":
        return finding(market, check, ends.size, int(interval.value >= _SEEN), note=note)
    beats = not interval.low <= 0.5 <= interval.high
    return finding(market, check, ends.size, int(beats), note=note)


def _walk_of_bars(bars: Floats, rng: np.random.Generator) -> Floats:
    """Return (5, n) bars of a walk with the moves of these."""
    x = log_positive(bars[:4])
    n = x.shape[1]
    steps = np.nan_to_num(np.diff(x[3], prepend=x[3, :1]))
    upper = np.nan_to_num(x[1] - np.maximum(x[0], x[3])).clip(0)
    lower = np.nan_to_num(np.minimum(x[0], x[3]) - x[2]).clip(0)
    order, signs = rng.permutation(n), rng.choice([-1.0, 1.0], n)
    first = x[3][np.isfinite(x[3])]
    close = (first[0] if first.size else 0.0) + np.cumsum(steps[order] * signs)
    opens = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(opens, close) + upper[order]
    low = np.minimum(opens, close) - lower[order]
    return np.stack([*np.exp([opens, high, low, close]), bars[4][order]])


def _walk_of_surfaces(grid: Floats, rng: np.random.Generator) -> Floats:
    """Return (n, 3, 9) surfaces of a walk with the moves of these, no quote missing."""
    x = log_positive(grid)
    if not len(x):
        return grid
    steps = np.nan_to_num(np.diff(x, axis=0, prepend=x[:1]))
    order, signs = rng.permutation(len(x)), rng.choice([-1.0, 1.0], len(x))
    known = np.isfinite(x)
    mean = np.where(known, x, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    start = np.where(known.any(axis=0), mean, np.log(0.2))
    return np.asarray(np.exp(start + np.cumsum(steps[order] * signs[:, None, None], axis=0)))
