"""How good the models are: the night's table, and two curves that no table shows.

- Risk and coverage: accuracy over the share of windows answered, the surest first. A model that
  knows when it knows falls from left to right.
- Reliability: of the windows that were given about 60 %, were 60 % up? Ten bins of equally many.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.errors import DataError
from dashboard.reading import columns, footer, json_of, stored
from pipelines.paths import Paths

__all__ = ["Curves", "Line", "curves", "market_lines", "table"]

_POINTS = 60
_BINS = 10
_LEAST = 50  # windows; with fewer a curve is noise
_TRAINED = ("moe_mlp", "moe_rule", "cnn")
_YARDSTICKS = ("lightgbm", "reversal", "base_rate")
_NEEDED = ("market", "model", "n", "base_rate", "accuracy", "accuracy_low", "accuracy_high")

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """One market and model of the table; shares in [0, 1], NaN where there is none."""

    market: str
    model: str
    n: int
    base_rate: float
    accuracy: float
    low: float
    high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float
    lift: float
    seed_figure: float

    @property
    def verdict(self) -> str:
        """Say where the interval lies of the base rate: above, below, or neither."""
        if self.low > self.base_rate:
            return "above"
        return "below" if self.high < self.base_rate else "level"


class Curves(NamedTuple):
    """One model's curves: coverage and accuracy, then predicted share, share up and windows."""

    model: str
    coverage: Floats
    accuracy: Floats
    predicted: Floats
    observed: Floats
    counts: Floats


def table(paths: Paths) -> tuple[dict[str, Any], list[Line]]:
    """Return the table's heading (as_of, source, confidence) and its lines.

    Raises:
        DataError: there is no table, or it cannot be read.
    """
    path = paths.benchmark / "table.parquet"
    names = footer(path).schema.names
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: run the benchmark stage again")
    fields = {"low": "accuracy_low", "high": "accuracy_high"}

    def read() -> list[Line]:
        wanted = [name for f in Line._fields if (name := fields.get(f, f)) in names]
        rows = columns(path, wanted)
        return [_line(row, fields) for row in rows.astype(object).to_dict("records")]

    heading = {k: v for k, v in json_of(paths.benchmark / "table.json").items() if k != "rows"}
    return heading, stored([path], "table", read)


def market_lines(lines: list[Line], model: str) -> dict[str, Line]:
    """Return one model's line of each market."""
    return {one.market: one for one in lines if one.model == model}


def curves(paths: Paths, market: str | None) -> list[Curves]:
    """Return the curves of every model on test windows of a market, or of all together.

    Raises:
        DataError: no model has been scored.
    """
    files = {name: paths.model(name) / "predictions.parquet" for name in _TRAINED}
    own = paths.benchmark / "predictions.parquet"

    def read() -> list[Curves]:
        found = []
        for name, path in files.items():
            if path.is_file():
                found.append(_curves(name, _rows(path, market, None)))
        if own.is_file():
            found += [_curves(name, _rows(own, market, name)) for name in _YARDSTICKS[:1]]
        return [one for one in found if one is not None]

    found = stored([*files.values(), own], ("curves", market), read)
    if not found:
        raise DataError("No model has scored enough test windows yet: run make nightly")
    return found


def _rows(path: Any, market: str | None, model: str | None) -> pd.DataFrame:
    equal = {"split": "test"}
    equal |= {"market": market} if market else {}
    equal |= {"model": model} if model else {}
    return columns(path, ["y", "probability"], equal=equal).dropna()


def _curves(model: str, rows: pd.DataFrame) -> Curves | None:
    if len(rows) < _LEAST:
        return None
    p, y = rows["probability"].to_numpy(float), rows["y"].to_numpy(float)
    order = np.argsort(-np.abs(p - 0.5), kind="stable")
    right = ((p > 0.5) == (y > 0.5)).astype(float)[order]
    running = right.cumsum() / np.arange(1, len(p) + 1)
    places = np.unique(np.linspace(max(len(p) // 50, 20), len(p), _POINTS).astype(int)) - 1
    by_value = np.argsort(p, kind="stable")
    bins = np.array_split(by_value, _BINS)
    return Curves(
        model,
        (places + 1) / len(p),
        running[places],
        np.array([p[one].mean() for one in bins]),
        np.array([y[one].mean() for one in bins]),
        np.array([float(len(one)) for one in bins]),
    )


def _line(row: Mapping[Any, Any], fields: dict[str, str]) -> Line:
    def value(field: str) -> Any:
        found = row.get(fields.get(field, field))
        if field in ("market", "model"):
            return str(found)
        if field == "n":
            return int(found) if found is not None and found == found else 0
        return float(found) if found is not None else math.nan

    return Line(*(value(field) for field in Line._fields))
