"""The simple rivals that a network has to beat, behind one small interface.

- `BaseRate` knows how often a market went up; `ReversalRule` also knows which way it just went.
  One bit, and on real bars the hardest rival to beat.
- `LightGBM` reads the very inputs of the MoE, laid flat, with the market as a category: one model
  for each modality, markets weighing equally, stopped early on validation.
- Whatever has `fit` and `predict` of `Yardstick` can enter the table.

Nothing here looks at a test row before it is asked to predict it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from atlas.errors import DataError
from atlas.inputs import TABLE_MARKET, gather, table
from atlas.windows import MarketData, moves

__all__ = ["BaseRate", "LightGBM", "LightGBMSettings", "ReversalRule", "Yardstick"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Positions = NDArray[np.int64]
_CHUNK = 1_024  # windows gathered at once: their images, unused here, stay small


class Yardstick(Protocol):
    """A classifier of windows, as the table asks for it."""

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Learn from the train rows of every market; validation rows may stop the learning."""

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return the probability of up, (B,), for windows of a market it was fitted with."""


class BaseRate:
    """Say how often the market's train rows went up, each time."""

    def __init__(self) -> None:
        self._up: dict[str, float] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Count, with one up and one down added (Laplace), so that nothing is impossible."""
        for market, own in data.items():
            self._up[market] = _share_up(own.labels.direction[own.split.train])
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return the market's share of ups, (B,)."""
        return np.full(ends.size, self._up[market])


class ReversalRule:
    """Say how often the market went up after a move like the one that just ended.

    The move is what the label asks for, over as many bars, ending at the window's last bar; its
    sign (−1, 0, 1; 0 also where unknown) is all that is read.
    """

    def __init__(self) -> None:
        self._up: dict[str, Floats] = {}
        self._sign: dict[str, NDArray[np.int64]] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Count ups after each sign among the market's train rows (Laplace)."""
        for market, own in data.items():
            ask = own.labels.question
            past = moves(own.panel, kind=ask.kind, measure=ask.measure, horizon=ask.horizon)
            sign = np.nan_to_num(np.sign(past)).astype(np.int64)  # (N,)
            train = own.split.train
            direction = own.labels.direction[train]
            ups = [_share_up(direction[sign[train] == side]) for side in (-1, 0, 1)]
            self._sign[market], self._up[market] = sign, np.asarray(ups)
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return P(up | sign of the last move), (B,)."""
        return self._up[market][self._sign[market][ends] + 1]


class LightGBMSettings(NamedTuple):
    """Budget of the boosted trees; `rows` is the most train rows of a modality, shared evenly."""

    rows: int = 48_000
    validation_rows: int = 16_000
    rounds: int = 300
    patience: int = 30
    learning_rate: float = 0.05
    leaves: int = 31
    min_leaf: int = 100
    feature_fraction: float = 0.3
    threads: int = 1
    seed: int = 1


class LightGBM:
    """Boosted trees on the inputs of the MoE (Ke et al., 2017)."""

    def __init__(self, settings: LightGBMSettings | None = None) -> None:
        self._settings = settings or LightGBMSettings()
        self._boosters: dict[str, lgb.Booster] = {}
        self._data: dict[str, MarketData] = {}
        self._place: dict[str, int] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Train one model for each modality on train rows, stopping on validation rows.

        Raises:
            DataError: a market has no train row or no validation row.
        """
        self._data = dict(data)
        self._place = {market: place for place, market in enumerate(data)}
        for modality in sorted({own.panel.modality for own in data.values()}):
            markets = [name for name, own in data.items() if own.panel.modality == modality]
            self._boosters[modality] = self._booster(markets)
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return the probability of up, (B,)."""
        booster = self._boosters[self._data[market].panel.modality]
        chunks = [ends[i : i + _CHUNK] for i in range(0, ends.size, _CHUNK)]
        threads = self._settings.threads
        found = [booster.predict(self._table(market, part), num_threads=threads) for part in chunks]
        return np.concatenate([np.zeros(0), *found])

    def _booster(self, markets: list[str]) -> lgb.Booster:
        settings = self._settings
        train = self._rows(markets, "train", settings.rows)
        validation = self._rows(markets, "validation", settings.validation_rows)
        callbacks = [lgb.early_stopping(settings.patience, verbose=False)]
        return lgb.train(
            _parameters(settings),
            train,
            settings.rounds,
            valid_sets=[validation.set_reference(train)],
            callbacks=callbacks,
        )

    def _rows(self, markets: list[str], part: str, limit: int) -> lgb.Dataset:
        """Lay at most `limit` rows of a part flat, markets sharing evenly and weighing equally."""
        tables, targets, weights = [], [], []
        share = max(limit // len(markets), 1)
        for market in markets:
            own = self._data[market]
            ends = _evenly(getattr(own.split, part), share)
            if ends.size == 0:
                raise DataError(
                    f"{market}: expected at least one {part} row to fit LightGBM on; got none: "
                    "bring more history or lower the market's cut"
                )
            chunks = [ends[i : i + _CHUNK] for i in range(0, ends.size, _CHUNK)]
            tables += [self._table(market, chunk) for chunk in chunks]
            targets.append(own.labels.direction[ends])
            weights.append(np.full(ends.size, share / ends.size))
        return lgb.Dataset(
            np.concatenate(tables),
            np.concatenate(targets),
            weight=np.concatenate(weights),
            categorical_feature=[TABLE_MARKET],
            free_raw_data=False,
        )

    def _table(self, market: str, ends: Positions) -> Singles:
        own = self._data[market]
        measure = own.labels.question.measure
        place = self._place[market]
        return table(gather(own.panel, ends, market_index=place, measure=measure))


def _parameters(settings: LightGBMSettings) -> dict[str, Any]:
    return {
        "objective": "binary",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_leaf,
        "feature_fraction": settings.feature_fraction,
        "max_bin": 63,
        "num_threads": settings.threads,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _share_up(direction: Singles) -> float:
    return float((direction.sum(dtype=np.float64) + 1) / (direction.size + 2))


def _evenly(ends: Positions, limit: int) -> Positions:
    """Return at most `limit` of the positions, spread evenly from first to last."""
    if ends.size <= limit:
        return ends
    return ends[np.linspace(0, ends.size - 1, limit).astype(np.int64)]
