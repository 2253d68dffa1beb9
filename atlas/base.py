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

from atlas.inputs import gather
from atlas.sampling import spread_evenly
from atlas.windows import MarketData

__all__ = ["ROWS", "Rows", "fit_har", "fit_logistic", "standardization", "training_rows"]

ROWS = 8_192  # per market: the linear fit's error is then far below what a network adds
CHUNK = 512
Array = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Flat inputs and targets of a market's training windows, float64, NaN where undefined."""

    skip: Array  # (N, D)
    fingerprint: Array  # (N, F)
    har: Array  # (N, 3)
    direction: Array  # (N,)
    log_rv: Array  # (N,)


def training_rows(data: Mapping[str, MarketData], *, limit: int = ROWS) -> dict[str, Rows]:
    """Collect for each market the flat inputs of at most `limit` training windows."""
    return {market: _rows(own, limit) for market, own in data.items()}


def standardization(fingerprint: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation (F,) of each column, NaN left out.

    A column without a value gets (0, 1), a constant one the scale 1.
    """
    known = np.isfinite(fingerprint)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, fingerprint, 0.0).sum(axis=0) / count
    spread = np.where(known, fingerprint - mean, 0.0)
    scale = np.sqrt((spread**2).sum(axis=0) / count)
    return mean, np.where(scale > 1e-12, scale, 1.0)


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


def _known(features: list[Array], directions: list[Array]) -> Iterator[tuple[Array, Array]]:
    for x, y in zip(features, directions, strict=True):
        known = np.isfinite(y)
        yield x[known], y[known]


def _rows(own: MarketData, limit: int) -> Rows:
    ends = spread_evenly(own.split.train, limit)
    measure = own.labels.question.measure
    skip, fingerprint, har = [], [], []
    for start in range(0, len(ends), CHUNK):
        part = gather(own.panel, ends[start : start + CHUNK], market_index=0, measure=measure)
        skip.append(np.asarray(part.skip, np.float64))
        fingerprint.append(np.asarray(part.fingerprint, np.float64))
        har.append(np.asarray(part.har, np.float64))
    return Rows(
        np.concatenate(skip),
        np.concatenate(fingerprint),
        np.concatenate(har),
        own.labels.direction[ends].astype(np.float64),
        own.labels.log_rv[ends].astype(np.float64),
    )
