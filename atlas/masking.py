"""Hide a block of a window's bars, and say what they were.

- Hidden bars become a straight line of the log close between the bars beside the block, without
  range, body or volume; at the newest end the last seen close goes on. The window is drawn and
  scaled *after* that, so nothing of what was hidden shows in the scale of what is seen.
- What is asked of each hidden bar: its *move*, the log return less the straight line's, in root
  mean squares of the seen returns; and its *size*, log(high / low) over the seen bars' mean, less
  one. A surface's are the change of its measure and the absolute change of at-the-money iv.
- Answering 0 to both is the straight line and the mean: the baseline that a kernel has to beat.
  Levels are not asked for, because a random walk's are told by its ends, and the rest is noise
  that adds up.
"""

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.inputs import Inputs, gather
from atlas.surfaces import atm_iv
from atlas.windows import WINDOW, MarketData, Panel, log_positive, measure_iv

__all__ = ["ASKED", "BLOCK", "Block", "Masked", "hide", "straight"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]

ASKED: Final = ("move", "size")
LIMIT = 8.0  # of a target, either side of 0
_FLOOR = 1e-12  # a window that never moves asks for nothing


class Block(NamedTuple):
    """What is hidden: `hidden` bars, 0 to `latest` bars before the window's end.

    With latest 0 what comes next is asked for, and nothing else.
    """

    hidden: int = 4
    latest: int = 4

    @property
    def reach(self) -> int:
        """The newest bars of a window among which the block lies."""
        return self.hidden + self.latest


BLOCK: Final = Block()


class Masked(NamedTuple):
    """Windows of one market with a block of bars hidden.

    Attributes:
        inputs: as the network sees any window; fingerprint and rule are those of no bar.
        asked: (B, hidden, 2) columns `ASKED`, NaN where the bar is missing.
        after: (B,) bars after the block.
    """

    inputs: Inputs
    asked: Singles
    after: Positions


def hide(
    own: MarketData,
    ends: Positions,
    after: Positions,
    *,
    hidden: int = BLOCK.hidden,
    market_index: int = -1,
    image: Singles | None = None,
) -> Masked:
    """Hide a block of each window that ends at `ends`.

    Args:
        own: the market; only bars of the windows are read.
        ends: (B,) positions with WINDOW bars of their own symbol up to them, themselves included.
        after: (B,) bars between the block and the window's end.
        hidden: bars of the block.
        market_index: place of the market in the model's list.
        image: buffer to draw into; made if left out.
    """
    panel, measure = own.panel, own.labels.question.measure
    rows = ends.size
    places = (ends[:, None] + np.arange(1 - WINDOW, 1)).ravel()  # (B·T,)
    first = WINDOW - hidden - after  # (B,)
    block = first[:, None] + np.arange(hidden)  # (B, hidden) columns
    small = _windows(panel, places, rows)
    if panel.modality == "surface":
        level = measure_iv(small.values, measure).reshape(rows, WINDOW)
        iv = atm_iv(small.values).reshape(rows, WINDOW)
        size = np.abs(np.diff(iv, axis=1, prepend=np.nan))
        seen = small.values.reshape(rows, WINDOW, *small.values.shape[1:])
        seen[np.arange(rows)[:, None], block] = straight(seen, first, hidden)
    else:
        bars = small.values.reshape(-1, rows, WINDOW)
        level = log_positive(bars[3])
        size = log_positive(bars[1]) - log_positive(bars[2])
        line = np.exp(straight(level, first, hidden))  # (B, hidden)
        spots = np.arange(rows)[:, None], block
        for price in range(4):
            bars[price][spots] = line
        bars[4][spots] = np.nan
    asked = _asked(level, size, block)
    last = np.arange(1, rows + 1, dtype=np.int64) * WINDOW - 1
    inputs = gather(small, last, market_index=market_index, measure=measure, image=image)
    return Masked(inputs, asked, after)


def straight(values: Floats, first: Positions, hidden: int) -> Floats:
    """Return the straight line through each row's block, (B, hidden, …) of values (B, T, …).

    It runs from the value before the block to the one after it; where the block is the newest, the
    value before goes on. NaN where either is missing.

    Args:
        values: rows of a window, (B, T) or more axes behind.
        first: (B,) the block's first column, at least 1.
        hidden: bars of the block.
    """
    row = np.arange(first.size)
    left = values[row, first - 1]  # (B, …)
    follows = first + hidden < values.shape[1]
    right = values[row, np.where(follows, first + hidden, first - 1)]
    share = np.arange(1, hidden + 1) / (hidden + 1)
    share = share.reshape(1, -1, *(1,) * (values.ndim - 2))
    return np.asarray(left[:, None] + share * (right - left)[:, None])


def _windows(panel: Panel, places: Positions, rows: int) -> Panel:
    """Return a panel of these windows alone, one a symbol, that shares no array with `panel`."""
    axis = 0 if panel.modality == "surface" else 1
    return replace(
        panel,
        symbols=tuple(str(row) for row in range(rows)),
        offsets=np.arange(rows + 1, dtype=np.int64) * WINDOW,
        timestamp=panel.timestamp[places],
        session=panel.session[places],
        values=np.take(panel.values, places, axis=axis),
        # a fingerprint has read the hidden bars: no model may have it here
        fingerprint=np.full((places.size, panel.fingerprint.shape[1]), np.nan, np.float32),
        rule=np.full(places.size, -1, np.int8),
        probability=None,
        law=None,
        basket=None,
    )


def _asked(level: Floats, size: Floats, block: Positions) -> Singles:
    """Return moves and sizes of the block's bars (B, hidden, 2) of rows (B, T)."""
    rows = np.arange(len(level))[:, None]
    is_hidden = np.zeros(level.shape, np.bool_)
    is_hidden[rows, block] = True
    moves = np.diff(level, axis=1, prepend=np.nan)  # (B, T)
    line = straight(level, block[:, 0], block.shape[1])  # (B, hidden)
    before = np.take_along_axis(level, block[:, :1] - 1, axis=1)
    slope = np.diff(np.concatenate([before, line], axis=1), axis=1)
    # the move out of the block ends on a seen bar, but tells where the block ended
    is_seen = ~is_hidden & ~np.roll(is_hidden, 1, axis=1)
    scale = np.sqrt(_mean(moves**2, is_seen))[:, None]
    usual = _mean(size, is_seen)[:, None]
    move = (moves[rows, block] - slope) / np.where(scale > _FLOOR, scale, np.nan)
    relative = size[rows, block] / np.where(usual > _FLOOR, usual, np.nan) - 1
    return np.clip(np.stack([move, relative], axis=2), -LIMIT, LIMIT).astype(np.float32)


def _mean(x: Floats, where: Flags) -> Floats:
    """Return the mean of each row's known values of those asked for, (B,); NaN for none."""
    known = where & np.isfinite(x)
    count = known.sum(axis=1)
    total = np.where(known, x, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
