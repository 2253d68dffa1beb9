"""Fit the base that every network starts from: the best simple rival, on training rows only.

- logit = market intercept + linear(skip, standardized fingerprint): one logistic regression for
  each modality, markets weighing equally, with a small ridge;
- log RV = HAR-X: HAR (Corsi, 2009) on three log realised variances, and beside them the features
  of the logit with a ridge; least squares, per market.

The rows are spread evenly over a market's training windows, at most `ROWS` of them. Nothing here
looks at a validation or a test row.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from atlas.inputs import HAR, SKIP, gather
from atlas.moe import Network
from atlas.residual import DESCRIBED, Standardizer
from atlas.sampling import spread_evenly
from atlas.windows import MarketData

__all__ = [
    "ROWS",
    "Rows",
    "features_of",
    "fit_har",
    "fit_harx",
    "fit_logistic",
    "fitted_standardizer",
    "install_base",
    "rows_at",
    "training_rows",
]

ROWS = 8_192  # per market: the linear fit's error is then far below what a network adds
SLOPES_FROM = 30  # rows
RIDGE = (0.03, 500)  # on what stands beside HAR: a share of the rows, and rows
CHUNK = 512
Array = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Flat inputs and targets of a market's windows, float64, NaN where undefined."""

    skip: Array  # (N, D)
    described: Array  # (N, G) fingerprint, log timeframe, volatility ratio: `DESCRIBED`
    har: Array  # (N, 3)
    direction: Array  # (N,)
    log_rv: Array  # (N,)


def install_base(model: Network, data: Mapping[str, MarketData]) -> None:
    """Fit standardization and base on training rows and put them into the model.

    Calibration is undone (α = 1, no Platt scaling): it belongs to the weights of another training.

    Args:
        model: its standardizers, base and calibration are overwritten.
        data: the markets to learn from; each is one of the model's.
    """
    rows = training_rows(data)
    with torch.no_grad():
        model.calibration.alpha.fill_(1.0)
        model.calibration.platt.copy_(torch.tensor([1.0, 0.0]))
        for modality in model.modalities:
            own = [name for name, market in data.items() if market.panel.modality == modality]
            if own:
                _install(model, modality, {name: rows[name] for name in own})


def training_rows(data: Mapping[str, MarketData], *, limit: int = ROWS) -> dict[str, Rows]:
    """Collect for each market the flat inputs of at most `limit` training windows."""
    return {
        market: rows_at(own, spread_evenly(own.split.train, limit)) for market, own in data.items()
    }


def fit_logistic(
    features: list[Array], directions: list[Array], *, ridge: float = 1e-3
) -> tuple[Array, Array]:
    """Fit one logistic regression with an intercept for each market, markets weighing equally.

    Args:
        features: for each market its rows (N, P), finite.
        directions: for each market 0, 1 or NaN (N,); rows with NaN are left out.
        ridge: penalty ½·ridge·|w|² on the weights, beside a mean log-loss.

    Returns:
        Intercepts (M,) and weights (P,). A market without a known direction gets intercept 0.
    """
    markets, width = len(features), features[0].shape[1]
    w = np.zeros(markets + width)
    penalty = np.full(markets + width, ridge)
    penalty[:markets] = 1e-6  # keeps the intercept of a one-sided market finite
    for _ in range(30):
        gradient, hessian = penalty * w, np.diag(penalty)
        for index, (x, y) in enumerate(_known(features, directions)):
            if not len(y):
                continue
            p = 0.5 * (1 + np.tanh(0.5 * (w[index] + x @ w[markets:])))
            design = np.zeros((len(y), markets + width))
            design[:, index], design[:, markets:] = 1.0, x
            gradient += design.T @ (p - y) / (len(y) * markets)
            hessian += (design.T * (p * (1 - p))) @ design / (len(y) * markets)
        step = np.linalg.solve(hessian, gradient)
        w -= step * min(1.0, 2.0 / np.abs(step).max(initial=1e-12))
        if np.abs(step).max() < 1e-9:
            break
    return w[:markets], w[markets:]


def fit_har(har: Array, log_rv: Array) -> Array:
    """Return the intercept and the three slopes (4,) of log RV on har (N, 3) by least squares.

    Rows with a NaN are left out; fewer than `SLOPES_FROM` give their mean and no slope.
    """
    known = np.isfinite(log_rv) & np.isfinite(har).all(axis=1)
    if known.sum() < SLOPES_FROM:
        mean = float(np.nanmean(log_rv)) if np.isfinite(log_rv).any() else 0.0
        return np.array([mean, 0.0, 0.0, 0.0])
    x = np.column_stack([np.ones(int(known.sum())), har[known]])
    return np.asarray(np.linalg.lstsq(x, log_rv[known], rcond=None)[0], np.float64)


def fit_harx(
    har: Array, features: Array, log_rv: Array, *, ridge: tuple[float, int] = RIDGE
) -> tuple[Array, Array]:
    """Fit HAR-X: log RV on har, as `fit_har`, and on features, which a ridge holds down.

    A share of the rows would do on a long history; rows on top of it keep what is fitted on a
    short one near HAR (`python -m benchmarks.harx` measures both).

    Args:
        har: (N, 3), NaN where unknown.
        features: (N, P), finite, of a spread of the order of 1.
        log_rv: (N,), NaN where unknown; rows with a NaN here or in har are left out.
        ridge: penalty on a squared slope, beside the sum of squared errors: a share of the rows,
            and rows.

    Returns:
        Intercept and slopes of har (4,), slopes of features (P,). Of fewer than `SLOPES_FROM` rows
        it is `fit_har`, and no slope.
    """
    known = np.isfinite(log_rv) & np.isfinite(har).all(axis=1)
    count, width = int(known.sum()), features.shape[1]
    if count < SLOPES_FROM:
        return fit_har(har, log_rv), np.zeros(width)
    x, y = np.column_stack([har, features])[known], log_rv[known]
    penalty = np.full(x.shape[1], ridge[0] * count + ridge[1])
    penalty[: har.shape[1]] = 1e-9 * count  # what keeps two equal columns apart
    centre = x.mean(axis=0)
    x = x - centre
    slopes = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ (y - y.mean()))
    own = slopes[: har.shape[1]]
    return np.array([y.mean() - centre @ slopes, *own]), slopes[har.shape[1] :]


def rows_at(own: MarketData, ends: npt.NDArray[np.int64]) -> Rows:
    """Collect the flat inputs and targets of a market's windows."""
    measure = own.labels.question.measure
    parts = [(np.zeros((0, len(SKIP))), np.zeros((0, len(DESCRIBED))), np.zeros((0, len(HAR))))]
    for start in range(0, len(ends), CHUNK):
        part = gather(own.panel, ends[start : start + CHUNK], market_index=0, measure=measure)
        described = np.column_stack([part.fingerprint, part.log_timeframe, part.vol_ratio])
        parts.append((part.skip, described, part.har))
    flat = [np.concatenate(column) for column in zip(*parts, strict=True)]
    targets = own.labels.direction[ends], own.labels.log_rv[ends]
    return Rows(*(column.astype(np.float64) for column in (*flat, *targets)))


def features_of(standardizer: Standardizer, rows: Rows) -> Array:
    """Return what the base's lines read (N, P): skip inputs, standardized fingerprint."""
    described = standardizer(torch.from_numpy(rows.described).float()).double().numpy()
    return np.column_stack([rows.skip, described])


def fitted_standardizer(rows: Mapping[str, Rows]) -> Standardizer:
    """Return a standardizer of the training rows of some markets of one modality."""
    standardizer = Standardizer()
    standardizer.fit(torch.from_numpy(np.concatenate([own.described for own in rows.values()])))
    return standardizer


def _install(model: Network, modality: str, rows: Mapping[str, Rows]) -> None:
    standardizer = fitted_standardizer(rows)
    model.standardizers[modality].load_state_dict(standardizer.state_dict())
    features = [features_of(standardizer, own) for own in rows.values()]
    intercepts, weights = fit_logistic(features, [own.direction for own in rows.values()])
    model.base.weight(modality).copy_(torch.from_numpy(weights))
    columns = zip(intercepts, features, rows.items(), strict=True)
    for intercept, seen, (market, own) in columns:
        index = model.markets.index(market)
        model.base.intercept[index] = float(intercept)
        model.familiarity.fit(index, torch.from_numpy(own.described))
        past, beside = fit_harx(own.har, seen, own.log_rv)
        model.base.har[index] = torch.from_numpy(past)
        model.base.beside(modality)[index] = torch.from_numpy(beside)


def _known(features: list[Array], directions: list[Array]) -> Iterator[tuple[Array, Array]]:
    for x, y in zip(features, directions, strict=True):
        known = np.isfinite(y)
        yield x[known], y[known]
