"""Bars a second of `fingerprint`, against pandas, polars and NumPy, with a copy as the floor.

- The peers compute what they can express of the same columns: pandas `apply` and NumPy's sliding
  window all windowed ones, built-in rolling methods of pandas and polars all but trend_r2. They run
  on fewer bars, as a rate. The copy is of the columns that come in and the table that goes out.
- Seconds are a processor's, so that they mean one core on a busy machine too.
- Lengths, symbols and the first call are measured by `python -m benchmarks fingerprint_scale`.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view

from atlas.data_fingerprint import fingerprint
from benchmarks.harness import Ratio, Report, interleave, ratio, timing

__all__ = ["random_bars", "rates_of", "run"]

BARS = 1_000_000
ROUNDS = 9

Works = dict[str, Callable[[], object]]


def run(seed: int) -> Report:
    """Measure one core; the peers in the same rounds at a million bars."""
    bars = random_bars(BARS, seed)
    table = fingerprint(bars, "1min")
    works: Works = {
        "fingerprint": lambda: fingerprint(bars, "1min"),
        "copy of the same columns": lambda: (bars.copy(deep=True), table.copy(deep=True)),
        "polars expressions": lambda: _polars(bars.iloc[:200_000]),
        "pandas built-in rolling": lambda: _built_in(bars.iloc[:100_000]),
        "NumPy sliding window": lambda: _sliding(bars.iloc[:20_000]),
        "pandas rolling + apply": lambda: _apply(bars.iloc[:3_000]),
    }
    sizes = dict(zip(works, (BARS, BARS, 200_000, 100_000, 20_000, 3_000), strict=True))
    rates = rates_of(works, sizes, ROUNDS)
    ours = rates["fingerprint"]
    ratios: list[Ratio] = [
        ratio("over_pandas_apply", ours, rates["pandas rolling + apply"], 500),
        ratio("over_numpy_sliding", ours, rates["NumPy sliding window"], None),
        ratio("over_pandas_built_in", ours, rates["pandas built-in rolling"], None),
        ratio("over_polars", ours, rates["polars expressions"], None),
        ratio("share_of_copy_floor", ours, rates["copy of the same columns"], 0.40),
    ]
    results = [timing(name, "bars/s", rate) for name, rate in rates.items()]
    return Report(results, ratios)


def rates_of(works: Works, sizes: dict[str, int], rounds: int) -> dict[str, list[float]]:
    """Return bars a second of a processor, round by round."""
    seconds = interleave(works, rounds, time.process_time)
    return {name: [sizes[name] / s for s in values] for name, values in seconds.items()}


def random_bars(n: int, seed: int) -> pd.DataFrame:
    """Return minutes of a random walk with quotes."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(1e-3 * rng.standard_normal(n)))
    opened = np.concatenate([[100.0], close[:-1]])
    frame = {
        "open": opened,
        "high": np.maximum(opened, close) * (1 + 5e-4 * rng.random(n)),
        "low": np.minimum(opened, close) * (1 - 5e-4 * rng.random(n)),
        "close": close,
        "volume": np.exp(8 + 0.4 * rng.standard_normal(n)),
        "bid": close * (1 - 1e-4),
        "ask": close * (1 + 1e-4),
    }
    index = pd.date_range("1980-01-01", periods=n, freq="min", tz="UTC", unit="us")
    return pd.DataFrame(frame, index=index.rename("timestamp"))


def _ratio_of(x: np.ndarray) -> float:
    return float(((x[4:] - x[:-4]) ** 2).mean() / (np.diff(x) ** 2).mean())


def _z_of(x: np.ndarray) -> float:
    d = np.diff(x)
    theta = sum(
        (2 * (4 - j) / 4) ** 2 * (d[j:] ** 2 * d[:-j] ** 2).sum() / (d**2).sum() ** 2
        for j in (1, 2, 3)
    )
    return float(np.log(_ratio_of(x) / 4) / np.sqrt(theta))


def _r2_of(y: np.ndarray) -> float:
    return float(np.corrcoef(np.arange(y.size), y)[0, 1] ** 2)


def _kurtosis_of(r: np.ndarray) -> float:
    centered = r - r.mean()
    return float((centered**4).mean() / (centered**2).mean() ** 2)


def _last_z(v: np.ndarray) -> float:
    return float((v[-1] - v.mean()) / v.std())


def _apply(bars: pd.DataFrame) -> list[pd.Series]:
    x = _log(bars["close"])
    volume, turnover = _log(bars["volume"]), _log(bars["volume"] * bars["close"])
    spread = (bars["ask"] - bars["bid"]) / (0.5 * (bars["ask"] + bars["bid"]))
    work = (
        (x, 30, _r2_of),
        (x, 257, _ratio_of),
        (x, 257, _z_of),
        (x.diff(), 30, _kurtosis_of),
        (volume, 30, _last_z),
        (turnover, 30, _last_z),
        (spread, 30, np.mean),
        (_true_range(bars), 14, np.mean),
    )
    return [series.rolling(window).apply(f, raw=True) for series, window, f in work]


def _built_in(bars: pd.DataFrame) -> list[pd.Series]:
    x = _log(bars["close"])
    out = [x.diff().rolling(30).kurt(), _true_range(bars).rolling(14).mean()]
    for values in (_log(bars["volume"]), _log(bars["volume"] * bars["close"])):
        rolled = values.rolling(30)
        out.append((values - rolled.mean()) / rolled.std(ddof=0))
    spread = (bars["ask"] - bars["bid"]) / (0.5 * (bars["ask"] + bars["bid"]))
    out.append(spread.rolling(30).mean())
    power, four = x.diff() ** 2, x.diff(4) ** 2
    out.append(four.rolling(253).mean() / power.rolling(256).mean())
    weights = 2.25 * power.shift(1) + power.shift(2) + 0.25 * power.shift(3)
    out.append((power * weights).rolling(253).sum())
    return out


def _log(values: pd.Series) -> pd.Series:
    return pd.Series(np.log(values), index=values.index)


def _true_range(bars: pd.DataFrame) -> pd.Series:
    before = bars["close"].shift(1)
    return bars["high"].where(bars["high"] > before, before) - bars["low"].where(
        bars["low"] < before, before
    )


def _sliding(bars: pd.DataFrame) -> list[np.ndarray]:
    x, volume = np.log(bars["close"].to_numpy()), np.log(bars["volume"].to_numpy())
    turnover = volume + x
    spread = ((bars["ask"] - bars["bid"]) / (0.5 * (bars["ask"] + bars["bid"]))).to_numpy()
    out = [sliding_window_view(spread, 30).mean(axis=1)]
    out.append(sliding_window_view(_true_range(bars).to_numpy(), 14).mean(axis=1))
    for values in (volume, turnover):
        rows = sliding_window_view(values, 30)
        out.append((rows[:, -1] - rows.mean(axis=1)) / rows.std(axis=1))
    moves = sliding_window_view(np.diff(x), 30)
    centered = moves - moves.mean(axis=1, keepdims=True)
    out.append((centered**4).mean(axis=1) / (centered**2).mean(axis=1) ** 2)
    rows = sliding_window_view(x, 30)
    rows = rows - rows.mean(axis=1, keepdims=True)
    when = np.arange(30) - 14.5
    out.append((rows @ when) ** 2 / ((rows**2).sum(axis=1) * (when @ when)))
    power, four = np.diff(x) ** 2, (x[4:] - x[:-4]) ** 2
    total = sliding_window_view(power, 256).sum(axis=1)
    out.append(sliding_window_view(four, 253).mean(axis=1) / (total / 256))
    pair = power[3:] * (2.25 * power[2:-1] + power[1:-2] + 0.25 * power[:-3])
    out.append(np.sqrt(sliding_window_view(pair, 253).sum(axis=1)) / total)
    return out


def _polars(bars: pd.DataFrame) -> pl.DataFrame:
    frame = pl.DataFrame({name: bars[name].to_numpy() for name in bars.columns})
    x, volume = pl.col("close").log(), pl.col("volume").log()
    before, power, four = pl.col("close").shift(1), x.diff() ** 2, x.diff(4) ** 2
    weights = 2.25 * power.shift(1) + power.shift(2) + 0.25 * power.shift(3)
    scores = [
        ((v - v.rolling_mean(30)) / v.rolling_std(30, ddof=0)).alias(name)
        for name, v in (("volume_z", volume), ("turnover_z", volume + x))
    ]
    ranges = pl.max_horizontal("high", before) - pl.min_horizontal("low", before)
    quoted = (pl.col("ask") - pl.col("bid")) / (0.5 * (pl.col("ask") + pl.col("bid")))
    return frame.select(
        *scores,
        x.diff().rolling_kurtosis(30, fisher=False).alias("kurtosis"),
        (ranges.rolling_mean(14) / pl.col("close")).alias("atr"),
        quoted.rolling_mean(30).alias("spread"),
        (four.rolling_mean(253) / power.rolling_mean(256)).alias("ratio"),
        ((power * weights).rolling_sum(253).sqrt() / power.rolling_sum(256)).alias("error"),
    )
