"""Fit the base that every network starts from: the best simple rival, on training rows only.

- logit = market intercept + linear(skip, standardized fingerprint): one logistic regression for
  each modality, markets weighing equally, with a small ridge;
- log RV = HAR (Corsi, 2009): ordinary least squares on three log realised variances, per market.

The rows are spread evenly over a market's training windows, at most `ROWS` of them. Nothing here
looks at a validation or a test row.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from atlas.inputs import gather
from atlas.moe import Network
from atlas.residual import Standardizer
from atlas.sampling import spread_evenly
from atlas.windows import MarketData

__all__ = ["ROWS", "Rows", "fit_har", "fit_logistic", "install_base", "training_rows"]

ROWS = 8_192  # per market: the linear fit's error is then far below what a network adds
CHUNK = 512
Array = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Flat inputs and targets of a market's training windows, float64, NaN where undefined."""

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
    return {market: _rows(own, limit) for market, own in data.items()}


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

    Rows with a NaN are left out; fewer than 30 of them give the mean and no slope (0 if none).
    """
    known = np.isfinite(log_rv) & np.isfinite(har).all(axis=1)
    if known.sum() < 30:
        mean = float(np.nanmean(log_rv)) if np.isfinite(log_rv).any() else 0.0
        return np.array([mean, 0.0, 0.0, 0.0])
    x = np.column_stack([np.ones(int(known.sum())), har[known]])
    return np.asarray(np.linalg.lstsq(x, log_rv[known], rcond=None)[0], np.float64)


def _install(model: Network, modality: str, rows: Mapping[str, Rows]) -> None:
    standardizer = model.standardizers[modality]
    assert isinstance(standardizer, Standardizer)
    standardizer.fit(torch.from_numpy(np.concatenate([own.described for own in rows.values()])))
    features = []
    for own in rows.values():
        described = standardizer(torch.from_numpy(own.described).float()).double().numpy()
        features.append(np.column_stack([own.skip, described]))
    intercepts, weights = fit_logistic(features, [own.direction for own in rows.values()])
    model.base.weight(modality).copy_(torch.from_numpy(weights))
    for intercept, (market, own) in zip(intercepts, rows.items(), strict=True):
        index = model.markets.index(market)
        model.base.intercept[index] = float(intercept)
        model.familiarity.fit(index, torch.from_numpy(own.described))
        model.base.har[index] = torch.from_numpy(fit_har(own.har, own.log_rv)).float()


def _known(features: list[Array], directions: list[Array]) -> Iterator[tuple[Array, Array]]:
    for x, y in zip(features, directions, strict=True):
        known = np.isfinite(y)
        yield x[known], y[known]


def _rows(own: MarketData, limit: int) -> Rows:
    ends = spread_evenly(own.split.train, limit)
    measure = own.labels.question.measure
    parts = []
    for start in range(0, len(ends), CHUNK):
        part = gather(own.panel, ends[start : start + CHUNK], market_index=0, measure=measure)
        described = np.column_stack([part.fingerprint, part.log_timeframe, part.vol_ratio])
        parts.append((part.skip, described, part.har))
    flat = [np.concatenate(column) for column in zip(*parts, strict=True)]
    targets = own.labels.direction[ends], own.labels.log_rv[ends]
    return Rows(*(column.astype(np.float64) for column in (*flat, *targets)))
