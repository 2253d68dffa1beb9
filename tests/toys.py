"""A small deterministic market for tests: random walks whose next move follows one simple law."""

import numpy as np

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.cuts import cut
from atlas.windows import MarketData, Panel, label

__all__ = ["LAW", "toy_charts", "toy_config", "toy_data", "toy_surfaces"]

LAW = 0.85  # P(the next move has the opposite sign of the last one)
FEATURES = 11
EXPERTS = {"chart": (2, 3), "surface": (4,)}  # rows of EXPERT_IDS that the toy's rule names


def _moves(rng: np.random.Generator, symbols: int, bars: int) -> tuple[np.ndarray, np.ndarray]:
    size = 0.01 * np.abs(rng.standard_normal((symbols, bars)))
    flips = np.where(rng.random((symbols, bars)) < LAW, -1.0, 1.0)
    return size, np.cumprod(flips, axis=1)


def _common(rng: np.random.Generator, symbols: int, bars: int, modality: str) -> dict[str, object]:
    days = np.tile(np.arange(bars), symbols)
    fingerprint = rng.standard_normal((symbols * bars, FEATURES)).astype(np.float32)
    fingerprint[rng.random(fingerprint.shape) < 0.05] = np.nan
    experts = EXPERTS[modality]
    return {
        "modality": modality,
        "timeframe": Timeframe.parse("1d"),
        "symbols": tuple(f"S{i}" for i in range(symbols)),
        "offsets": np.arange(symbols + 1, dtype=np.int64) * bars,
        "timestamp": days * 86_400_000_000,
        "session": days.astype(np.int64),
        "fingerprint": fingerprint,
        # the rule reads the fingerprint's first column, so a gate can learn to agree with it
        "rule": np.where(np.nan_to_num(fingerprint[:, 0]) > 0, experts[0], experts[-1]).astype(
            np.int8
        ),
        "has_close": True,
    }


def toy_charts(market: str = "toy_charts", *, seed: int = 1, bars: int = 400) -> Panel:
    """Three symbols of daily bars that tend to reverse."""
    rng = np.random.default_rng(seed)
    size, signs = _moves(rng, 3, bars)
    close = 100 * np.exp(np.cumsum(size * signs, axis=1))
    opens = np.concatenate([np.full((3, 1), 100.0), close[:, :-1]], axis=1)
    wick = 0.003 * close * np.abs(rng.standard_normal(close.shape))
    volume = np.exp(8 + 0.4 * rng.standard_normal(close.shape))
    rows = (opens, np.maximum(opens, close) + wick, np.minimum(opens, close) - wick, close, volume)
    values = np.stack([row.ravel() for row in rows])
    return Panel(market=market, values=values, **_common(rng, 3, bars, "chart"))


def toy_surfaces(market: str = "toy_surfaces", *, seed: int = 2, bars: int = 400) -> Panel:
    """Two symbols of surfaces whose curvature tends to reverse."""
    rng = np.random.default_rng(seed)
    size, signs = _moves(rng, 2, bars)
    curvature = 0.4 * np.cumsum(size * signs, axis=1).ravel()
    strikes = np.array([-1.0, -0.8, -0.5, -0.2, 0.0, 0.2, 0.5, 0.8, 1.0])
    tenors = np.array([1.0, 0.8, 0.65])
    smile = -0.06 * strikes + curvature[:, None, None] * strikes**2  # (N, 1, S)
    values = 0.25 + tenors[:, None] * smile
    return Panel(market=market, values=values, **_common(rng, 2, bars, "surface"))


def toy_data(*, bars: int = 400, test: int = 60, validation: int = 60) -> dict[str, MarketData]:
    """Two chart markets and one of surfaces, labelled and cut."""
    panels = [
        toy_charts("toy_charts", seed=1, bars=bars),
        toy_charts("toy_more", seed=3, bars=bars),
        toy_surfaces("toy_surfaces", seed=2, bars=bars),
    ]
    data = {}
    for panel in panels:
        kind = "surface_change" if panel.modality == "surface" else "direction"
        labels = label(panel, kind=kind, measure="butterfly")
        split = cut(panel, labels, test=test, validation=validation, horizon=1)
        data[panel.market] = MarketData(panel, labels, split)
    return data


def toy_config(**training: object) -> ATLASConfig:
    """A configuration of `toy_data` with a tiny network."""
    surface = {"modality": "surface", "label": {"kind": "surface_change", "measure": "butterfly"}}
    common = {"timeframe": "1d", "calendar": "24/7"}
    own = {"toy_charts": {}, "toy_more": {}, "toy_surfaces": surface}
    budget = {"epochs": 3, "windows_per_epoch": 24 * 6, "batch": 24}
    return ATLASConfig.parse(
        {
            "markets": {market: {**common, **extra} for market, extra in own.items()},
            "simulated": {"as_of": "2026-11-20", "markets": {}},
            "model": {"chart_width": 2, "series_width": 4, "hidden": 8},
            "training": {**budget, **training},
        }
    )
