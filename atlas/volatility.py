"""What a forecast of realised variance has to beat: persistence, HAR, GARCH and boosted trees.

Each is a `VolatilityYardstick`: fitted on train rows (trees stop on validation), asked for the log
realised variance of windows; `score_volatility` lays the answers out as `predictions.parquet` does.

- Persistence says that the coming bars will vary as the last ones did, the mean variance a bar of
  the last `horizon` bars times as many.
- HAR (Corsi, 2009): three log variances, least squares, per market. HAR-X, the networks' own base,
  has the skip inputs and the fingerprint beside them.
- GARCH(1,1) (Bollerslev, 1986) is estimated by `arch` on the train returns of `SYMBOLS` symbols a
  market, at most `RETURNS` newest each, and pooled by the median: a fit for every symbol would take
  minutes. The level that variance returns to is each symbol's own, the mean of its squared returns
  so far. An intercept, fitted on train rows, turns the variance of returns into the measure that is
  asked for. On surfaces it models the changes of the at-the-money iv, and half its log stands for
  their absolute sum.
- LightGBM gets the inputs of the mixture of experts, its target standardized by market.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from atlas.base import features_of, fit_har, fit_harx, fitted_standardizer, rows_at, training_rows
from atlas.flat import by_modality, flat, flat_rows
from atlas.inputs import TABLE_MARKET, gather
from atlas.residual import Standardizer
from atlas.sampling import spread_evenly
from atlas.surfaces import atm_iv
from atlas.windows import (
    IV_FLOOR,
    VARIANCE_FLOOR,
    MarketData,
    Panel,
    bar_variance,
    log_positive,
)

__all__ = [
    "Garch",
    "Har",
    "HarX",
    "LightGBMVolatility",
    "Persistence",
    "VolatilityYardstick",
    "score_volatility",
]

SYMBOLS, RETURNS = 4, 2_000  # what GARCH is estimated on, of each market
ROWS = 24_000  # train rows of a market that a line is fitted on; of a modality, for trees
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
_CHUNK = 1_024


class VolatilityYardstick(Protocol):
    """A forecast of log realised variance, as the table asks for it."""

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Learn from the train rows of every market; validation rows may stop the learning."""

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return log realised variance (B,) after windows of a market it was fitted with."""


def score_volatility(
    model: VolatilityYardstick,
    data: Mapping[str, MarketData],
    *,
    splits: tuple[str, ...] = ("test",),
) -> pd.DataFrame:
    """Fit a yardstick and predict the rows of some parts.

    Returns:
        market, symbol, timestamp, session, split, log_rv (NaN where unknown) and
        log_rv_predicted, in the order of `data` and of each part's rows.
    """
    model.fit(data)
    parts = []
    for market, own in data.items():
        for split in splits:
            ends, panel = getattr(own.split, split), own.panel
            parts.append(
                pd.DataFrame(
                    {
                        "market": market,
                        "symbol": panel.symbol_of(ends),
                        "timestamp": pd.to_datetime(panel.timestamp[ends], unit="us", utc=True),
                        "session": panel.session[ends],
                        "split": split,
                        "log_rv": own.labels.log_rv[ends].astype(np.float64),
                        "log_rv_predicted": model.predict(market, ends),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


class Persistence:
    """The variance of the last bars goes on.

    Args:
        horizons: bars of each market's realised variance (params.yaml: `volatility_horizon`).
    """

    def __init__(self, horizons: Mapping[str, int]) -> None:
        self._horizons = dict(horizons)
        self._data: dict[str, MarketData] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Keep the markets; there is nothing to learn."""
        self._data = dict(data)
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return the log of the mean variance of the last bars, times how many are asked for."""
        panel, bars = self._data[market].panel, self._horizons[market]
        variance = _by_bar(panel)
        seen = variance[ends[:, None] - np.arange(min(bars, 63))]  # (B, bars), inside the window
        known = np.isfinite(seen)
        total = np.where(known, seen, 0).sum(axis=1)
        whole = bars * total / np.maximum(known.sum(axis=1), 1)
        return np.asarray(np.log(np.maximum(whole, _floor(panel))))


class Har:
    """Least squares on the three past variances of the inputs, per market."""

    def __init__(self) -> None:
        self._data: dict[str, MarketData] = {}
        self._weights: dict[str, Floats] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Fit every market on train rows; fewer than 30 of them give their mean."""
        self._data = dict(data)
        for market, own in data.items():
            ends = spread_evenly(own.split.train, ROWS)
            target = own.labels.log_rv[ends].astype(np.float64)
            self._weights[market] = fit_har(_past(own, ends), target)
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return log realised variance, (B,)."""
        weights = self._weights[market]
        return np.asarray(weights[0] + _past(self._data[market], ends) @ weights[1:])


class HarX:
    """HAR with skip inputs and fingerprint beside it, as `atlas.base` fits it, per market."""

    def __init__(self) -> None:
        self._data: dict[str, MarketData] = {}
        self._standardizers: dict[str, Standardizer] = {}
        self._weights: dict[str, tuple[Floats, Floats]] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Fit every market on the train rows that a network's base is fitted on."""
        self._data, rows = dict(data), training_rows(data)
        for modality, markets in by_modality(data).items():
            found = fitted_standardizer({market: rows[market] for market in markets})
            self._standardizers[modality] = found
            for market in markets:
                own = rows[market]
                self._weights[market] = fit_harx(own.har, features_of(found, own), own.log_rv)
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return log realised variance, (B,)."""
        own, (past, beside) = self._data[market], self._weights[market]
        rows = rows_at(own, ends)
        seen = features_of(self._standardizers[own.panel.modality], rows)
        return np.asarray(past[0] + rows.har @ past[1:] + seen @ beside)


class Garch:
    """GARCH(1,1), its two parameters pooled over a market, its level each symbol's own.

    Args:
        horizons: bars of each market's realised variance.
    """

    def __init__(self, horizons: Mapping[str, int]) -> None:
        self._horizons = dict(horizons)
        self._forecast: dict[str, Floats] = {}
        self.parameters: dict[str, tuple[float, float]] = {}  # α, β by market

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Estimate on train returns, then run the recursion through every bar, causally."""
        for market, own in data.items():
            returns = _returns(own.panel)
            spans = list(zip(own.panel.offsets[:-1], own.panel.offsets[1:], strict=True))
            last = [_last_before(own.split.train, a, b) for a, b in spans]
            learned = [returns[a:t] for (a, _), t in zip(spans, last, strict=True)]
            weights = self.parameters[market] = _pooled(learned)
            log_rv = np.empty(len(returns))
            for a, b in spans:
                ahead = _ahead(returns[a:b], weights, self._horizons[market])
                log_rv[a:b] = np.log(np.maximum(ahead, VARIANCE_FLOOR))
            if own.panel.modality == "surface":
                log_rv /= 2  # a sum of absolute changes goes with the root of the variance
            error = own.labels.log_rv[own.split.train] - log_rv[own.split.train]
            self._forecast[market] = log_rv + float(np.nanmean(error))
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return log realised variance, (B,)."""
        return self._forecast[market][ends]


class LightGBMVolatility:
    """Boosted trees on the inputs of the mixture of experts (Ke et al., 2017)."""

    def __init__(self, *, rounds: int = 200, threads: int = 1, seed: int = 1) -> None:
        self._rounds, self._threads, self._seed = rounds, threads, seed
        self._data: dict[str, MarketData] = {}
        self._boosters: dict[str, lgb.Booster] = {}
        self._scale: dict[str, tuple[float, float]] = {}

    def fit(self, data: Mapping[str, MarketData]) -> Self:
        """Train one model a modality, stopping on validation rows.

        Raises:
            DataError: a market has no train row or no validation row.
        """
        self._data = dict(data)
        for market, own in data.items():
            known = own.labels.log_rv[own.split.train].astype(np.float64)
            known = known[np.isfinite(known)]
            mean, sd = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
            self._scale[market] = float(mean), float(max(sd, 1e-6))
        for modality, markets in by_modality(data).items():
            train = self._dataset(markets, "train", ROWS)
            judged = self._dataset(markets, "validation", ROWS // 3).set_reference(train)
            stop = [lgb.early_stopping(20, verbose=False)]
            self._boosters[modality] = lgb.train(
                self._parameters(), train, self._rounds, valid_sets=[judged], callbacks=stop
            )
        return self

    def predict(self, market: str, ends: Positions) -> Floats:
        """Return log realised variance, (B,)."""
        if not len(ends):
            return np.zeros(0)
        own, place = self._data[market], list(self._data).index(market)
        booster, (mean, sd) = self._boosters[own.panel.modality], self._scale[market]
        found = booster.predict(flat(own, ends, place), num_threads=self._threads)
        return np.asarray(mean + sd * found, np.float64)

    def _dataset(self, markets: list[str], part: Any, limit: int) -> lgb.Dataset:
        rows = flat_rows(self._data, markets, part, limit)
        scales = np.array([self._scale.get(market, (0.0, 1.0)) for market in self._data])
        target = (rows.log_rv - scales[rows.market, 0]) / scales[rows.market, 1]
        known = np.isfinite(target)
        return lgb.Dataset(
            rows.x[known], target[known], categorical_feature=[TABLE_MARKET], free_raw_data=False
        )

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "regression",
            "learning_rate": 0.05,
            "num_leaves": 31,
            "min_data_in_leaf": 100,
            "feature_fraction": 0.3,
            "max_bin": 63,
            "num_threads": self._threads,
            "seed": self._seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


def _floor(panel: Panel) -> float:
    return IV_FLOOR if panel.modality == "surface" else VARIANCE_FLOOR


def _by_bar(panel: Panel) -> Floats:
    """Return what each bar adds to realised variance, (N,); NaN where a symbol begins."""
    intraday = panel.timeframe.is_intraday
    variance = bar_variance(panel.values, modality=panel.modality, is_intraday=intraday)
    variance[panel.offsets[:-1]] = np.nan
    return variance


def _past(own: MarketData, ends: Positions) -> Floats:
    """Return the inputs' past log variances, (B, 3)."""
    measure = own.labels.question.measure
    parts = [
        gather(own.panel, ends[i : i + _CHUNK], market_index=0, measure=measure).har
        for i in range(0, len(ends), _CHUNK)
    ]
    return np.concatenate([np.zeros((0, 3)), *parts]).astype(np.float64)


def _returns(panel: Panel) -> Floats:
    """Return log returns, or changes of at-the-money iv, (N,); NaN where a symbol begins."""
    moves = np.diff(_level(panel.values, panel.modality), prepend=np.nan)
    moves[panel.offsets[:-1]] = np.nan
    return np.asarray(moves)


def _level(values: Floats, modality: str) -> Floats:
    return atm_iv(values) if modality == "surface" else log_positive(values[3])


def _last_before(train: Positions, first: int, end: int) -> int:
    """Return the position after a symbol's last train row, `first` if it has none."""
    own = train[(train >= first) & (train < end)]
    return int(own[-1]) + 1 if len(own) else first


def _pooled(returns: list[Floats]) -> tuple[float, float]:
    """Return the median α and β over some symbols; (.05, .9) if none can be estimated."""
    from arch import arch_model  # here: a second that only this rival should pay

    usable = [one[np.isfinite(one)][-RETURNS:] for one in returns]
    usable = [one for one in usable if len(one) >= 250 and one.std() > 0]
    found = []
    for place in spread_evenly(np.arange(len(usable)), SYMBOLS):
        scaled = usable[place] / usable[place].std()
        model = arch_model(scaled, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        result = model.fit(disp="off", show_warning=False)
        found.append((result.params["alpha[1]"], result.params["beta[1]"]))
    alpha, beta = np.median(found, axis=0) if found else (0.05, 0.9)
    largest = 0.999 / max(float(alpha + beta), 0.999)  # keeps a mean to return to
    return float(alpha) * largest, float(beta) * largest


def _ahead(returns: Floats, weights: tuple[float, float], bars: int) -> Floats:
    """Return the variance expected of the next `bars` bars after each bar of a symbol, (n,)."""
    alpha, beta = weights
    known = np.isfinite(returns)
    squares = np.where(known, returns, 0.0) ** 2
    level = squares.cumsum() / np.maximum(known.cumsum(), 1)  # (n,) of the returns so far
    pushed = level * (1 - alpha - beta) + alpha * np.where(known, squares, level)
    next_one, _ = lfilter([1.0], [1.0, -beta], pushed, zi=beta * level[:1])
    persistence = alpha + beta
    decay = (1 - persistence**bars) / (1 - persistence)
    return np.asarray(bars * level + (next_one - level) * decay)
