"""Panels of processes whose answer is known: random walks, iid noise, hand-written closes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.windows import Panel

__all__ = ["panel_of", "walk"]

KINDS: dict[str, dict[str, Any]] = {
    "crypto": {"timeframe": "1min", "per_session": 1440, "has_close": False},
    "intraday": {"timeframe": "5min", "per_session": 78, "has_close": True},
    "daily": {"timeframe": "1d", "per_session": 1, "has_close": True},
    "surface": {"timeframe": "1d", "per_session": 1, "has_close": True, "modality": "surface"},
}


def panel_of(
    values: NDArray[np.float64],
    *,
    symbols: int = 1,
    timeframe: str = "1d",
    per_session: int = 1,
    has_close: bool = True,
    modality: str = "chart",
    vol30: float = 0.01,
) -> Panel:
    """Lay values (5, N), (N, 3, 9) or closes (N,) out as symbols of equal length."""
    if values.ndim == 1:
        values = np.stack([values, values * 1.01, values * 0.99, values, np.ones_like(values)])
    total = values.shape[0] if modality == "surface" else values.shape[1]
    step = Timeframe.parse(timeframe)
    bars = total // symbols
    day = np.tile(np.arange(bars) // per_session, symbols).astype(np.int64)
    within = np.tile(np.arange(bars) % per_session, symbols)
    return Panel(
        market="market",
        modality=modality,  # type: ignore[arg-type]
        timeframe=step,
        symbols=tuple(f"S{i}" for i in range(symbols)),
        offsets=np.arange(symbols + 1, dtype=np.int64) * bars,
        timestamp=day * 86_400_000_000 + within * step.seconds * 1_000_000,
        session=day,
        values=values,
        fingerprint=np.full((total, 11), vol30, np.float32),
        rule=np.full(total, 2, np.int8),
        has_close=has_close,
    )


def walk(kind: str, *, symbols: int, bars: int, seed: int, iid: bool = False) -> Panel:
    """Make a market of driftless random walks; with `iid`, of noise around a level instead."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((symbols, bars))
    paths = steps if iid else np.cumsum(steps, axis=1)
    if kind != "surface":
        return panel_of(100 * np.exp(1e-3 * paths.ravel()), symbols=symbols, **KINDS[kind])
    values = np.full((symbols * bars, 3, 9), 0.3)
    values[:, :, 2] += 1e-4 * paths.ravel()[:, None]  # the 25-delta put moves skew and butterfly
    values[:, :, 4] += 1e-5 * rng.standard_normal((symbols * bars, 1))
    return panel_of(values, symbols=symbols, **KINDS[kind])
