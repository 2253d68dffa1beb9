"""A home of any size for the dashboard, made of noise: files in the form that a night leaves.

Nothing is trained. Bars are random walks, fingerprints and gates are drawn, the registry has the
four tables that the dashboard reads. A challenger stands in trial: its sessions and the shadow log
are written by the functions that a night calls, for the first market of the sizes. What is measured
on it is time and memory, never accuracy.
"""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from atlas.catalogue import EXPERT_IDS
from atlas.config import PromotionConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.moe import build_model
from dashboard.nights import BY_MARKET, STAGES
from pipelines import diary, pair, shadow
from pipelines.files import write_bytes, write_json, write_parquet
from pipelines.night import VARIANTS, read_config
from pipelines.paths import PROJECT, Paths

__all__ = ["AS_OF", "FULL", "TINY", "Size", "make_store"]

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")
_NIGHTS = 4  # of the trial, the last of them AS_OF


class Size(NamedTuple):
    """How much a market has: symbols, bars of each, and every how-many-th bar is scored."""

    symbols: int
    bars: int
    step: str
    every: int = 1


FULL = {
    "equity_daily": Size(500, 252, "1D"),
    "crypto_1min": Size(20, 60 * 1440, "1min", 15),
    "futures_30min": Size(12, 4_000, "30min"),
}
TINY = {"equity_daily": Size(3, 120, "1D"), "crypto_1min": Size(2, 600, "1min", 15)}


def make_store(home: Path, sizes: dict[str, Size], seed: int = 0) -> Paths:
    """Write a home with these markets; return its paths."""
    paths, generator = Paths(home), np.random.default_rng(seed)
    scored = [_market(paths, name, size, generator) for name, size in sizes.items()]
    rows = pd.concat(scored, ignore_index=True)
    for variant in ("moe_mlp", "moe_rule", "cnn"):
        write_parquet(paths.model(variant) / "predictions.parquet", rows)
    base = rows.drop(columns=[name for name in rows if str(name).startswith("gate_")])
    own = base.assign(probability=0.5, model="base_rate")
    other = base.assign(model="lightgbm")
    write_parquet(paths.benchmark / "predictions.parquet", pd.concat([own, other]))
    _table(paths, list(sizes))
    write_json(paths.night, {"as_of": str(AS_OF.date())})
    _night(paths)
    _registry(paths)
    _weights(paths, seed)
    _watched(paths, list(sizes))
    _trial(paths, base[base["market"] == next(iter(sizes))], generator)
    return paths


def _night(paths: Paths) -> None:
    """Tell the diary of a night that had every market of params.yaml."""
    night, markets = str(AS_OF.date()), read_config(PROJECT / "params.yaml").markets
    diary.begin_night(paths, night)
    parts: dict[str, Sequence[str]] = dict.fromkeys(BY_MARKET, tuple(markets))
    for stage in STAGES:
        for part in parts.get(stage, VARIANTS if stage == "train" else ("",)):
            with diary.told(paths, night, stage, part):
                pass


def _market(paths: Paths, name: str, size: Size, generator: np.random.Generator) -> pd.DataFrame:
    times = pd.date_range(end=AS_OF - pd.Timedelta(size.step), periods=size.bars, freq=size.step)
    times = times.as_unit("us")
    symbols = [f"{name[:3].upper()}{k:03d}" for k in range(size.symbols)]
    prints, scored = [], []
    for symbol in symbols:
        _bars(paths, name, symbol, times, generator)
        prints.append(_fingerprints(symbol, times, generator))
        scored.append(_scored(name, symbol, times[:: size.every], generator))
    write_parquet(paths.fingerprints(name), pd.concat(prints, ignore_index=True))
    empty = prints[0].iloc[:0][["symbol", "timestamp"]].assign(reason="")
    write_parquet(paths.quarantine(name), empty)
    outcome = {
        "as_of": AS_OF.isoformat(),
        "passed": True,
        "covers": AS_OF.isoformat(),
        "store": "",
        "unreadable": [],
        "bad_share": 0.0,
    }
    write_json(paths.validation(name), outcome)
    return pd.concat(scored, ignore_index=True)


def _bars(
    paths: Paths, market: str, symbol: str, times: pd.DatetimeIndex, generator: np.random.Generator
) -> None:
    close = 100 * np.exp(np.cumsum(generator.normal(0, 0.01, len(times))))
    opened = np.concatenate([[100.0], close[:-1]])
    frame = pd.DataFrame(
        {
            "timestamp": times,
            "open": opened,
            "high": np.maximum(opened, close) * 1.001,
            "low": np.minimum(opened, close) * 0.999,
            "close": close,
            "volume": generator.lognormal(8, 1, len(times)),
        }
    )
    folder = paths.bars(market)
    if not market.endswith("min"):
        write_parquet(folder / f"{symbol}.parquet", frame)
        return
    for month, part in frame.groupby(times.strftime("%Y-%m")):
        write_parquet(folder / symbol / f"{month}.parquet", part)


def _fingerprints(
    symbol: str, times: pd.DatetimeIndex, generator: np.random.Generator
) -> pd.DataFrame:
    drawn = generator.random((len(times), len(FINGERPRINT_COLUMNS)), dtype=np.float32)
    frame = pd.DataFrame(drawn, columns=list(FINGERPRINT_COLUMNS))
    frame.insert(0, "symbol", symbol)
    frame.insert(1, "timestamp", times)
    frame["vol30_short"] = frame["spread_estimated"] = False
    frame["rule"] = np.array(EXPERT_IDS)[generator.integers(0, 4, len(times))]
    return frame


def _scored(
    market: str, symbol: str, times: pd.DatetimeIndex, generator: np.random.Generator
) -> pd.DataFrame:
    n = len(times)
    gate = generator.random((n, len(EXPERT_IDS)), dtype=np.float32) ** 3
    gate[:, EXPERT_IDS.index("options_skew")] = 0
    gate /= gate.sum(axis=1, keepdims=True)
    p = generator.uniform(0.3, 0.7, n)
    frame = pd.DataFrame(
        {
            "market": market,
            "symbol": symbol,
            "timestamp": times,
            "session": np.asarray(times.asi8 // 86_400_000_000),
            "split": np.where(np.arange(n) < n // 3, "validation", "test"),
            "y": (generator.random(n) < p).astype(np.float32),
            "probability": p,
            "log_rv": generator.normal(-9, 1, n).astype(np.float32),
            "log_rv_predicted": np.full(n, -9, np.float32),
        }
    )
    for column, expert in enumerate(EXPERT_IDS):
        frame[f"gate_{expert}"] = gate[:, column]
    return frame


def _table(paths: Paths, markets: list[str]) -> None:
    rows = [
        {
            "market": market,
            "model": model,
            "n": 1000,
            "base_rate": 0.5,
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.02,
            "accuracy_high": accuracy + 0.02,
            "log_loss": 0.69,
            "lift": np.nan,
            "seed_figure": 0.6 if model == "moe_mlp" else np.nan,
        }
        for market in [*markets, "mean over markets"]
        for model, accuracy in (("base_rate", 0.5), ("moe_mlp", 0.55))
    ]
    write_parquet(paths.benchmark / "table.parquet", pd.DataFrame(rows))
    heading = {"as_of": str(AS_OF.date()), "source": "simulated", "confidence": 0.95}
    write_json(paths.benchmark / "table.json", heading)


def _registry(paths: Paths) -> None:
    database = paths.var / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(
            "create table model_versions"
            " (name, version, creation_time, run_id, storage_location);"
            "create table model_version_tags (name, version, key, value);"
            "create table registered_model_aliases (name, alias, version);"
            "create table runs (run_uuid, experiment_id, artifact_uri);"
        )
        for number, alias in ((1, "previous"), (2, "champion"), (3, "challenger")):
            _version(paths, connection, number, alias)


def _version(paths: Paths, connection: sqlite3.Connection, number: int, alias: str) -> None:
    run, folder = f"run{number}", paths.mlflow_artifacts / f"run{number}"
    connection.execute(
        "insert into model_versions values ('atlas-moe', ?, ?, ?, ?)",
        [number, 1_795_000_000_000 + number, run, _kept(paths, number).resolve().as_uri()],
    )
    connection.execute("insert into runs values (?, 1, ?)", [run, folder.resolve().as_uri()])
    connection.execute(
        "insert into registered_model_aliases values ('atlas-moe', ?, ?)", [alias, number]
    )
    promoted = str(alias != "challenger").lower()
    tags = {"as_of": "2026-11-19", "variant": "moe_mlp", "promoted": promoted}
    tags |= {"promotion_reason": f"reason {number}", "data_version": "abc", "git_commit": "def"}
    for key, value in tags.items():
        connection.execute(
            "insert into model_version_tags values ('atlas-moe', ?, ?, ?)", [number, key, value]
        )
    figures = {"rival": "the base rate", "difference": -0.01}
    figures |= {"difference_low": -0.02, "difference_high": -0.005}
    write_json(folder / "promotion.json", json.loads(json.dumps({"figures": figures})))


def _kept(paths: Paths, number: int) -> Path:
    """Return where a version's model lies."""
    return paths.mlflow_artifacts / "models" / f"m-{number}" / "artifacts"


def _weights(paths: Paths, seed: int) -> None:
    """Write the champion's and the last night's weights: the templates, a little stirred."""
    torch.manual_seed(seed)
    model = build_model(read_config(PROJECT / "params.yaml"), variant="moe_mlp")
    state = {
        name: tensor + 0.02 * torch.randn_like(tensor) if name.endswith("weight") else tensor
        for name, tensor in model.state_dict().items()
    }
    content = safetensors.torch.save({name: one.contiguous() for name, one in state.items()})
    for folder in (_kept(paths, 2) / "artifacts", paths.model("moe_mlp")):
        write_bytes(folder / "model.safetensors", content)


def _watched(paths: Paths, markets: list[str]) -> None:
    """Write two days of the watch in the form that docs/monitoring.md gives: one alarm of drift."""
    history = []
    for back in (1, 0):
        day = str((AS_OF - pd.Timedelta(days=back)).date())
        checks = [_check("night", "", "days_old", back, 4.0)]
        for k, market in enumerate(markets):
            checks.append(_check("freshness", market, "sessions_behind", 0.0, 3.0))
            values = {"vol30": 0.4 if k == 0 else 0.1, "hurst": 0.05, "rule": 0.01}
            checks += [_check("drift", market, n, value, 0.3) for n, value in values.items()]
            checks.append(_check("gate", market, "places", np.nan, np.nan))
        alarms = [row for row in checks if row["alarm"]]
        champion = {"version": "2", "as_of": "2026-11-19"}
        document = {"format": 1, "as_of": day, "champion": champion, "markets": {}}
        write_json(
            paths.artifacts / "monitor" / f"{day}.json",
            {**document, "alarms": alarms, "checks": checks},
        )
        history.append(pd.DataFrame(checks).drop(columns="line").assign(as_of=day))
    write_parquet(paths.artifacts / "monitor" / "history.parquet", pd.concat(history))


def _check(kind: str, market: str, name: str, value: float, limit: float) -> dict[str, Any]:
    judged, alarm = bool(np.isfinite(value)), value > limit
    line = f"{market}: {name} is no longer distributed as in training" if alarm else ""
    numbers = (value, limit / 5, limit)
    known = [float(one) if np.isfinite(one) else None for one in numbers]
    found = dict(zip(("value", "usual", "limit"), known, strict=True))
    words = {"kind": kind, "market": market, "name": name, "line": line if judged else "too few"}
    return {**words, **found, "alarm": bool(alarm), "judged": judged}


def _trial(paths: Paths, scored: pd.DataFrame, generator: np.random.Generator) -> None:
    """Let version 3 challenge version 2 for some nights, judged and logged as a night does it.

    A night judges what is known two days before it; its newest bars are live. The challenger's
    probabilities are the better ones, and it says nothing of the first symbol.
    """
    rows = scored[scored["split"] == "test"].reset_index(drop=True)
    settings = PromotionConfig()
    state = pair.opened("2", "3", [str(rows["market"].iloc[0])], settings)
    names: dict[str, Any] = {
        "volatility": 0.01,
        "expert_ids": "equity_daily",
        "abstain": False,
        "reason": "",
    }
    both = {
        role: rows[shadow.KEYS].assign(
            probability=(
                0.5 + skill * (rows["y"] - 0.5) + generator.normal(0, 0.1, len(rows))
            ).clip(0.05, 0.95),
            **names,
        )
        for role, skill in (("champion", 0.05), ("challenger", 0.08))
    }
    both["challenger"]["abstain"] = both["challenger"]["symbol"] == rows["symbol"].iloc[0]
    for back in range(_NIGHTS - 1, -1, -1):
        night = AS_OF - pd.Timedelta(days=back)
        known = rows[rows["timestamp"] < night - pd.Timedelta(days=1)].assign(base=0.5)
        fresh = pair.unjudged(known, state)
        said = {role: one[one["timestamp"] < night] for role, one in both.items()}
        told = [(role, state[role], answers) for role, answers in said.items()]
        shadow.keep(paths, str(night.date()), fresh, told)
        for role, answers in said.items():
            fresh = pair.filled(fresh, role, answers)
        state = pair.add(state, str(night.date()), fresh, {})
    pair.save(paths, state)
