"""Draw the windows a step trains on.

Markets are drawn equally: 1.4 M crypto bars must not drown 11,000 option days. A draw depends on
(seed, step, market) alone, never on a generator's history, so a resumed run sees the same windows
without storing any random state. Windows are drawn with replacement; charts are rendered on the
fly, nothing is kept.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from atlas.errors import DataError
from atlas.inputs import IMAGES, Inputs, gather
from atlas.windows import MarketData

__all__ = ["Batch", "collate", "draw", "spread_evenly"]

Positions = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Windows of one modality with their two targets, (B,) float32, NaN where undefined."""

    inputs: Inputs
    direction: npt.NDArray[np.float32]
    log_rv: npt.NDArray[np.float32]


def draw(
    data: Mapping[str, MarketData], *, batch: int, seed: int, step: int
) -> dict[str, Positions]:
    """Choose the windows of one step, as many from each market.

    Args:
        data: the markets, in a fixed order.
        batch: windows of the step, all markets together, at least one a market.
        seed: of the training.
        step: 0-based; the windows that do not divide evenly go to other markets in each step.

    Returns:
        For each market the ends of its windows, ascending, drawn from its training windows.

    Raises:
        DataError: naming a market without a training window.
    """
    share, rest = divmod(batch, len(data))
    ends = {}
    for index, (market, own) in enumerate(data.items()):
        train = own.split.train
        if not len(train):
            raise DataError(
                f"market {market!r} has no training window: expected at least one before its "
                "validation sessions; give it a longer history or a smaller cut"
            )
        count = max(1, share + int((index + step) % len(data) < rest))
        generator = np.random.default_rng((seed, step, index))
        ends[market] = np.sort(train[generator.integers(len(train), size=count)])
    return ends


def spread_evenly(positions: Positions, limit: int) -> Positions:
    """Return at most `limit` of the positions, spread evenly from first to last."""
    if len(positions) <= limit:
        return positions
    return positions[np.linspace(0, len(positions) - 1, limit).astype(np.int64)]


def collate(
    data: Mapping[str, MarketData],
    ends: Mapping[str, Positions],
    markets: tuple[str, ...],
    *,
    images: dict[str, Singles] | None = None,
) -> Iterator[Batch]:
    """Render the chosen windows; yield one batch for each modality that has any.

    Args:
        data: the markets.
        ends: for each market the ends of its windows.
        markets: the model's markets; a row's `market` is the index into them.
        images: by modality, buffers that are drawn into and grow as needed: a caller that has done
            with a batch before it asks for the next step's spares the machine fresh memory.
    """
    for modality in IMAGES:
        chosen = {m: own for m, own in ends.items() if data[m].panel.modality == modality}
        chosen = {m: own for m, own in chosen.items() if len(own)}
        if not chosen:
            continue
        drawn = _buffer(modality, sum(len(own) for own in chosen.values()), images)
        parts, direction, log_rv, place = [], [], [], 0
        for market, own in chosen.items():
            panel, labels = data[market].panel, data[market].labels
            index, measure = markets.index(market), labels.question.measure
            image = drawn[place : place + len(own)]
            place += len(own)
            parts.append(gather(panel, own, market_index=index, measure=measure, image=image))
            direction.append(labels.direction[own])
            log_rv.append(labels.log_rv[own])
        yield Batch(_join(parts, drawn), np.concatenate(direction), np.concatenate(log_rv))


def _buffer(modality: str, rows: int, images: dict[str, Singles] | None) -> Singles:
    """Return rows of the modality's buffer, a larger one if it is too small."""
    images = {} if images is None else images
    held = images.get(modality)
    if held is None or len(held) < rows:
        held = images[modality] = np.empty((rows, *IMAGES[modality]), np.float32)
    return held[:rows]


def _join(parts: list[Inputs], image: Singles) -> Inputs:
    rest = zip(*(part[2:] for part in parts), strict=True)
    return Inputs(parts[0].modality, image, *(np.concatenate(field) for field in rest))
