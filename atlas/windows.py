"""Windows of bars: what a model is asked, what it may learn from, and what it is tested on.

- A panel lays a market's symbols end to end, so a window is one number: the position of its end.
- The label of bar t reads bars t+1 … t+skip+horizon of its own symbol; intraday it never crosses
  the session's close, and never a roll: the jump from one futures contract to the next is no move
  that anyone earned. Exact ties are dropped and counted, never called up or down.
- The second target, log realised variance, reads t+1 … t+volatility_horizon. It may be missing
  where the direction is known.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.baskets import Basket
from atlas.errors import ConfigError, DataError
from atlas.surfaces import atm_iv, butterfly, skew_iv

__all__ = [
    "IV_FLOOR",
    "TIE",
    "VARIANCE_FLOOR",
    "WINDOW",
    "Labels",
    "MarketData",
    "Panel",
    "Question",
    "Split",
    "bar_variance",
    "coming_moves",
    "label",
    "log_positive",
    "measure_iv",
    "moves",
    "told_law",
]

Kind = Literal["direction", "relative_direction", "surface_change"]
Measure = Literal["skew", "butterfly"]
Modality = Literal["chart", "surface"]
Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]

WINDOW = 64  # bars; atlas.charts draws as many
TIE = 1e-12  # moves this small are rounding of equal quotes: no quote moves so little
VARIANCE_FLOOR = 1e-10  # a move of .001 %: the log of a silent stretch stays finite
IV_FLOOR = 1e-4  # .01 vol points, for the same reason
_VOL30 = 0  # vol30 is the first fingerprint column


@dataclass(frozen=True, eq=False)
class Panel:
    """One market's bars or surfaces, symbols end to end.

    Shapes: offsets (n+1,), symbol i at offsets[i]:offsets[i+1]; timestamp (N,) microseconds UTC
    of the bar's open; session (N,) days since 1970-01-01; values (5, N) adjusted OHLCV or
    (N, 3, 9) implied vol; fingerprint (N, F), NaN where undefined; rule (N,) index into
    EXPERT_IDS; probability (N,) of the next move up where the law is known, else None; law (N,)
    index into EXPERT_IDS of the law followed, −1 where unknown, None for real bars. No model reads
    either of the last two; `told_law` is the one way that a law reaches a gate. basket: what other
    series showed, None unless a cross-asset expert asks (`atlas.hedge.with_hedges`). contract (N,):
    number of the futures contract that a bar is of, None where bars name none; NaN is no contract.
    """

    market: str
    modality: Modality
    timeframe: Timeframe
    symbols: tuple[str, ...]
    offsets: Positions
    timestamp: Positions
    session: Positions
    values: Floats
    fingerprint: NDArray[np.float32]
    rule: NDArray[np.int8]
    has_close: bool
    probability: Floats | None = None
    law: NDArray[np.int8] | None = None
    basket: Basket | None = None
    contract: Floats | None = None

    @property
    def first(self) -> Positions:
        """Position of the first bar of each bar's own symbol, (N,)."""
        return np.repeat(self.offsets[:-1], np.diff(self.offsets))

    @property
    def index(self) -> Positions:
        """Index of each bar within its own symbol, (N,)."""
        return np.arange(self.timestamp.size) - self.first

    def symbol_of(self, ends: Positions) -> NDArray[np.str_]:
        """Return the symbol of each position, (B,)."""
        return np.asarray(self.symbols)[np.searchsorted(self.offsets, ends, side="right") - 1]

    def reached(self, day: int) -> Positions:
        """Return the first position of each bar's own symbol in session `day` or later, (N,).

        A symbol that ends before `day` gives the position after its last bar.
        """
        spans = list(zip(self.offsets[:-1], self.offsets[1:], strict=True))
        found = [a + np.searchsorted(self.session[a:b], day) for a, b in spans]
        return np.repeat(np.asarray(found, np.int64), np.diff(self.offsets))


class Question(NamedTuple):
    """What the labels of a market ask."""

    kind: Kind = "direction"
    measure: Measure = "skew"
    horizon: int = 1
    skip: int = 0


@dataclass(frozen=True, eq=False)
class Labels:
    """Targets of every bar of a panel.

    direction (N,) is 1 up, 0 down, NaN unknown or tied; log_rv (N,) NaN where unknown; last (N,)
    the position of the last bar that either target reads; ties the number of ties; tied (N,).
    """

    direction: NDArray[np.float32]
    log_rv: NDArray[np.float32]
    last: Positions
    ties: int
    tied: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    question: Question = field(default_factory=Question)


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the window ends of each part, ascending; ties dropped from the test grid."""

    train: Positions
    validation: Positions
    test: Positions
    test_ties: int = 0


@dataclass(frozen=True, eq=False)
class MarketData:
    """One market, ready to train and score on."""

    panel: Panel
    labels: Labels
    split: Split


def told_law(data: MarketData) -> MarketData:
    """Return the market with the true law's expert in place of the rule's verdicts.

    It is what the oracle gate (`moe_oracle`) trains and scores on, and nothing else should see.

    Raises:
        DataError: the laws are not known: real bars, or truth of before laws were written.
    """
    law = data.panel.law
    if law is None or (law < 0).any():
        raise DataError(
            f"{data.panel.market}: expected a known law for every bar, got none: the oracle gate "
            "exists on simulated markets alone; leave moe_oracle and gate: oracle to them"
        )
    return replace(data, panel=replace(data.panel, rule=law))


def label(
    panel: Panel,
    *,
    kind: Kind = "direction",
    measure: Measure = "skew",
    horizon: int = 1,
    skip: int = 0,
    volatility_horizon: int = 5,
) -> Labels:
    """Label every bar with the sign of its coming move and its coming log realised variance.

    Args:
        panel: the market.
        kind: `direction` of the log return, `relative_direction` of return / vol30 against the
            median over symbols at the same time, `surface_change` of `measure`.
        measure: the surface's number whose change is asked for.
        horizon: bars of the move.
        skip: bars between the window's end and the move's start.
        volatility_horizon: bars of the variance: squared log returns intraday, Garman and Klass
            (1980) on daily and longer bars, absolute changes of at-the-money iv for surfaces.
            Sums are floored at VARIANCE_FLOOR or IV_FLOOR before the log.

    Raises:
        ConfigError: `kind` does not fit the market's modality.
    """
    positions = np.arange(panel.timestamp.size)
    question = Question(kind, measure, horizon, skip)
    reach = skip + horizon
    seen, quiet = _inside(panel, reach), _inside(panel, volatility_horizon)
    move = coming_moves(panel, question)
    tied = np.abs(move) <= TIE
    direction = np.where(np.isnan(move) | tied, np.nan, move > 0)
    log_rv = np.where(quiet, _log_variance_ahead(panel, volatility_horizon), np.nan)
    last = positions + np.maximum(seen * reach, quiet * volatility_horizon)
    return Labels(
        direction.astype(np.float32),
        log_rv.astype(np.float32),
        last,
        int(tied.sum()),
        tied,
        question,
    )


def moves(panel: Panel, *, kind: Kind, measure: Measure, horizon: int) -> Floats:
    """Return the move that each bar ends, (N,): what was asked `horizon` bars before it.

    NaN for the first `horizon` bars of a symbol and wherever a quote is missing or not positive.

    Raises:
        ConfigError: `kind` does not fit the market's modality.
    """
    if (kind == "surface_change") != (panel.modality == "surface"):
        raise ConfigError(
            f"{panel.market}: expected a label that fits modality {panel.modality!r} "
            f"(surface_change asks for surfaces, the others for charts); got {kind!r}"
        )
    level = _level(panel.values, kind, measure)
    change = np.full(level.size, np.nan)
    change[horizon:] = level[horizon:] - level[:-horizon]
    if kind == "relative_direction":
        vol30 = np.full(level.size, np.nan)
        vol30[horizon:] = panel.fingerprint[:-horizon, _VOL30]
        scaled = pd.Series(change / np.where(vol30 > 0, vol30, np.nan))
        scaled[panel.index < horizon] = np.nan
        change = np.array(scaled - scaled.groupby(panel.timestamp).transform("median"))
    change[panel.index < horizon] = np.nan
    return change


def coming_moves(panel: Panel, question: Question) -> Floats:
    """Return the move that each bar is asked about, (N,), NaN where none may be asked.

    Log returns, or vol points of a surface's measure; a relative direction's is in units of vol30.
    """
    kind, measure, horizon, skip = question
    past = moves(panel, kind=kind, measure=measure, horizon=horizon)
    reach = skip + horizon
    return np.where(_inside(panel, reach), _ahead(past, reach), np.nan)


def _level(values: Floats, kind: Kind, measure: Measure) -> Floats:
    """Return what moves, (N,): the surface's measure, or the log close."""
    return measure_iv(values, measure) if kind == "surface_change" else log_positive(values[3])


def measure_iv(grid: Floats, measure: Measure) -> Floats:
    """Return skew or butterfly of the nearest tenor, (N,), for a grid (N, 3, 9)."""
    return skew_iv(grid) if measure == "skew" else butterfly(grid)


def log_positive(x: Floats) -> Floats:
    """Return the log of what is positive, NaN for the rest."""
    return np.asarray(np.log(np.where(x > 0, x, np.nan)))


def bar_variance(values: Floats, *, modality: Modality, is_intraday: bool) -> Floats:
    """Return what each bar adds to realised variance, (…, T) for (5, …, T) or (T, 3, 9) values.

    Intraday: the squared log return. Daily and longer: ½·ln(high/low)² − (2·ln 2 − 1)·
    ln(close/open)² (Garman and Klass, 1980), the night not included. Surfaces: |Δ at-the-money
    iv|, which is in vol points. The first of a series is NaN where it needs the one before.
    """
    if modality == "surface":
        changes: Floats = np.diff(atm_iv(values), prepend=np.nan)
        return np.abs(changes)
    opens, highs, lows, closes = log_positive(values[:4])
    if is_intraday:
        returns: Floats = np.diff(closes, axis=-1, prepend=np.nan)
        return returns**2
    return np.asarray(0.5 * (highs - lows) ** 2 - (2 * np.log(2) - 1) * (closes - opens) ** 2)


def _log_variance_ahead(panel: Panel, ahead: int) -> Floats:
    """Return log of the variance of the next `ahead` bars, (N,), whatever symbol they are of."""
    intraday = panel.timeframe.is_intraday
    variance = bar_variance(panel.values, modality=panel.modality, is_intraday=intraday)
    variance[panel.offsets[:-1]] = 0.0  # never read: bar t+1 of a symbol is not its first
    sums = _ahead(_trailing_sum(variance, ahead), ahead)
    floor = IV_FLOOR if panel.modality == "surface" else VARIANCE_FLOOR
    return np.asarray(np.log(np.maximum(sums, floor)))


def _trailing_sum(x: Floats, length: int) -> Floats:
    """Return sums over the last `length` values, NaN if any is missing.

    Added window by window: in a running total, one wild bar would cost all later sums their digits.
    """
    padded = np.concatenate([np.zeros(length - 1), x])
    total = np.zeros(x.size)
    for start in range(length):
        total += padded[start : start + x.size]
    return total


def _ahead(x: Floats, bars: int) -> Floats:
    """Return the value `bars` later, NaN past the end."""
    out = np.full(x.size, np.nan)
    out[: max(x.size - bars, 0)] = x[bars:]
    return out


def _inside(panel: Panel, reach: int) -> Flags:
    """Say which bars have their next `reach` bars in their own symbol and, if it closes, session.

    Where bars name their contract, it is the same all the way; a bar without one is no stretch's.
    Sessions ascend within a symbol, so looking at the last bar of the stretch is enough; a contract
    may come back, so rolls are counted.
    """
    n = panel.timestamp.size
    target = np.minimum(np.arange(n) + reach, max(n - 1, 0))
    ends = np.repeat(panel.offsets[1:], np.diff(panel.offsets))
    inside = np.arange(n) + reach < ends
    if panel.has_close and panel.timeframe.is_intraday and panel.modality == "chart":
        inside &= panel.session[target] == panel.session
    if panel.contract is not None:
        rolls = np.cumsum(np.diff(panel.contract, prepend=panel.contract[:1]) != 0)  # NaN counts
        inside &= (rolls[target] == rolls) & np.isfinite(panel.contract)
    return np.asarray(inside)
