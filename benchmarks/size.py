"""How often the paired tests reject a true null: the size that they claim, measured.

`python -m benchmarks size` draws pairs of equally good models whose rows share their session's
shock, and counts p < .05. A row gives the share, and 5 % ± 3 standard errors of the count as p10
and p90: a test keeps its size where the share lies between. With `persistence` neighbouring
sessions are correlated as well; `rows` takes rows for independent, as a careless test would.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from atlas.significance import (
    diebold_mariano,
    diebold_mariano_pooled,
    mcnemar_sessions,
    session_means,
)
from benchmarks.harness import Ratio, Report, Timing

__all__ = ["run"]

LEVEL = 0.05
PAIRS = 2_000
ROWS = 8  # a session
CASES = ((10, 0.0), (20, 0.0), (60, 0.0), (250, 0.0), (60, 0.3), (250, 0.3))
Array = npt.NDArray[np.float64]
Days = npt.NDArray[np.int64]


def run(seed: int) -> Report:
    """Measure every test on every case."""
    band = 3 * float(np.sqrt(LEVEL * (1 - LEVEL) / PAIRS))
    results, kept = [], []
    for name, test in TESTS.items():
        for sessions, persistence in CASES:
            share = _share(test, sessions, persistence, seed)
            title = f"{name}, {sessions} sessions, persistence {persistence:g}"
            results.append(Timing(title, "share", share, LEVEL - band, LEVEL + band, PAIRS))
            if persistence == 0 and name != "rows":
                kept.append(share <= LEVEL + band)
    return Report(results, [Ratio("share_of_tests_not_above_their_size", float(np.mean(kept)), 1)])


def _share(
    test: Callable[[Array, Days, int], float], sessions: int, persistence: float, seed: int
) -> float:
    rng = np.random.default_rng([seed, sessions, int(100 * persistence)])
    below = 0
    for pair in range(PAIRS):
        shocks = rng.standard_normal((3, sessions + 40))
        for day in range(1, shocks.shape[1]):
            shocks[:, day] += persistence * shocks[:, day - 1]
        values = np.repeat(shocks[:, 40:], ROWS, axis=1)
        values += rng.standard_normal(values.shape)  # (3, S·R): three markets on the same days
        below += test(values, np.repeat(np.arange(sessions), ROWS), pair) < LEVEL
    return below / PAIRS


def _dm(values: Array, days: Days, pair: int) -> float:
    del pair
    return diebold_mariano(session_means(values[0], days)[1], lag=5).p_value


def _pooled(values: Array, days: Days, pair: int) -> float:
    del pair
    shared = 0.7 * values[2]
    markets = [session_means(each + shared, days) for each in values[:2]]
    return diebold_mariano_pooled(markets, [5, 5]).p_value


def _mcnemar(values: Array, days: Days, pair: int) -> float:
    right = (values[0] > 0.5).astype(np.float64), (values[0] < -0.5).astype(np.float64)
    return mcnemar_sessions(*right, days, resamples=300, seed=pair).p_value


def _rows(values: Array, days: Days, pair: int) -> float:
    del days, pair
    return diebold_mariano(values[0][:400], lag=0).p_value


TESTS: dict[str, Callable[[Array, Days, int], float]] = {
    "dm": _dm,
    "pooled": _pooled,
    "mcnemar": _mcnemar,
    "rows": _rows,
}
