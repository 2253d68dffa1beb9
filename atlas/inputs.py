"""What a model is shown of a window: the image, the series, and a row of numbers beside them.

- Everything here is read from bars t−63 … t of one symbol, and from the fingerprint at t.
- `skip` is what every variant gets past its convolutions, the plainest rival's inputs: the last
  moves, and where in the day and the week the bar stands. A snapshot of a surface has no time of
  day; those two places hold the level of the measure instead.
- `table` lays the same inputs flat for models that take rows (LightGBM, logistic regression). The
  image is left out there: it is drawn from the series.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.baskets import basket_lines
from atlas.charts import CHART_SHAPE, WINDOW, render, render_series, render_surfaces
from atlas.surfaces import STRIKES, TENORS, atm_iv, butterfly, skew_iv
from atlas.windows import (
    IV_FLOOR,
    VARIANCE_FLOOR,
    Measure,
    Panel,
    bar_variance,
    log_positive,
    measure_iv,
)

__all__ = ["HAR", "IMAGES", "SKIP", "SKIP_SURFACE", "TABLE_MARKET", "Inputs", "gather", "table"]

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Positions = NDArray[np.int64]

_MOVES: Final = 5
_LAST: Final = tuple(f"move_{i}" for i in range(1, _MOVES + 1))  # move_1 is the newest
_WEEK: Final = ("week_sin", "week_cos")
SKIP: Final = (*_LAST, "time_sin", "time_cos", *_WEEK)
SKIP_SURFACE: Final = (*_LAST, "measure_z", "measure_level", *_WEEK)
IMAGES: Final = {"chart": CHART_SHAPE, "surface": (2, TENORS, STRIKES, WINDOW)}
HAR: Final = (5, 20, WINDOW - 1)  # bars over which past variance is averaged
TABLE_MARKET: Final = 0  # the column of `table` that holds the market's index
_LEVEL: Final = 0.1  # iv; the unit of a surface's level
_LIMIT: Final = 8.0  # window sds; as in the series
_DAY: Final = 86_400_000_000  # microseconds
_MONDAY: Final = 3  # 1970-01-01 was a Thursday


class Inputs(NamedTuple):
    """A batch of windows of one modality; arrays here, tensors of the same fields in the model.

    Attributes:
        modality: "chart" or "surface".
        image: (B, 4, 32, 64) charts, (B, 2, 3, 9, 64) surfaces and their mask.
        series: (B, 5, 64) scaled OHLCV; for surfaces at-the-money iv, skew, butterfly, the second
            tenor's butterfly, and its at-the-money iv less the first's, each a z-score in the
            window.
        fingerprint: (B, F) raw, NaN where undefined.
        skip: (B, D), columns `SKIP` or `SKIP_SURFACE`, finite.
        har: (B, 3) log of the mean variance a bar over the last `HAR` bars.
        rule: (B,) int8 index of the expert that the rule gate names.
        market: (B,) int8 index into the model's markets, −1 if unknown to it.
        log_timeframe: (B,) log of the seconds of a bar.
        vol_ratio: (B,) log(volatility of the window per day / vol30), 0 where undefined.
        basket: (B, 2·K, 64) lines of a basket of K series (`atlas.baskets`); K is 0 without one.
        basket_fingerprint: (B, 1 + K) raw, NaN where undefined; (B, 0) without a basket.
    """

    modality: str
    image: Any
    series: Any
    fingerprint: Any
    skip: Any
    har: Any
    rule: Any
    market: Any
    log_timeframe: Any
    vol_ratio: Any
    basket: Any = np.zeros((0, 0, WINDOW), np.float32)
    basket_fingerprint: Any = np.zeros((0, 0), np.float32)


def gather(
    panel: Panel,
    ends: Positions,
    *,
    market_index: int,
    measure: Measure = "butterfly",
    image: Singles | None = None,
) -> Inputs:
    """Collect the inputs of the windows that end at `ends`.

    Args:
        panel: the market.
        ends: (B,) positions with WINDOW bars of their own symbol up to them, themselves included.
        market_index: place of the market in the model's list, −1 if it has none.
        measure: the surface's number whose moves and level go to `skip`.
        image: buffer (B, *IMAGES[modality]) to draw into; made if left out.
    """
    ends = np.ascontiguousarray(ends, np.int64)
    if image is None:
        image = np.empty((ends.size, *IMAGES[panel.modality]), np.float32)
    if panel.modality == "surface":
        parts = _surface(panel, ends, measure, image)
    else:
        parts = _chart(panel, ends, image)
    series, moves, place, variance, volatility = parts
    day = (panel.session[ends] + _MONDAY) % 7 * (2 * np.pi / 7)
    skip = np.column_stack([moves, place, np.sin(day), np.cos(day)])  # (B, D)
    floor = IV_FLOOR if panel.modality == "surface" else VARIANCE_FLOOR
    means = [_mean(variance[:, -bars:]) for bars in HAR]
    har = np.log(np.fmax(np.column_stack(means), floor))  # (B, 3)
    fingerprint = panel.fingerprint[ends]
    per_day = volatility * np.sqrt(panel.timeframe.bars_per_day)
    return Inputs(
        panel.modality,
        image,
        series,
        fingerprint,
        _clean(skip),
        _clean(har),
        panel.rule[ends],
        np.full(ends.size, market_index, np.int8),
        np.full(ends.size, np.log(panel.timeframe.seconds), np.float32),
        _clean(_log_ratio(per_day, fingerprint[:, 0].astype(np.float64))),
        *_basket(panel, ends),
    )


def table(inputs: Inputs) -> Singles:
    """Lay a batch of arrays flat, (B, P): market, series, numbers, for surfaces the last grid."""
    rows = inputs.market.size
    columns = [
        inputs.market.astype(np.float32)[:, None],
        inputs.series.reshape(rows, -1),
        inputs.skip,
        inputs.fingerprint,
        inputs.har,
        inputs.log_timeframe[:, None],
        inputs.vol_ratio[:, None],
    ]
    if inputs.modality == "surface":
        columns.append(inputs.image[:, 0, :, :, -1].reshape(rows, -1))
    return np.concatenate(columns, axis=1, dtype=np.float32)


_Parts = tuple[Singles, Floats, Floats, Floats, Floats]


def _chart(panel: Panel, ends: Positions, image: Singles) -> _Parts:
    bars = panel.values
    render(bars, ends, image)
    series = np.empty((ends.size, len(bars), WINDOW), np.float32)
    render_series(bars, ends, series)
    positions = _positions(ends)
    returns = np.diff(log_positive(bars[3, positions]), axis=1)  # (B, T-1)
    if panel.timeframe.is_intraday:  # as `bar_variance`, which would take three logs more
        variance = np.full(positions.shape, np.nan)  # (B, T)
        variance[:, 1:] = returns**2
    else:
        variance = bar_variance(bars[:, positions], modality="chart", is_intraday=False)
    moves = _in_sd(returns[:, : -_MOVES - 1 : -1], returns)
    time = panel.timestamp[ends] % _DAY * (2 * np.pi / _DAY)
    place = np.column_stack([np.sin(time), np.cos(time)])
    return series, moves, place, variance, np.sqrt(_mean(returns**2))


def _surface(panel: Panel, ends: Positions, measure: Measure, image: Singles) -> _Parts:
    render_surfaces(panel.values, ends, image)
    grid = panel.values[_positions(ends).ravel()]  # (B·T, 3, 9)
    far = grid[:, 1:]  # its nearest tenor is the second
    lines = (atm_iv(grid), skew_iv(grid), butterfly(grid), butterfly(far), atm_iv(far))
    rows = np.stack(lines).reshape(len(lines), ends.size, WINDOW)  # (5, B, T)
    rows[4] -= rows[0]
    series = np.stack([_in_sd(row - _mean(row)[:, None], row) for row in rows], axis=1)
    level = measure_iv(grid, measure).reshape(ends.size, WINDOW)
    changes = np.diff(level, axis=1)
    moves = _in_sd(changes[:, : -_MOVES - 1 : -1], level)
    z = _in_sd(level[:, -1:] - _mean(level)[:, None], level)
    place = np.column_stack([z, level[:, -1:] / _LEVEL])
    variance = np.abs(np.diff(rows[0], axis=1, prepend=np.nan))
    returns = np.diff(log_positive(rows[0]), axis=1)
    return _clean(series), moves, place, variance, np.sqrt(_mean(returns**2))


def _basket(panel: Panel, ends: Positions) -> tuple[Singles, Singles]:
    if panel.basket is None:
        return np.zeros((ends.size, 0, WINDOW), np.float32), np.zeros((ends.size, 0), np.float32)
    closes = log_positive(panel.values[3, _positions(ends)])
    return basket_lines(panel.basket, closes, ends), panel.basket.fingerprint[ends]


def _positions(ends: Positions) -> Positions:
    """Return the positions of the bars of each window, (B, T)."""
    return np.asarray(ends[:, None] + np.arange(1 - WINDOW, 1))


def _mean(x: Floats) -> Floats:
    """Return the mean of each row's known values, (B,); NaN for none."""
    known = np.isfinite(x)
    if known.all():  # the usual case, in a third of the time
        return np.asarray(x.sum(axis=1) / x.shape[1])
    count = known.sum(axis=1)
    total = np.where(known, x, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _in_sd(x: Floats, window: Floats) -> Floats:
    """Return rows of `x` in standard deviations of rows of `window`, clipped, 0 if undefined."""
    centered = window - _mean(window)[:, None]
    sd = np.sqrt(_mean(centered**2))[:, None]
    scaled = x / np.where(sd > 1e-12, sd, np.nan)
    return np.where(np.isnan(scaled), 0.0, np.clip(scaled, -_LIMIT, _LIMIT))


def _log_ratio(above: Floats, below: Floats) -> Floats:
    known = (above > 0) & (below > 0)
    return np.where(known, np.log(np.where(known, above, 1) / np.where(known, below, 1)), 0.0)


def _clean(x: Floats) -> Singles:
    """Return float32 with 0 for what is not finite."""
    return np.where(np.isfinite(x), x, 0.0).astype(np.float32)
