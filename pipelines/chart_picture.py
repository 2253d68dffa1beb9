"""A window of bars as the model sees it, beside a candlestick for people: `report --chart SYMBOL`.

The four channels of a chart are shown as they are given to the network, row 0 at the bottom; a
window of surfaces as its rows of strikes, nearest tenor first, beside the quotes themselves. Both
show the newest window that a night knows. Nothing downstream reads the picture.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atlas.bars import COLUMNS, adjusted
from atlas.charts import WINDOW, render, render_surfaces
from atlas.config import ATLASConfig, MarketConfig
from atlas.errors import DataError
from atlas.surfaces import atm_iv, skew_iv, surface_grid
from pipelines import store
from pipelines.files import write_bytes
from pipelines.paths import Paths

__all__ = ["save"]

_CHANNELS = ("range", "body", "close", "volume")
_UP, _DOWN = "#2a9d62", "#c8452f"

Floats = NDArray[np.float64]


def save(paths: Paths, config: ATLASConfig, symbol: str, *, as_of: pd.Timestamp) -> list[Path]:
    """Draw the newest window of `symbol` in every market that has it; return the files.

    Raises:
        DataError: no market has the symbol, or it has fewer than 64 bars by `as_of`.
    """
    files = []
    for market, settings in config.markets.items():
        if symbol in store.symbols(paths, market):
            bars = store.read_bars(paths, market, symbol, as_of=as_of, config=settings)
            figure = _figure(bars, settings, f"{market}/{symbol}")
            path = paths.artifacts / "charts" / f"{market}-{symbol}.png"
            write_bytes(path, _png(figure))
            files.append(path)
    if not files:
        raise DataError(
            f"{symbol}: expected a symbol of the store; the markets {', '.join(config.markets)} "
            f"in {paths.data} have none of that name"
        )
    return files


def _figure(bars: pd.DataFrame, settings: MarketConfig, name: str) -> Figure:
    if settings.modality == "surface":
        stamps, grid = surface_grid(bars)
        _long_enough(len(stamps), name)
        return _surface_figure(grid, f"{name}, to {stamps[-1]:%Y-%m-%d %H:%M}")
    _long_enough(len(bars), name)
    values = adjusted(bars)[list(COLUMNS)].to_numpy(np.float64).T  # (5, N)
    return _chart_figure(values, f"{name}, {settings.timeframe} to {bars.index[-1]:%Y-%m-%d %H:%M}")


def _long_enough(found: int, name: str) -> None:
    if found < WINDOW:
        raise DataError(f"{name}: expected {WINDOW} bars for a window; got {found}")


def _chart_figure(values: Floats, title: str) -> Figure:
    image = render(values, np.array([values.shape[1] - 1]))[0]  # (4, H, T)
    figure = Figure(figsize=(14, 5), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    _candles(figure.add_subplot(grid[:, :2]), values[:, -WINDOW:], title)
    for k, channel in enumerate(_CHANNELS):
        axes = figure.add_subplot(grid[k // 2, 2 + k % 2])
        low = -1 if channel == "body" else 0
        colors = "RdYlGn" if channel == "body" else "gray_r"
        axes.imshow(image[k], origin="lower", aspect="auto", vmin=low, vmax=1, cmap=colors)
        axes.set_title(f"channel {k}: {channel}", fontsize=9)
    return figure


def _candles(axes: Axes, window: Floats, title: str) -> None:
    opened, high, low, close = window[:4]  # (T,) each
    time = np.arange(WINDOW)
    colors = np.where(close >= opened, _UP, _DOWN).tolist()
    axes.vlines(time, low, high, colors=colors, linewidth=1)
    axes.bar(time, close - opened, bottom=opened, width=0.6, color=colors)
    axes.set_title(title)
    axes.set_xlabel(f"the last {WINDOW} bars, adjusted prices")


def _surface_figure(grid: Floats, title: str) -> Figure:
    image = render_surfaces(grid, np.array([len(grid) - 1]))[0]  # (2, 3, 9, T)
    figure = Figure(figsize=(14, 5), layout="constrained")
    places = figure.add_gridspec(2, 4)
    axes = figure.add_subplot(places[:, :2])
    axes.plot(atm_iv(grid)[-WINDOW:], color="black", label="at the money, nearest tenor")
    axes.plot(skew_iv(grid)[-WINDOW:], color=_DOWN, label="25-delta put − call")
    axes.set_title(title)
    axes.set_xlabel(f"the last {WINDOW} snapshots; implied volatility")
    axes.legend()
    shown = [(f"tenor {tenor + 1}", image[0, tenor]) for tenor in range(image.shape[1])]
    for k, (name, rows) in enumerate([*shown, ("mask, tenor 1", image[1, 0])]):
        axes = figure.add_subplot(places[k // 2, 2 + k % 2])
        axes.imshow(rows, origin="lower", aspect="auto", cmap="viridis" if k < 3 else "gray")
        axes.set_title(f"{name}: strikes × time", fontsize=9)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
