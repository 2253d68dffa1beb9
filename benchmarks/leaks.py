"""How far the usual mistakes lift a model where there is nothing to find.

`python -m benchmarks leaks` draws random walks with fat tails, whose next move nobody can know, and
lets the same boosted trees learn from them, once as they should and once for each mistake. What is
above a half is the mistake's own work. `docs/why-not-65.md` quotes the results.

- A walk is `SYMBOLS` symbols of `BARS` bars; every figure is the median over walks.
- Inputs: the last 20 moves, in standard deviations of those moves. Trained on the first 70 % of the
  bars, without rows whose label reaches over the cut, and tested on the rest, unless the mistake
  says else.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.harness import Ratio, Report, timing

__all__ = ["run"]

WALKS = 9
SYMBOLS, BARS = 4, 1_500
LOOK = 20  # moves that are inputs
HORIZON = 20  # of the labels that overlap
TRAINED = 0.7
LUCKY_SEEDS, LUCKY_ROWS = 200, 500
DRIFT = 0.2  # of a move's standard deviation
SPREAD = 1.0  # of a move's standard deviation

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Rows(NamedTuple):
    """Bars that have inputs and a label, all symbols, in order of time within a symbol."""

    inputs: Floats  # (N, LOOK)
    up: Flags  # (N,)
    place: NDArray[np.int64]  # of the bar in its walk, (N,)
    level: Floats  # its log price, (N,)


def run(seed: int) -> Report:
    """Score every mistake on every walk."""
    found: dict[str, list[float]] = {name: [] for name in MISTAKES}
    for walk in range(WALKS):
        for name, mistake in MISTAKES.items():
            found[name].append(100 * mistake(np.random.default_rng((seed, walk))))
    results = [timing(name, "% right", values) for name, values in found.items()]
    return Report(results, [Ratio(row.name, row.median, None) for row in results])


def _walk(random: np.random.Generator, drift: float = 0.0) -> Floats:
    """Return log prices (S, T): Student-t moves, four degrees of freedom, of one per cent."""
    moves = 0.01 * (random.standard_t(4, (SYMBOLS, BARS)) / np.sqrt(2) + drift)
    return np.cumsum(moves, axis=1)


def _rows(log_price: Floats, horizon: int = 1) -> Rows:
    moves = np.diff(log_price, axis=1)
    last = sliding_window_view(moves, LOOK, axis=1)  # (S, T − LOOK, LOOK): ends at bar LOOK + i
    last = last[:, : log_price.shape[1] - LOOK - horizon]
    place = np.arange(last.shape[1]) + LOOK
    up = log_price[:, place + horizon] > log_price[:, place]
    inputs = last / np.sqrt((last**2).mean(axis=2, keepdims=True))
    return Rows(
        inputs.reshape(-1, LOOK),
        up.ravel(),
        np.tile(place, len(log_price)),
        log_price[:, place].ravel(),
    )


def _right(inputs: Floats, up: Flags, train: Flags, test: Flags) -> float:
    """Return the share of test rows that trees trained on the others call right."""
    trees = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.1, random_state=0)
    called = trees.fit(inputs[train], up[train]).predict(inputs[test])
    return float((called == up[test]).mean())


def _apart(rows: Rows, horizon: int) -> tuple[Flags, Flags]:
    """Return training and test rows, none of whose labels reach over the cut."""
    cut = int(TRAINED * BARS)
    return rows.place + horizon < cut, rows.place >= cut


def _honest(random: np.random.Generator) -> float:
    rows = _rows(_walk(random))
    return _right(rows.inputs, rows.up, *_apart(rows, 1))


def _honest_long(random: np.random.Generator) -> float:
    rows = _rows(_walk(random), HORIZON)
    inputs = np.column_stack([rows.inputs, rows.level])
    return _right(inputs, rows.up, *_apart(rows, HORIZON))


def _shuffled(random: np.random.Generator) -> float:
    rows = _rows(_walk(random), HORIZON)
    inputs = np.column_stack([rows.inputs, rows.level, rows.place])
    train = random.random(rows.up.size) < TRAINED
    return _right(inputs, rows.up, train, ~train)


def _one_ahead(random: np.random.Generator) -> float:
    log_price = _walk(random)
    rows = _rows(log_price)
    window = np.ones(5) / 5
    centered = np.array([np.convolve(own, window, mode="same") for own in log_price])
    apart = (centered - log_price)[:, LOOK:-1].ravel()
    return _right(np.column_stack([rows.inputs, apart]), rows.up, *_apart(rows, 1))


def _scaled_on_all(random: np.random.Generator) -> float:
    log_price = _walk(random)
    rows = _rows(log_price, HORIZON)
    low, high = log_price.min(axis=1, keepdims=True), log_price.max(axis=1, keepdims=True)
    level = ((log_price - low) / (high - low))[:, LOOK:-HORIZON].ravel()
    return _right(np.column_stack([rows.inputs, level]), rows.up, *_apart(rows, HORIZON))


def _luckiest(random: np.random.Generator) -> float:
    rows = _rows(_walk(random))
    _, test = _apart(rows, 1)
    up = rows.up[test][:LUCKY_ROWS]
    called = random.random((LUCKY_SEEDS, up.size)) > 0.5
    return float((called == up).mean(axis=1).max())


def _drifting(random: np.random.Generator) -> float:
    rows = _rows(_walk(random, DRIFT))
    return _right(rows.inputs, rows.up, *_apart(rows, 1))


def _bouncing(random: np.random.Generator) -> float:
    log_price = _walk(random)
    side = random.choice([-0.5, 0.5], log_price.shape)  # bought or sold last
    rows = _rows(log_price + 0.01 * SPREAD * side)
    return _right(rows.inputs, rows.up, *_apart(rows, 1))


MISTAKES: dict[str, Callable[[np.random.Generator], float]] = {
    "none: one bar": _honest,
    f"none: {HORIZON} bars, the price level an input": _honest_long,
    f"rows shuffled before they are split, labels of {HORIZON} bars": _shuffled,
    "an average that reaches two bars ahead": _one_ahead,
    f"prices scaled by the least and most of all time, labels of {HORIZON} bars": _scaled_on_all,
    f"the best of {LUCKY_SEEDS} seeds on {LUCKY_ROWS} test rows": _luckiest,
    "a drift, told as skill": _drifting,
    "closes at the bid or the ask, the spread not paid": _bouncing,
}
