"""A model's inputs as plain rows: for rivals that take a matrix, and for models of a user's own.

`atlas.inputs.table` holds the very inputs of the mixture of experts. Trees read it as it is; for
models that cannot, `Preparation` puts the market into columns of its own, fills what is missing
with the train rows' mean beside a flag, and standardizes. It is fitted on train rows alone.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.errors import DataError
from atlas.inputs import TABLE_MARKET, gather, table
from atlas.sampling import spread_evenly
from atlas.windows import MarketData

__all__ = ["Preparation", "Rows", "by_modality", "flat", "flat_rows"]

Singles = NDArray[np.float32]
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
_CHUNK = 1_024  # windows gathered at once: their images, unused here, stay small
_LIMIT = 8.0  # standard deviations; one wild bar must not carry a fit


class Rows(NamedTuple):
    """Flat inputs and labels of some markets' windows, and which market each is of."""

    x: Singles  # (N, P)
    direction: Singles  # (N,) 0 or 1
    log_rv: Singles  # (N,) NaN where unknown
    market: NDArray[np.int64]  # (N,) place in the data


def by_modality(data: Mapping[str, MarketData]) -> dict[str, list[str]]:
    """Return the markets of each modality, which share no columns and so no model."""
    kinds = sorted({own.panel.modality for own in data.values()})
    return {kind: [m for m, own in data.items() if own.panel.modality == kind] for kind in kinds}


def flat(own: MarketData, ends: Positions, place: int) -> Singles:
    """Lay windows of a market flat, (B, P) as `atlas.inputs.table`; no window is (0, 0)."""
    measure = own.labels.question.measure
    chunks = [ends[i : i + _CHUNK] for i in range(0, len(ends), _CHUNK)]
    parts = [
        table(gather(own.panel, chunk, market_index=place, measure=measure)) for chunk in chunks
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def flat_rows(
    data: Mapping[str, MarketData],
    markets: Sequence[str],
    part: Literal["train", "validation"],
    limit: int,
) -> Rows:
    """Lay at most `limit` windows of a part flat, shared evenly by markets of one modality.

    Raises:
        DataError: a market has no row in that part.
    """
    places, share, parts = list(data), max(limit // len(markets), 1), []
    for market in markets:
        own, place = data[market], places.index(market)
        ends = spread_evenly(getattr(own.split, part), share)
        if not len(ends):
            raise DataError(
                f"{market}: expected at least one {part} row to fit a rival on; got none: bring "
                "more history or lower the market's cut"
            )
        labels = own.labels.direction[ends], own.labels.log_rv[ends]
        parts.append((flat(own, ends, place), *labels, np.full(len(ends), place)))
    return Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class Preparation:
    """Makes flat rows fit for any classifier: finite, standardized, the market one-hot.

    Args:
        train: rows (N, P) to take means and standard deviations from, NaN where missing.
    """

    def __init__(self, train: Singles) -> None:
        values = self._numbers(train)
        known = np.isfinite(values)
        self._markets = np.unique(train[:, TABLE_MARKET])
        self._flagged = ~known.all(axis=0)
        count = np.maximum(known.sum(axis=0), 1)
        self._mean = np.where(known, values, 0).sum(axis=0) / count
        spread = np.where(known, values - self._mean, 0)
        sd = np.sqrt((spread**2).sum(axis=0) / count)
        self._sd = np.where(sd > 1e-9, sd, 1.0)

    def __call__(self, rows: Singles) -> Singles:
        """Return (N, markets + P − 1 + flags): every value finite and within 8 sd."""
        values = self._numbers(rows)
        missing = ~np.isfinite(values)
        scaled = np.where(missing, 0.0, (values - self._mean) / self._sd)
        one_hot = rows[:, [TABLE_MARKET]] == self._markets
        columns = (one_hot, np.clip(scaled, -_LIMIT, _LIMIT), missing[:, self._flagged])
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def _numbers(self, rows: Singles) -> Floats:
        return np.delete(rows, TABLE_MARKET, axis=1).astype(np.float64)
