"""Logistic regression on the inputs of the mixture of experts: the plainest rival that reads them.

One model for each modality, standardized on train rows, an intercept for each market. C is chosen
on validation, by the mean over markets of the log-loss, from a fixed grid.
"""

import warnings
from collections.abc import Mapping
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from atlas.flat import Preparation, Rows, by_modality, flat, flat_rows
from atlas.metrics import log_loss
from atlas.windows import MarketData

__all__ = ["PENALTIES", "Logistic"]

PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1)  # C; the smallest is the strongest ridge
_ITERATIONS = 100  # a looser fit is a stronger ridge: nothing that validation could not judge
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


class Logistic:
    """A `Yardstick` (`atlas.baselines`).

    Args:
        rows: the most train rows of a modality, shared evenly by its markets.
        validation_rows: the same, for the choice of C.
    """

    def __init__(self, *, rows: int = 24_000, validation_rows: int = 12_000) -> None:
        self._rows, self._validation_rows = rows, validation_rows
        self._data: dict[str, MarketData] = {}
        self._fitted: dict[str, tuple[Preparation, LogisticRegression]] = {}
        self.chosen: dict[str, float] = {}  # C by modality

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Fit one regression a modality.

        Raises:
            DataError: a market has no train row or no validation row.
        """
        self._data = dict(data)
        for modality, markets in by_modality(data).items():
            train = flat_rows(data, markets, "train", self._rows)
            validation = flat_rows(data, markets, "validation", self._validation_rows)
            prepare = Preparation(train.x)
            found, c = _best(prepare, train, validation)
            self._fitted[modality], self.chosen[modality] = (prepare, found), c
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return the probability of up, (B,)."""
        own = self._data[market]
        prepare, found = self._fitted[own.panel.modality]
        if not len(ends):
            return np.zeros(0)
        rows = flat(own, ends, list(self._data).index(market))
        return np.asarray(found.predict_proba(prepare(rows))[:, 1], np.float64)


def _best(prepare: Preparation, train: Rows, validation: Rows) -> tuple[LogisticRegression, float]:
    """Fit every C of the grid, strongest ridge first, and keep the best on validation."""
    x, judged = prepare(train.x), prepare(validation.x)
    best, chosen, least = None, 0.0, np.inf
    start = None
    for c in PENALTIES:
        model = LogisticRegression(C=c, max_iter=_ITERATIONS, warm_start=True)
        if start is not None:  # from the solution of the ridge before
            model.classes_, model.coef_, model.intercept_ = start
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, train.direction)
        start = model.classes_, model.coef_.copy(), model.intercept_.copy()
        q = model.predict_proba(judged)[:, 1]
        markets = [validation.market == market for market in np.unique(validation.market)]
        loss = np.mean([log_loss(validation.direction[own], q[own]) for own in markets])
        if loss < least:
            best, chosen, least = model, c, float(loss)
    return best, chosen
