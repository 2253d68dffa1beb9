"""What the best model of the simulated markets could know: Bayes and informed ceilings.

- *Bayes* knows the law: its probability is the p that stands beside the bars.
- *Informed* knows what a model is shown, and no more: the five chart laws mixed by P(law | inputs).
  A surface has one law, so there the two are the same.
- The posterior is a LightGBM over the model's numbers (`atlas.inputs.table` without its series) and
  `sign_evidence`, which reads the window's own 64 closes as the laws would. Trees on the 320 raw
  values of the series do worse by log-loss than on these five sums, and the lower log-loss is the
  truer ceiling.
- *Training set* means the windows that one epoch draws (48,000, so 8,000 a market). The posterior
  is fitted on `WINDOWS`, ten times as many a market, from `PATHS` paths of its own; paths are what
  teaches a law, and a home holds but 118 chart paths.
- `law_named_by_fingerprint` says how easy a gate's task is: above 85 % the simulation flatters.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from atlas.catalogue import EXPERT_IDS
from atlas.errors import DataError
from atlas.inputs import gather
from atlas.laws import CHART_LAWS, LAWS, chart_probabilities, sign_evidence
from atlas.metrics import expected_calibration_error
from atlas.windows import MarketData

__all__ = [
    "PATHS",
    "WINDOWS",
    "PosteriorCheck",
    "bayes",
    "check_posterior",
    "fit_law_posterior",
    "informed",
    "law_named_by_fingerprint",
    "law_posterior",
]

WINDOWS, PATHS = 80_000, 400  # of a market: `draw_markets(config, seed=…, train=WINDOWS, …)`
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Positions = NDArray[np.int64]
_CHUNK = 1_024
_ROUNDS = 80
_PARAMETERS: dict[str, Any] = {
    "objective": "multiclass",
    "num_class": len(CHART_LAWS),
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.6,
    "num_threads": 1,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
_COLUMN = {EXPERT_IDS.index(law): column for column, law in enumerate(CHART_LAWS)}


class PosteriorCheck(NamedTuple):
    """How good a posterior is on test windows of chart markets, means over markets.

    Attributes:
        log_loss: of the true law, nats.
        accuracy: share of windows whose law it names.
        calibration_error: mean over laws of the expected calibration error, in probability.
        windows: that were asked.
    """

    log_loss: float
    accuracy: float
    calibration_error: float
    windows: int


def fit_law_posterior(data: Mapping[str, MarketData]) -> str:
    """Fit P(law | inputs) on the train windows of the chart markets; return LightGBM's model text.

    Args:
        data: from `draw_markets`, with a seed of its own and at least ten times the windows that a
            model is trained on.

    Raises:
        DataError: no chart market has a train window with a known law.
    """
    charts = {name: own for name, own in data.items() if own.panel.modality == "chart"}
    rows = [_features(own, own.split.train) for own in charts.values()]
    laws = [_laws(own, own.split.train) for own in charts.values()]
    if not sum(map(len, laws)):
        raise DataError("expected train windows of a chart market to fit the law on; got none")
    return _fitted(np.concatenate(rows), np.concatenate(laws))


def law_posterior(model: str, own: MarketData, ends: Positions) -> Floats:
    """Return P(law | inputs) of windows of a chart market, (B, 5), columns `CHART_LAWS`."""
    found: Floats = lgb.Booster(model_str=model).predict(_features(own, ends), num_threads=1)
    return found


def informed(model: str, own: MarketData, ends: Positions) -> Floats:
    """Return the informed ceiling's probability of up, (B,).

    Args:
        model: from `fit_law_posterior`.
        own: a simulated market, charts or surfaces.
        ends: (B,) window ends with 64 bars of their own path before them.
    """
    if own.panel.modality == "surface":
        return bayes(own, ends)
    p = chart_probabilities(own.panel.values[3], ends)  # (B, 5)
    return np.asarray((law_posterior(model, own, ends) * p).sum(axis=1))


def bayes(own: MarketData, ends: Positions) -> Floats:
    """Return the true probability of up, (B,).

    Raises:
        DataError: it is not known.
    """
    p = own.panel.probability
    if p is None or not np.isfinite(p[ends]).all():
        raise DataError(
            f"{own.panel.market}: expected a known probability of every window, got none: "
            "ceilings exist on simulated markets alone"
        )
    return p[ends]


def check_posterior(model: str, data: Mapping[str, MarketData]) -> PosteriorCheck:
    """Judge a posterior on the test windows of the chart markets."""
    figures, windows = [], 0
    for own in data.values():
        ends = own.split.test
        if own.panel.modality == "surface" or not len(ends):
            continue
        found, law = law_posterior(model, own, ends), _laws(own, ends)
        given = np.maximum(found[np.arange(len(law)), law], 1e-12)
        errors = [
            expected_calibration_error((law == column).astype(np.float64), found[:, column])
            for column in range(len(CHART_LAWS))
        ]
        named = (found.argmax(axis=1) == law).mean()
        figures.append([float(-np.log(given).mean()), float(named), float(np.mean(errors))])
        windows += len(ends)
    if not figures:
        raise DataError("expected test windows of a chart market to judge the law by; got none")
    loss, accuracy, error = np.mean(figures, axis=0)
    return PosteriorCheck(float(loss), float(accuracy), float(error), windows)


def law_named_by_fingerprint(
    learned: Mapping[str, MarketData], asked: Mapping[str, MarketData]
) -> float:
    """Return how often trees name a chart's law from fingerprint and timeframe alone.

    Args:
        learned: fitted on their train windows.
        asked: judged on their test windows; paths of their own.

    Returns:
        The share, mean over chart markets. Above .85 a gate's task is too easy (SIMULATION).
    """
    charts = [own for own in learned.values() if own.panel.modality == "chart"]
    rows = np.concatenate([_gate_inputs(own, own.split.train) for own in charts])
    laws = np.concatenate([_laws(own, own.split.train) for own in charts])
    booster = lgb.Booster(model_str=_fitted(rows, laws))
    shares = []
    for own in asked.values():
        if own.panel.modality == "chart":
            found = booster.predict(_gate_inputs(own, own.split.test), num_threads=1)
            shares.append((found.argmax(axis=1) == _laws(own, own.split.test)).mean())
    return float(np.mean(shares))


def _fitted(rows: Singles, laws: Positions) -> str:
    text: str = lgb.train(_PARAMETERS, lgb.Dataset(rows, laws), _ROUNDS).model_to_string()
    return text


def _features(own: MarketData, ends: Positions) -> Singles:
    """Return (B, P) functions of the inputs alone: the numbers of a window, and its signs."""
    if not len(ends):
        return np.zeros((0, 0), np.float32)
    chunks = [ends[i : i + _CHUNK] for i in range(0, len(ends), _CHUNK)]
    numbers = np.concatenate([_numbers(own, chunk) for chunk in chunks])
    evidence = sign_evidence(own.panel.values[3], ends)
    return np.column_stack([numbers, evidence]).astype(np.float32)


def _numbers(own: MarketData, ends: Positions) -> Singles:
    seen = gather(own.panel, ends, market_index=list(LAWS).index(own.panel.market))
    columns = (seen.market, seen.skip, seen.fingerprint, seen.har, seen.log_timeframe)
    return np.column_stack([*columns, seen.vol_ratio]).astype(np.float32)


def _gate_inputs(own: MarketData, ends: Positions) -> Singles:
    timeframe = np.full(len(ends), np.log(own.panel.timeframe.seconds), np.float32)
    return np.column_stack([own.panel.fingerprint[ends], timeframe])


def _laws(own: MarketData, ends: Positions) -> Positions:
    """Return the column of each window's true law in `CHART_LAWS`, (B,)."""
    law = own.panel.law
    if law is None:
        raise DataError(
            f"{own.panel.market}: expected known laws, got none: ceilings exist on simulated "
            "markets alone"
        )
    return np.array([_COLUMN[int(code)] for code in law[ends]], np.int64)
