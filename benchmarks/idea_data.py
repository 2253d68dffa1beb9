"""What `benchmarks.ideas` asks of a market, and shows of it, where that is not as usual.

- A question is changed in the configuration: a longer horizon, a direction relative to the other
  symbols. It has a base rate of its own, and is compared with that alone.
- An auxiliary target takes the place of the second one, log realised variance. It reads no bar
  that the usual targets do not read, so that purge and embargo hold for it as they are.
- Coarser bars show four times as many at a quarter of the detail; the labels stay as they were.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas.config import ATLASConfig, LabelConfig
from atlas.surfaces import atm_iv
from atlas.windows import (
    IV_FLOOR,
    WINDOW,
    Labels,
    MarketData,
    Panel,
    Question,
    Split,
    coming_moves,
    log_positive,
)

__all__ = ["COARSE", "LONGER", "coarser", "longer", "next_bar", "price_range", "relative"]

COARSE = 4  # bars in a column
LONGER = 5  # times the usual horizon
_WILD = 5.0  # standard deviations over training rows at which a next bar is clipped
_LEAST_RANGE = 1e-5  # of a log price, .001 %; the log of a silent stretch stays finite
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


def longer(config: ATLASConfig) -> ATLASConfig:
    """Ask every market for the move over `LONGER` times its horizon."""
    return _asked(config, lambda label: {"horizon": LONGER * label.horizon})


def relative(config: ATLASConfig) -> ATLASConfig:
    """Ask chart markets who will do better than the median symbol; surfaces as ever."""
    return _asked(
        config, lambda label: {"kind": "relative_direction"} if label.kind == "direction" else {}
    )


def price_range(own: MarketData, horizon: int) -> MarketData:
    """Put the log range of the next `horizon` bars in the place of log realised variance.

    Charts: log of (log highest high − log lowest low); surfaces: of the range of at-the-money iv.
    NaN where log realised variance is: its bars are these.
    """
    panel = own.panel
    if panel.modality == "surface":
        high = low = atm_iv(panel.values)
        floor = IV_FLOOR
    else:
        high, low = log_positive(panel.values[1]), log_positive(panel.values[2])
        floor = _LEAST_RANGE
    span = _ahead(high, horizon).max(0) - _ahead(low, horizon).min(0)
    return _aimed(own, np.log(np.maximum(span, floor)))


def next_bar(own: MarketData, horizon: int) -> MarketData:
    """Put the next bar's move over vol30 in the place of log realised variance.

    It is clipped at `_WILD` of its standard deviations over training rows. `horizon` is not used:
    a single bar lies within every horizon.
    """
    del horizon
    panel, question = own.panel, own.labels.question
    plain = Question(question.kind, question.measure, 1, question.skip)
    move = coming_moves(panel, plain)
    vol30 = panel.fingerprint[:, 0].astype(np.float64)
    scaled = move / np.where(vol30 > 0, vol30, np.nan)
    limit = _WILD * float(np.nanstd(scaled[own.split.train]))
    return _aimed(own, np.clip(scaled, -limit, limit))


def coarser(own: MarketData, horizon: int) -> MarketData:
    """Show `COARSE` bars in each of a window's 64 columns; rows, labels and moments stay.

    The bars that end at t, t − 4, t − 8, … are a symbol of their own, so each of a symbol's four
    phases is laid out apart. Of surfaces every fourth is shown. A window that would begin before
    its symbol does is left out. `horizon` is not used.
    """
    del horizon
    panel = own.panel
    order, offsets = _phases(panel.offsets)
    place = np.full(panel.timestamp.size, -1)  # of an old position in the new panel
    place[order] = np.arange(order.size)
    shown = Panel(
        market=panel.market,
        modality=panel.modality,
        timeframe=panel.timeframe,
        symbols=tuple(name for name in panel.symbols for _ in range(COARSE)),
        offsets=offsets,
        timestamp=panel.timestamp[order],
        session=panel.session[order],
        values=_merged(panel, order),
        fingerprint=panel.fingerprint[order],
        rule=panel.rule[order],
        has_close=panel.has_close,
    )
    labels = replace(
        own.labels,
        direction=own.labels.direction[order],
        log_rv=own.labels.log_rv[order],
        last=np.arange(order.size),  # the split is made: nothing is cut by it any more
        tied=np.zeros(0, np.bool_),
    )
    first = np.repeat(offsets[:-1], np.diff(offsets))
    parts = [place[part] for part in (own.split.train, own.split.validation, own.split.test)]
    seen = [part[(part >= 0) & (part - first[part] >= WINDOW - 1)] for part in parts]
    train, validation, test = (np.sort(part) for part in seen)
    return MarketData(shown, labels, Split(train, validation, test))


def _asked(config: ATLASConfig, change: Callable[[LabelConfig], dict[str, Any]]) -> ATLASConfig:
    markets = {
        name: market.model_copy(
            update={"label": market.label.model_copy(update=change(market.label))}
        )
        for name, market in config.markets.items()
    }
    return config.model_copy(update={"markets": markets})


def _aimed(own: MarketData, target: Floats) -> MarketData:
    known = np.isfinite(own.labels.log_rv) & np.isfinite(target)
    aimed = np.where(known, target, np.nan).astype(np.float32)
    labels: Labels = replace(own.labels, log_rv=aimed)
    return replace(own, labels=labels)


def _ahead(x: Floats, bars: int) -> Floats:
    """Return the next `bars` values of each position (bars, N), NaN past the end."""
    out = np.full((bars, x.size), np.nan)
    for step in range(1, bars + 1):
        out[step - 1, : max(x.size - step, 0)] = x[step:]
    return out


def _phases(offsets: Positions) -> tuple[Positions, Positions]:
    """Return old positions in the new order, and where each phase of each symbol begins."""
    runs = [
        np.arange(first + COARSE - 1 + phase, end, COARSE)
        for first, end in itertools.pairwise(offsets)
        for phase in range(COARSE)
    ]
    begins = np.cumsum([0, *(run.size for run in runs)], dtype=np.int64)
    return np.concatenate(runs), begins


def _merged(panel: Panel, order: Positions) -> Floats:
    if panel.modality == "surface":
        return np.ascontiguousarray(panel.values[order])
    bars = panel.values[:, order[:, None] + np.arange(1 - COARSE, 1)]  # (5, N, COARSE)
    opens, highs, lows, closes, volume = bars
    rows = (opens[:, 0], highs.max(1), lows.min(1), closes[:, -1], volume.sum(1))
    return np.stack(rows)
