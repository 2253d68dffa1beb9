"""Score every model on the same windows and write the table.

The trained variants bring their predictions; the yardsticks are fitted here, on the same train
rows, and score the very same validation and test rows. Candidates are compared on validation;
test rows are only printed. The night's stage is the short form: one seed, one cut.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atlas.baselines import BaseRate, LightGBM, LightGBMSettings, ReversalRule, Yardstick
from atlas.benchmark import MODELS, TableSettings, assemble, check_same_rows, mean_log_loss
from atlas.config import ATLASConfig
from atlas.errors import ModelError
from atlas.evaluation import block_length
from atlas.own_model import load_yardsticks, sources_digest
from atlas.significance import hac_lag
from atlas.windows import MarketData, Panel
from pipelines import ledger
from pipelines.figures import accuracy_page, table_text
from pipelines.files import digest, write_bytes, write_json, write_parquet
from pipelines.paths import Paths
from pipelines.samples import load
from pipelines.stamps import once

__all__ = ["run", "score_yardstick", "variants"]

log = logging.getLogger(__name__)
_USED = {
    "source",
    "markets",
    "moe",
    "model",
    "training",
    "tuning",
    "pretraining",
}  # makes a network
_OUTPUTS = ("table.parquet", "table.json", "table.txt", "accuracy.html", "predictions.parquet")


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Fit the yardsticks, score all models on validation and test rows, write the table.

    Returns:
        rows of the table, markets, trials_on_span (models ever scored on these test sessions, from
        the ledger), best_candidate and its rivals' validation log-loss, mean over
        markets, by model; `skipped` if nothing was new.

    Raises:
        ModelError: no variant is trained, or they were scored on other rows than the yardsticks.
    """
    files = _predictions(paths, config)
    read = [*files.values(), *(paths.fingerprints(market) for market in config.markets)]
    key = {
        "as_of": str(as_of.date()),
        "config": config.model_dump(mode="json"),
        "read": {str(path.relative_to(paths.home)): digest(path) for path in _there(read)},
    }
    if config.benchmark.models:
        key["own"] = sources_digest(config.benchmark.models)
    outputs = [paths.benchmark / name for name in _OUTPUTS]
    return once(
        paths, "benchmark", key, lambda: outputs, lambda: _work(paths, config, as_of, files)
    )


def variants(config: ATLASConfig) -> tuple[str, ...]:
    """Return the trained variants that the night's table shows."""
    return ("cnn", "moe_rule", "moe_mlp") if config.moe.enabled else ("cnn", "moe_rule")


def score_yardstick(model: Yardstick, data: Mapping[str, MarketData]) -> pd.DataFrame:
    """Fit a yardstick and predict validation and test rows, in the form of `predictions.parquet`.

    Columns market, symbol, timestamp, session, split, y, probability, p (NaN where unknown).
    """
    model.fit(data)
    parts = []
    for market, own in data.items():
        for split, ends in (("validation", own.split.validation), ("test", own.split.test)):
            rows = _rows(own.panel, ends).assign(
                split=split,
                y=own.labels.direction[ends].astype(np.float64),
                probability=model.predict(market, ends),
            )
            parts.append(rows)
    frame: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return frame


def _work(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, files: Mapping[str, Path]
) -> dict[str, Any]:
    data = load(paths, config, as_of)
    settings = LightGBMSettings(threads=config.training.threads, seed=config.training.seed)
    yardsticks: dict[str, Yardstick] = {
        "base_rate": BaseRate(),
        "reversal": ReversalRule(),
        "lightgbm": LightGBM(settings),
    }
    yardsticks |= load_yardsticks(config.benchmark.models, taken=MODELS)
    frames = {}
    for name, model in yardsticks.items():
        frames[name] = score_yardstick(model, data)
        log.info("benchmark: %s is scored", name)
    own = pd.concat([frame.assign(model=name) for name, frame in frames.items()])
    frames |= {name: pd.read_parquet(path) for name, path in files.items()}
    validation = {name: frame[frame["split"] == "validation"] for name, frame in frames.items()}
    check_same_rows(validation)
    losses = {name: mean_log_loss(frame) for name, frame in validation.items()}
    test = {name: frame[frame["split"] == "test"] for name, frame in frames.items()}
    count = _recorded(paths, config, data, test, list(yardsticks))
    table = assemble(
        {name: test[name] for name in _order(yardsticks) if name in test},
        ties={market: one.split.test_ties for market, one in data.items()},
        settings=_settings(config, data),
    )
    _write(paths, config, as_of, table, own)
    candidates = [name for name in files if name.startswith("moe_")] or list(files)
    return {
        "rows": len(table),
        "markets": list(data),
        "trials_on_span": count,
        "best_candidate": min(candidates, key=lambda name: losses[name]),
        "candidate_validation_log_loss": {name: round(losses[name], 9) for name in files},
        "yardstick_validation_log_loss": {name: round(losses[name], 9) for name in yardsticks},
    }


def _order(yardsticks: Mapping[str, Yardstick]) -> list[str]:
    """Return the table's models: the user's own stand before the networks."""
    own = [name for name in yardsticks if name not in MODELS]
    rivals = [name for name in MODELS if name in yardsticks]
    return [*rivals, *own, *(name for name in MODELS if name not in yardsticks)]


def _write(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, table: pd.DataFrame, own: pd.DataFrame
) -> None:
    folder, confidence = paths.benchmark, config.promotion.confidence
    write_parquet(folder / "table.parquet", table)
    write_parquet(folder / "predictions.parquet", own)
    finite = table.astype(object).where(~table.isin([np.inf, -np.inf]) & table.notna(), None)
    heading = {"as_of": str(as_of.date()), "source": config.source, "confidence": confidence}
    write_json(folder / "table.json", {**heading, "rows": finite.to_dict("records")})
    write_bytes(folder / "table.txt", table_text(table, heading).encode())
    write_bytes(folder / "accuracy.html", accuracy_page(table, heading).encode())


def _recorded(
    paths: Paths,
    config: ATLASConfig,
    data: Mapping[str, MarketData],
    test: Mapping[str, pd.DataFrame],
    yardsticks: list[str],
) -> int:
    """Write down what was scored on the test rows; return how many trials they have seen."""
    base, lags = test["base_rate"], {}
    for market, own in data.items():
        horizon = own.labels.question.horizon
        lags[market] = hac_lag(horizon, _bars_per_session(own))
    plain = config.model_dump(mode="json", include={"source", "markets"})
    whole = config.model_dump(mode="json", include=_USED)
    rivals = {name: rows for name, rows in test.items() if name in yardsticks}
    trained = {name: rows for name, rows in test.items() if name not in yardsticks}
    ledger.record(paths, rivals, plain, base=base, lags=lags)
    ledger.record(paths, trained, whole, seed=config.training.seed, base=base, lags=lags)
    return ledger.trials(ledger.entries(paths), ledger.span_of(base))


def _bars_per_session(own: MarketData) -> float:
    test = own.panel.session[own.split.test]
    rows = test.size / max(np.unique(test).size * len(own.panel.symbols), 1)
    return float(rows * own.labels.question.horizon)  # the grid is every h-th bar


def _settings(config: ATLASConfig, data: Mapping[str, MarketData]) -> TableSettings:
    blocks = {}
    for market, own in data.items():
        blocks[market] = block_length(own.labels.question.horizon, _bars_per_session(own))
    return TableSettings(
        resamples=config.promotion.resamples,
        confidence=config.promotion.confidence,
        blocks=blocks,
    )


def _rows(panel: Panel, ends: Any) -> pd.DataFrame:
    known = panel.probability
    return pd.DataFrame(
        {
            "market": panel.market,
            "symbol": panel.symbol_of(ends),
            "timestamp": pd.DatetimeIndex(panel.timestamp[ends].view("datetime64[us]"), tz="UTC"),
            "session": panel.session[ends],
            "p": known[ends] if known is not None else np.full(ends.size, np.nan),
        }
    )


def _predictions(paths: Paths, config: ATLASConfig) -> dict[str, Path]:
    found = {name: paths.model(name) / "predictions.parquet" for name in variants(config)}
    there = {name: path for name, path in found.items() if path.is_file()}
    if not there:
        raise ModelError(
            f"expected predictions of {', '.join(found)} under {paths.model('cnn').parent}; got "
            "none: run `python -m pipelines train` first"
        )
    return there


def _there(files: Iterable[Path]) -> list[Path]:
    return [path for path in files if path.is_file()]
