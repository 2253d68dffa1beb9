"""Bars a second of `fingerprint`, against pandas (apply and built in), and a copy as the floor.

The peers compute what they can express of the same columns: `apply` all windowed ones, the built-in
rolling methods all but trend_r2. They run on fewer bars, as a rate; the copy is of the columns that
come in and the table that goes out, at full length.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from atlas.data_fingerprint import fingerprint
from benchmarks.harness import Ratio, Report, interleave, ratio, timing

__all__ = ["run"]

BARS = 1_000_000
APPLY_BARS = 3_000
BUILT_IN_BARS = 200_000
ROUNDS = 7


def run(seed: int) -> Report:
    """Measure one core at a million bars."""
    bars = _bars(BARS, seed)
    table = fingerprint(bars, "1min")
    works: dict[str, Callable[[], object]] = {
        "fingerprint": lambda: fingerprint(bars, "1min"),
        "copy of the same columns": lambda: (bars.copy(deep=True), table.copy(deep=True)),
        "pandas built-in rolling": lambda: _built_in(bars.iloc[:BUILT_IN_BARS]),
        "pandas rolling + apply": lambda: _apply(bars.iloc[:APPLY_BARS]),
    }
    sizes = dict(zip(works, (BARS, BARS, BUILT_IN_BARS, APPLY_BARS), strict=True))
    seconds = interleave(works, ROUNDS)
    rates = {name: [sizes[name] / s for s in values] for name, values in seconds.items()}
    ours = rates["fingerprint"]
    ratios: list[Ratio] = [
        ratio("over_pandas_apply", ours, rates["pandas rolling + apply"], 500),
        ratio("over_pandas_built_in", ours, rates["pandas built-in rolling"], None),
        ratio("share_of_copy_floor", ours, rates["copy of the same columns"], 0.40),
    ]
    return Report([timing(name, "bars/s", rate) for name, rate in rates.items()], ratios)


def _bars(n: int, seed: int) -> pd.DataFrame:
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
    index = pd.date_range("2020-01-01", periods=n, freq="min", tz="UTC", unit="us")
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
