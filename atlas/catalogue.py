"""The catalogue of experts as rows of data: adding an expert is one row here.

What a row decides:

- which modality an expert serves, and on which timeframes it is at home;
- the ranges of the fingerprint (seed §2) at which the rule gate sends a window to it. A range on
  trend strength or on the Hurst exponent asks two things: the seed's threshold and that a random
  walk would show less with probability `NULL_LEVEL` (30-bar R² ≥ 0.6 holds on 36 % of random
  walks, so the threshold alone says nothing);
- which templates of `atlas.kernels.templates` start with weight one in its row of scales.

The order of the rows is the order of precedence among ranges that hold at once, and is the meaning
of every stored expert index. `DEFAULTS` names, per modality, who serves a window nobody claims.
`CROSS_ASSET` holds experts that see other series beside their own: they serve only where params
name a `basket:`, and their ranges are on its fingerprint (`atlas.baskets`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from atlas.bars import Timeframe

__all__ = [
    "CATALOGUE",
    "CROSS_ASSET",
    "DEFAULTS",
    "EXPERT_IDS",
    "NULL_LEVEL",
    "ExpertSpec",
    "Range",
    "expert_spec",
]

Modality = Literal["chart", "surface"]

NULL_LEVEL = 0.95


@dataclass(frozen=True)
class Range:
    """A half-open or closed interval of one fingerprint column; NaN is outside every range.

    `low` and `high` are in the column's unit; `open_low` and `closed_high` turn the default
    `low <= value < high` around at that end.
    """

    column: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    closed_high: bool = False

    def holds(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Return for each value whether it lies in the range."""
        above = values > self.low if self.open_low else values >= self.low
        below = values <= self.high if self.closed_high else values < self.high
        return np.asarray(above & below)


@dataclass(frozen=True)
class ExpertSpec:
    """One expert: who it is for, when the rule gate chooses it, and the kernels it starts with.

    `timeframes` are the shortest and the longest bar it is meant for, both included.
    """

    id: str
    archetype: str
    prime_uses: str
    timeframes: tuple[str, str]
    modality: Modality
    ranges: tuple[Range, ...]
    kernels: tuple[str, ...]

    def is_home(self, seconds: int) -> bool:
        """Return whether bars of this many seconds are among the expert's timeframes."""
        shortest, longest = (Timeframe.parse(name).seconds for name in self.timeframes)
        return shortest <= seconds <= longest


CATALOGUE: tuple[ExpertSpec, ...] = (
    ExpertSpec(
        id="crypto_hft",
        archetype="Crypto, high-frequency trading",
        prime_uses="BTC and ETH perpetual futures, memecoins, any ultra-volatile pair",
        timeframes=("1s", "1min"),
        modality="chart",
        ranges=(
            Range("vol30", low=0.06),
            Range("spread", high=0.0005, closed_high=True),
            Range("volume_z", low=3.0),
        ),
        kernels=("dog", "mean_reversion_11", "delta_4"),
    ),
    ExpertSpec(
        id="equity_intraday",
        archetype="Large-cap equities intraday",
        prime_uses="AAPL, MSFT during earnings week",
        timeframes=("1min", "15min"),
        modality="chart",
        ranges=(
            Range("vol30", low=0.01, high=0.03),
            Range("trend_r2", low=0.6),
            Range("trend_r2_null", low=NULL_LEVEL),
        ),
        kernels=("momentum_comb", "ramp_ascending", "ramp_descending"),
    ),
    ExpertSpec(
        id="equity_daily",
        archetype="Regular daily stocks",
        prime_uses="Blue-chip swing trading",
        timeframes=("1d", "1d"),
        modality="chart",
        ranges=(Range("vol30", low=0.005, high=0.02), Range("atr", high=0.05)),
        kernels=("head_and_shoulders", "double_bottom"),
    ),
    ExpertSpec(
        id="futures_trend",
        archetype="Commodity and FX futures, long trends",
        prime_uses="CL, GC, EURUSD trend-following",
        timeframes=("30min", "4h"),
        modality="chart",
        ranges=(
            Range("trend_r2", low=0.8),
            Range("trend_r2_null", low=NULL_LEVEL),
            Range("hurst", low=0.55, open_low=True),
            Range("hurst_null", low=NULL_LEVEL),
        ),
        kernels=("trend", "trend_price", "diagonal_up", "diagonal_down"),
    ),
    ExpertSpec(
        id="options_skew",
        archetype="Options implied-vol surfaces",
        prime_uses="At- and out-of-the-money vol-skew arbitrage",
        timeframes=("1d", "1d"),
        modality="surface",
        ranges=(Range("skew_iv", low=0.10), Range("kurtosis", low=4.0, open_low=True)),
        kernels=("laplacian_3d", "smile_curvature"),
    ),
    ExpertSpec(
        id="low_vol_etf",
        archetype="Low-volatility ETFs",
        prime_uses="Bond ETFs, utilities sector",
        timeframes=("1d", "1w"),
        modality="chart",
        ranges=(Range("vol30", high=0.005), Range("turnover_z", high=-1.0)),
        kernels=("gaussian_11", "mean_crossover"),
    ),
)

EXPERT_IDS: tuple[str, ...] = tuple(spec.id for spec in CATALOGUE)
CROSS_ASSET: tuple[ExpertSpec, ...] = (
    ExpertSpec(
        id="inflation_hedge",
        archetype="Assets that move with the inflation-hedge basket",
        prime_uses="TIPS, energy and gold, and what follows them",
        timeframes=("1min", "1w"),
        modality="chart",
        ranges=(Range("hedge_corr", low=0.3),),
        kernels=("mean_crossover", "momentum_comb", "trend", "mean_reversion_11", "delta_4"),
    ),
)
DEFAULTS: dict[str, str] = {"chart": "equity_daily", "surface": "options_skew"}


def expert_spec(expert_id: str) -> ExpertSpec:
    """Return the row of one expert; KeyError when the catalogue has none of that id."""
    for spec in (*CATALOGUE, *CROSS_ASSET):
        if spec.id == expert_id:
            return spec
    known = ", ".join([*EXPERT_IDS, *(spec.id for spec in CROSS_ASSET)])
    raise KeyError(f"expert {expert_id!r}: expected one of {known}")
