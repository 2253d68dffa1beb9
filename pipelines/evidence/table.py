"""Put the units' predictions together and score them: the long table and its tests.

On simulated markets each seed has paths of its own; they are laid end to end and the path is the
unit that is resampled. An archive's seeds share their rows, and sessions are resampled.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from atlas.basket_config import HEDGED
from atlas.config import ATLASConfig
from atlas.errors import ModelError
from atlas.evaluation import BLOCK, POOLED, block_length
from atlas.scorecard import CEILINGS, ScoreSettings, paired_tests, rival_of, scorecard
from atlas.significance import hac_lag
from atlas.smearing import smeared
from atlas.volatility_table import volatility_table, volatility_tests
from pipelines import ledger
from pipelines.evidence import plan
from pipelines.evidence.checks import checks
from pipelines.evidence.curves import curves, gate_weights, learning_curve
from pipelines.evidence.latency import latency_ratios
from pipelines.paths import Paths

__all__ = ["CANDIDATES", "RIVALS", "Evidence", "assemble"]

log = logging.getLogger(__name__)
CANDIDATES = ("moe_mlp", "moe_rule")
RIVALS = ("base_rate", "reversal", "logistic", "lightgbm", "cnn", "cnn_fingerprint", "cnn_1d")
_MIXTURES = ("moe_uniform", "moe_random", "moe_rule", "moe_mlp", HEDGED, "moe_oracle")
_ORDER = (*RIVALS, *_MIXTURES, *CEILINGS)
_COLUMNS = ["market", "symbol", "timestamp", "session", "split", "y", "p", "returned", "spread"]
_FORECASTERS = ("persistence", "har", "harx", "garch", "lightgbm")
_FORECAST_COLUMNS = ["market", "symbol", "timestamp", "session", "split"]
_FORECAST_COLUMNS += ["log_rv", "log_rv_predicted"]
_SEED_PLACES = 100_000  # a path's number is below it


class Evidence(NamedTuple):
    """Both tables with their paired tests, checks of targets, curves, and validation's rival.

    Tests of volatility come twice: of forecasts smeared, and of e to the power of what was said.
    """

    table: pd.DataFrame
    tests: pd.DataFrame
    volatility: pd.DataFrame
    volatility_tests: pd.DataFrame
    volatility_tests_as_said: pd.DataFrame
    checks: pd.DataFrame
    curves: dict[str, Any]
    rival: str


def assemble(
    paths: Paths, config: ATLASConfig, units: Sequence[plan.Unit] | None = None
) -> Evidence:
    """Score what units left, those of the configuration unless some of them are named.

    Raises:
        ModelError: no unit is done.
    """
    units = plan.units(config) if units is None else units
    rows = _rows(paths, config, units)
    if "base_rate" not in rows:
        raise ModelError("expected predictions of the yardsticks; got none: run `make benchmark`")
    test = {model: _part(frames, "test") for model, frames in rows.items()}
    validation = {model: _part(frames, "validation") for model, frames in rows.items()}
    settings = _settings(config, test["base_rate"][0])
    log.info("scoring %d models", len(test))
    table = scorecard(test, {k: v for k, v in validation.items() if len(v[0])}, settings=settings)
    table["ties"] = table["market"].map(_ties(paths, config, units))
    table["latency"] = table["model"].map(latency_ratios(paths, config)).astype(float)
    rival = rival_of(validation, [name for name in RIVALS if name in rows])
    pairs = [
        (own, other) for own in CANDIDATES for other in dict.fromkeys(("cnn", rival, "moe_uniform"))
    ]
    pairs.append((HEDGED, "moe_mlp"))  # with and without the cross-asset expert
    tests = [
        paired_tests(test, own, other, settings=settings).assign(model=own, against=other)
        for own, other in pairs
        if own in test and other in test
    ]
    shown = [name for name in ("moe_mlp", rival) if name in test]
    drawn = curves(test, shown, settings.blocks)
    drawn["gates"] = {name: gate_weights(paths, units, name) for name in CANDIDATES if name in test}
    drawn["learning"] = {
        name: learning_curve(paths, units, name) for name in plan.NETWORKS if name in test
    }
    forecasts = _forecasts(paths, config, units)
    if config.source != plan.SIMULATED:
        read = plan.USED | ({"basket"} if config.basket else set())
        used = config.model_dump(mode="json", include=read)
        ledger.record_seeds(paths, test, used, lags=settings.lags)
    return Evidence(
        table,
        pd.concat(tests, ignore_index=True),
        volatility_table(forecasts),
        _forecast_tests(forecasts, settings.lags),
        _forecast_tests(_as_said(forecasts), settings.lags),
        checks(test, list(plan.facts(paths, units, "named").values())),
        drawn,
        rival,
    )


def _ties(paths: Paths, config: ATLASConfig, units: Sequence[plan.Unit]) -> dict[str, int]:
    """Return how many test rows of each market were left out because nothing moved.

    As `n`: of all seeds where each has rows of its own, else of one; over the cuts; the mean over
    markets has their sum. Empty if a unit was done before ties were counted.
    """
    found = plan.facts(paths, units, "ties")
    if len(found) < sum(unit.model == plan.YARDSTICKS for unit in units):
        return {}
    first = min(unit.seed for unit in found)
    total: Counter[str] = Counter()
    for unit, ties in found.items():
        if config.source == plan.SIMULATED or unit.seed == first:
            total.update(ties)
    return {**total, POOLED: total.total()}


def _rows(
    paths: Paths, config: ATLASConfig, units: Sequence[plan.Unit]
) -> dict[str, list[pd.DataFrame]]:
    """Return every model's rows, a frame for each seed (simulated: one frame of all seeds)."""
    skipped = (plan.VOLATILITY, plan.LATENCY)
    units = [unit for unit in units if unit.model not in skipped]
    own = [spec.partition(":")[2] for spec in config.benchmark.models]
    return _gathered(paths, config, units, [*_COLUMNS, "probability"], [*own, *_ORDER])


def _forecasts(
    paths: Paths, config: ATLASConfig, units: Sequence[plan.Unit]
) -> dict[str, list[pd.DataFrame]]:
    """Return every model's forecasts of realised variance and its log on test rows."""
    skipped = (plan.YARDSTICKS, plan.CEILINGS, plan.LATENCY)
    units = [unit for unit in units if unit.model not in skipped]
    order = (*_FORECASTERS, *plan.NETWORKS, HEDGED)
    found = _gathered(paths, config, units, _FORECAST_COLUMNS, order)
    return {model: _part(frames, "test") for model, frames in found.items()}


def _forecast_tests(
    forecasts: Mapping[str, Sequence[pd.DataFrame]], lags: Mapping[str, int]
) -> pd.DataFrame:
    rivals = (*_FORECASTERS, "cnn", "moe_uniform")
    against: dict[str, tuple[str, ...]] = dict.fromkeys(CANDIDATES, rivals)
    tests = [
        volatility_tests(forecasts, own, others, lags=lags)
        for own, others in (against | {HEDGED: ("moe_mlp",)}).items()
        if own in forecasts and not forecasts.keys().isdisjoint(others)
    ]
    return pd.concat(tests, ignore_index=True)


def _as_said(forecasts: Mapping[str, Sequence[pd.DataFrame]]) -> dict[str, list[pd.DataFrame]]:
    return {
        model: [rows.assign(log_variance_predicted=rows["log_rv_predicted"]) for rows in frames]
        for model, frames in forecasts.items()
    }


def _gathered(
    paths: Paths,
    config: ATLASConfig,
    units: Sequence[plan.Unit],
    columns: list[str],
    order: Sequence[str],
) -> dict[str, list[pd.DataFrame]]:
    found: dict[str, dict[int, list[pd.DataFrame]]] = {}
    for unit in units:
        for path in sorted((plan.root(paths) / unit.name).glob("*.parquet")):
            frame = _read(path, unit, columns)
            found.setdefault(path.stem, {}).setdefault(unit.seed, []).append(frame)
    rows = {}
    for model in (name for name in order if name in found):
        seeds = [pd.concat(parts, ignore_index=True) for parts in found[model].values()]
        if config.source == plan.SIMULATED:
            seeds = [pd.concat(seeds, ignore_index=True)]
        rows[model] = seeds
    return rows


def _read(path: Path, unit: plan.Unit, columns: list[str]) -> pd.DataFrame:
    frame = pd.read_parquet(path, columns=columns)
    if unit.cut == plan.SIMULATED:
        names = frame["market"].astype(str) + "/" + frame["symbol"].astype(str)
        numbers, _ = pd.factorize(names, sort=True)
        frame["session"] = unit.seed * _SEED_PLACES + numbers
        frame["symbol"] = frame["session"]
    return smeared(frame) if "log_rv_predicted" in columns else frame


def _part(frames: Sequence[pd.DataFrame], split: str) -> list[pd.DataFrame]:
    return [frame[frame["split"] == split].reset_index(drop=True) for frame in frames]


def _settings(config: ATLASConfig, test: pd.DataFrame) -> ScoreSettings:
    blocks: dict[str, float] = {}
    lags: dict[str, int] = {}
    for market in config.markets:
        if config.source == plan.SIMULATED:
            blocks[market], lags[market] = 1.0, 0  # paths are independent
            continue
        own = test[test["market"] == market]
        horizon = config.label(market).horizon
        bars = _bars_per_session(own, horizon)
        blocks[market] = block_length(horizon, bars) if len(own) else BLOCK
        lags[market] = hac_lag(horizon, bars)
    return ScoreSettings(
        resamples=config.promotion.resamples,
        confidence=config.promotion.confidence,
        blocks=blocks,
        lags=lags,
    )


def _bars_per_session(rows: pd.DataFrame, horizon: int) -> float:
    pairs = rows[["symbol", "session"]].drop_duplicates()
    return len(rows) * horizon / max(len(pairs), 1)  # the grid is every h-th bar
