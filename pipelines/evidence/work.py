"""Do one unit: bring its windows, fit its models, write what they say of every scored window.

A unit runs as a process of its own (`python -m pipelines evidence --unit …`), so that several
cores work at once and a killed one costs only itself. Written per model: `<model>.parquet`, with a
row for each validation and test window; for a network its weights as well.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from atlas.baselines import BaseRate, LightGBM, LightGBMSettings, ReversalRule, Yardstick
from atlas.basket_config import HEDGED
from atlas.ceilings import bayes, informed, law_named_by_fingerprint
from atlas.config import ATLASConfig
from atlas.costs import next_returns, spreads
from atlas.ensemble import joined, member_seed
from atlas.hedge import build_network
from atlas.linear import Logistic
from atlas.moe import Network
from atlas.own_model import load_yardsticks
from atlas.prediction import predict
from atlas.scorecard import CEILINGS
from atlas.training import train
from atlas.volatility import (
    Garch,
    Har,
    HarX,
    LightGBMVolatility,
    Persistence,
    VolatilityYardstick,
    score_volatility,
)
from atlas.windows import MarketData, told_law
from pipelines.baskets import hedged
from pipelines.evidence import plan
from pipelines.evidence.cuts import archive_at
from pipelines.evidence.drawn import draw, drawn, learn, posterior
from pipelines.evidence.latency import write_latency
from pipelines.files import write_bytes, write_json, write_parquet
from pipelines.paths import Paths
from pipelines.training_progress import watch

__all__ = ["do"]

log = logging.getLogger(__name__)
_SPLITS = ("validation", "test")


def do(paths: Paths, config: ATLASConfig, unit: plan.Unit, *, as_of: pd.Timestamp) -> None:
    """Fit and score the models of a unit and record it as done."""
    key = plan.key_of(paths, config, unit)
    if unit.model == plan.DRAW:
        draw(paths, config, unit.seed, key)
    elif unit.model == plan.POSTERIOR:
        learn(paths, config, key)
    else:
        _score(paths, config, unit, as_of)


def _score(paths: Paths, config: ATLASConfig, unit: plan.Unit, as_of: pd.Timestamp) -> None:
    folder = plan.root(paths) / unit.name
    begun = time.process_time()
    data = _windows(paths, config, unit, as_of)
    facts: dict[str, Any] = {}
    if unit.model == plan.YARDSTICKS:
        files = _yardsticks(folder, config, data, unit)
        facts["ties"] = {market: own.split.test_ties for market, own in data.items()}
    elif unit.model == plan.VOLATILITY:
        files = _volatility(folder, config, data, unit)
    elif unit.model == plan.CEILINGS:
        files = _ceilings(folder, data, posterior(paths))
        facts["named"] = law_named_by_fingerprint(data, data)  # train and test paths differ
    elif unit.model == plan.LATENCY:
        files = write_latency(paths, config, folder, data, unit)
    else:
        files = _network(folder, config, data, unit)
    facts["cpu_s"] = round(time.process_time() - begun, 1)
    plan.mark_done(paths, config, unit, files, facts)


def _windows(
    paths: Paths, config: ATLASConfig, unit: plan.Unit, as_of: pd.Timestamp
) -> dict[str, MarketData]:
    if unit.cut != plan.SIMULATED:
        data = archive_at(paths, config, as_of, unit.cut)
        return hedged(paths, config, as_of, data) if unit.model == HEDGED else data
    data = drawn(paths, unit.seed)
    if unit.model == "moe_oracle":
        return {market: told_law(own) for market, own in data.items()}
    return data


def _yardsticks(
    folder: Path, config: ATLASConfig, data: Mapping[str, MarketData], unit: plan.Unit
) -> list[Path]:
    settings = LightGBMSettings(threads=config.training.threads, seed=unit.seed)
    models: dict[str, Yardstick] = {
        "base_rate": BaseRate(),
        "reversal": ReversalRule(),
        "logistic": Logistic(),
        "lightgbm": LightGBM(settings),
    }
    taken = {*models, *plan.NETWORKS, *CEILINGS, HEDGED}
    models |= load_yardsticks(config.benchmark.models, taken)
    files = []
    for name, model in models.items():
        model.fit(data)
        parts = [
            _frame(own, {"probability": model.predict(market, _ends(own))})
            for market, own in data.items()
        ]
        files.append(_write(folder, name, parts))
        log.info("%s: %s is scored", unit.name, name)
    return files


def _volatility(
    folder: Path, config: ATLASConfig, data: Mapping[str, MarketData], unit: plan.Unit
) -> list[Path]:
    horizons = {market: config.markets[market].volatility_horizon for market in data}
    models: dict[str, VolatilityYardstick] = {
        "persistence": Persistence(horizons),
        "har": Har(),
        "harx": HarX(),
        "garch": Garch(horizons),
        "lightgbm": LightGBMVolatility(threads=config.training.threads, seed=unit.seed),
    }
    files = []
    for name, model in models.items():
        files.append(_write(folder, name, [score_volatility(model, data, splits=_SPLITS)]))
        log.info("%s: %s is scored", unit.name, name)
    return files


def _ceilings(folder: Path, data: Mapping[str, MarketData], learned: str) -> list[Path]:
    """Write what could be known of the windows: the law named, and what the inputs say of it."""
    known = [_frame(own, {"probability": bayes(own, _ends(own))}) for own in data.values()]
    mixed = [
        _frame(own, {"probability": informed(learned, own, _ends(own))}) for own in data.values()
    ]
    return [_write(folder, "bayes", known), _write(folder, "informed", mixed)]


def _network(
    folder: Path, config: ATLASConfig, data: Mapping[str, MarketData], unit: plan.Unit
) -> list[Path]:
    members, history = [], []
    for place in range(config.training.ensemble):
        seed = member_seed(unit.seed, place)
        torch.manual_seed(seed)
        member = build_network(config, variant=unit.model)
        with watch(unit.name, member.expert_ids) as progress:
            result = train(member, data, config.training, seed=seed, progress=progress)
        members.append(member)
        history += [{**epoch._asdict(), "member": place + 1} for epoch in result.history]
    model = joined(members)
    parts = [_said(model, market, own) for market, own in data.items()]
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(weights))
    write_json(folder / "history.json", history)
    files = [_write(folder, unit.model, parts)]
    return [*files, folder / "model.safetensors", folder / "history.json"]


def _said(model: Network, market: str, own: MarketData) -> pd.DataFrame:
    found = predict(model, own, _ends(own), market_index=model.markets.index(market))
    said = {"probability": found["probability"], "log_rv_predicted": found["log_rv_predicted"]}
    experts = model.expert_ids
    weights = np.zeros((len(found["probability"]), len(experts)), np.float32)
    if experts:
        rows = np.arange(len(weights))[:, None]
        np.add.at(weights, (rows, found["expert_ids"]), found["expert_weights"])
    said |= {f"gate_{name}": weights[:, place] for place, name in enumerate(experts)}
    return _frame(own, said)


def _ends(own: MarketData) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([own.split.validation, own.split.test])


def _frame(own: MarketData, said: Mapping[str, np.ndarray[Any, Any]]) -> pd.DataFrame:
    """Return what was said of a market's scored windows, beside what became of them."""
    panel, split, ends = own.panel, own.split, _ends(own)
    known = panel.probability
    facts = {
        "market": panel.market,
        "symbol": panel.symbol_of(ends),
        "timestamp": pd.to_datetime(panel.timestamp[ends], unit="us", utc=True),
        "session": panel.session[ends],
        "split": np.repeat(_SPLITS, [split.validation.size, split.test.size]),
        "y": own.labels.direction[ends],
        "log_rv": own.labels.log_rv[ends],
        "p": np.full(ends.size, np.nan) if known is None else known[ends],
        "returned": next_returns(own, ends).astype(np.float32),
        "spread": spreads(own, ends).astype(np.float32),
    }
    return pd.DataFrame({**facts, **said})


def _write(folder: Path, name: str, parts: list[pd.DataFrame]) -> Path:
    path = folder / f"{name}.parquet"
    write_parquet(path, pd.concat(parts, ignore_index=True))
    return path
