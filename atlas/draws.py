"""Fresh simulated markets in memory: larger sets than a home holds, with seeds of their own.

- A part (train, validation, test) has paths of its own, so no level, law or luck of a path is
  shared between what is learned and what is scored. More paths, not longer ones, make a figure
  sure: a path has one law and one level.
- Every path is warmed up as long as a fingerprint looks back (thirty sessions, or 330 days), then
  cut to what windows need. A minute market thus simulates 43,000 bars for some hundred windows;
  its vol30 would otherwise be another quantity than on a home.
- Windows are spread evenly over a path's last sessions; ties are left out as everywhere.
- What is drawn is what a home would hold: the same laws, fingerprints, rule and labels, the truth
  beside them. Rounding to files is part of the laws, so nothing is lost by not writing any.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import COLUMNS, Timeframe
from atlas.calendars import has_close, session_days
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, MarketConfig
from atlas.data_fingerprint import (
    FINGERPRINT_COLUMNS,
    LOOKBACK,
    VOL_SESSIONS,
    fingerprint,
    fingerprint_surfaces,
)
from atlas.errors import ConfigError
from atlas.rule import MEMORY, hysteresis, rule_experts
from atlas.sampling import spread_evenly
from atlas.surfaces import on_strikes
from atlas.synthetic import (
    LAWS,
    QUOTED,
    SimulatedPath,
    simulate_paths,
    symbol_names,
    timestamps,
)
from atlas.windows import WINDOW, Labels, MarketData, Panel, Split, label

__all__ = ["PATHS", "draw_markets"]

PATHS = 64  # of a market and part
Positions = NDArray[np.int64]
_PARTS = ("train", "validation", "test")
_SPARE = 1.1  # more bars than windows: ties, early closes, a session's last bar


class _Path(NamedTuple):
    """One path cut to what its windows need: (5, n) or (n, 3, 9), the rest (n, …)."""

    grid: NDArray[np.float64]
    fingerprint: NDArray[np.float32]
    rule: NDArray[np.int8]
    probability: NDArray[np.float64]
    law: int


def draw_markets(
    config: ATLASConfig,
    *,
    seed: int,
    train: int = 0,
    validation: int = 0,
    test: int = 0,
    paths: int | Mapping[str, int] = PATHS,
) -> dict[str, MarketData]:
    """Draw the simulated markets anew.

    Args:
        config: its `simulated.markets` are drawn, in the order of `markets`, ending at
            `simulated.as_of`; the numbers of symbols and sessions there do not count.
        seed: another than `simulated.seed`, and another for each set that must be independent.
        train, validation, test: windows of each part and market, 0 or more.
        paths: of each part and market, or by part; a part has at most as many as windows.

    Returns:
        The markets with p and law known; each split holds exactly the windows asked for. The same
        arguments draw the same bits.

    Raises:
        ConfigError: the source is not simulated, or the seed is the home's own, or nothing is
            asked for.

    Example:
        `draw_markets(config, seed=101, train=32_000, validation=4_000)` and
        `draw_markets(config, seed=201, test=50_000)` share no path.
    """
    windows = {"train": train, "validation": validation, "test": test}
    if config.source != "simulated" or seed == config.simulated.seed:
        raise ConfigError(
            "draw_markets: expected source simulated and a seed other than simulated.seed "
            f"({config.simulated.seed}); got source {config.source} and seed {seed}"
        )
    if min(windows.values()) < 0 or not any(windows.values()):
        raise ConfigError(f"draw_markets: expected windows of at least one part, got {windows}")
    counts = {
        part: min(paths if isinstance(paths, int) else paths.get(part, PATHS), count)
        for part, count in windows.items()
    }
    names = [name for name in config.markets if name in config.simulated.markets]
    return {name: _market(config, name, seed, windows, counts) for name in names}


def _market(
    config: ATLASConfig,
    market: str,
    seed: int,
    windows: Mapping[str, int],
    counts: Mapping[str, int],
) -> MarketData:
    settings, ask = config.markets[market], config.label(market)
    each = max(math.ceil(windows[part] / counts[part]) for part in _PARTS if counts[part])
    timeframe = Timeframe.parse(settings.timeframe)
    warm_up = VOL_SESSIONS + 1 if timeframe.is_intraday else LOOKBACK + WINDOW + 9
    bars_a_day = LAWS[market].bars_a_day
    wanted = math.ceil(_SPARE * each / max(bars_a_day - 1, 1)) + 1
    night = pd.Timestamp(config.simulated.as_of, tz="UTC")
    times = timestamps(
        market,
        history=warm_up + max(wanted, ask.horizon + ask.skip + 3),
        history_end=night,
        timeframe=timeframe,
        calendar=settings.calendar,
        as_of=night,
    )
    days = session_days(times, settings.calendar, timeframe)
    first = int(np.searchsorted(days, np.unique(days)[warm_up])) - WINDOW
    drawn = simulate_paths(market, symbols=sum(counts.values()), bars=len(times), seed=seed)
    found = [_path(one, times, settings, first) for one in drawn]
    panel = _panel(market, settings, (times[first:], days[first:]), found)
    labels = label(
        panel,
        kind=ask.kind,
        measure=ask.measure,
        horizon=ask.horizon,
        skip=ask.skip,
        volatility_horizon=settings.volatility_horizon,
    )
    return MarketData(panel, labels, _split(panel, labels, windows, counts))


def _path(one: SimulatedPath, times: pd.DatetimeIndex, settings: MarketConfig, first: int) -> _Path:
    """Fingerprint a path and leave out its first `first` bars."""
    step, is_surface = Timeframe.parse(settings.timeframe), settings.modality == "surface"
    if is_surface:
        values = on_strikes(one.steps)
        rows = fingerprint_surfaces(times, values)
    else:
        bars = pd.DataFrame(one.steps, columns=list(QUOTED), index=times)
        rows = fingerprint(bars, settings.timeframe, calendar=settings.calendar)
        values = bars[list(COLUMNS)].to_numpy(np.float64).T
    table = rows[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
    recent = table[first - MEMORY :]
    verdicts = hysteresis(rule_experts(recent, settings.modality, step))
    return _Path(
        (values[first:] if is_surface else values[:, first:]).copy(),
        table[first:].copy(),
        verdicts[MEMORY:],
        one.probability[first:].copy(),
        EXPERT_IDS.index(one.expert_id),
    )


def _panel(
    market: str,
    settings: MarketConfig,
    shared: tuple[pd.DatetimeIndex, Positions],
    paths: list[_Path],
) -> Panel:
    """Lay paths end to end; they share their times and days, (n,)."""
    (times, days), count = shared, len(paths)
    axis = 0 if settings.modality == "surface" else 1
    return Panel(
        market=market,
        modality=settings.modality,
        timeframe=Timeframe.parse(settings.timeframe),
        symbols=symbol_names(market, count),
        offsets=np.arange(count + 1, dtype=np.int64) * len(times),
        timestamp=np.tile(times.as_unit("us").asi8, count),
        session=np.tile(days, count),
        values=np.ascontiguousarray(np.concatenate([path.grid for path in paths], axis=axis)),
        fingerprint=np.concatenate([path.fingerprint for path in paths]),
        rule=np.concatenate([path.rule for path in paths]),
        has_close=has_close(settings.calendar),
        probability=np.concatenate([path.probability for path in paths]),
        law=np.repeat(np.array([path.law for path in paths], np.int8), len(times)),
    )


def _split(
    panel: Panel, labels: Labels, windows: Mapping[str, int], counts: Mapping[str, int]
) -> Split:
    """Give each part its own paths, and each path an even share of the part's windows."""
    usable = (panel.index >= WINDOW) & np.isfinite(labels.direction)
    parts, begin = {}, 0
    for part in _PARTS:
        count = counts[part]
        shares = [windows[part] // count + (i < windows[part] % count) for i in range(count)]
        spans = zip(panel.offsets[begin:], panel.offsets[begin + 1 :], shares, strict=False)
        chosen = [spread_evenly(a + np.flatnonzero(usable[a:b]), share) for a, b, share in spans]
        assert [len(one) for one in chosen] == shares, "paths are too short for their windows"
        parts[part] = np.concatenate([np.zeros(0, np.int64), *chosen])
        begin += count
    return Split(parts["train"], parts["validation"], parts["test"])
