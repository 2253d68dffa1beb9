"""What the long benchmark consists of: units that can be done apart, in any order, and resumed.

A unit is one model, fitted and scored with one seed at one cut. Simulated markets have one cut,
`simulated`, whose training and test windows are drawn anew for each seed; an archive is cut at
the dates of `benchmark.cuts`, the same for all markets, and scored on the same rows by all seeds.

A unit is done when its folder holds predictions made by the same library, parameters and data.
Only atlas/ counts as code here: a new column of the table asks for no new training.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from atlas.basket_config import HEDGED
from atlas.config import ATLASConfig
from atlas.own_model import sources_digest
from pipelines.files import digest, read_json, write_json
from pipelines.paths import PROJECT, Paths

__all__ = [
    "CEILINGS",
    "DRAW",
    "LATENCY",
    "NETWORKS",
    "POSTERIOR",
    "SERVED",
    "SIMULATED",
    "USED",
    "VOLATILITY",
    "YARDSTICKS",
    "Unit",
    "draws",
    "facts",
    "is_done",
    "key_of",
    "mark_done",
    "root",
    "units",
]

SIMULATED = "simulated"
DRAW = "draw"  # the unit that draws the windows of the others of its seed
POSTERIOR = "posterior"  # the unit that learns what inputs say of the law, for the ceiling
CEILINGS = "ceilings"  # the unit that says what could be known of a seed's test windows
YARDSTICKS = "yardsticks"  # the unit of all rivals that are no network: they take seconds
LATENCY = "latency"  # the unit that times one window in each network
VOLATILITY = "volatility"  # the unit of the rivals that forecast log realised variance
NETWORKS = (
    "moe_mlp",
    "moe_rule",
    "cnn",
    "cnn_fingerprint",
    "cnn_1d",
    "moe_uniform",
    "moe_random",
    "moe_oracle",
)
SERVED = NETWORKS[:6]  # random routing is a check of the simulation, the oracle is told the law
USED = {"source", "markets", "moe", "model", "training", "tuning", "benchmark"}


@dataclass(frozen=True)
class Unit:
    """One model, one seed, one cut; `cut` is `simulated` or an ISO date."""

    cut: str
    seed: int
    model: str

    @property
    def name(self) -> str:
        """For logs and folders."""
        return f"{self.cut}/{self.seed}/{self.model}"


def units(config: ATLASConfig) -> tuple[Unit, ...]:
    """Return the units of a configuration, the champion's candidates first."""
    simulated = config.source == SIMULATED
    cuts = (SIMULATED,) if simulated else tuple(str(day) for day in config.benchmark.cuts)
    rivals = (YARDSTICKS, VOLATILITY)
    hedged = (HEDGED,) if config.basket else ()  # simulated markets have nothing in common
    models = (CEILINGS, *rivals, *NETWORKS) if simulated else (*rivals, *SERVED, *hedged)
    seeds = config.benchmark.seeds
    timed = [Unit(cut, seed, LATENCY) for seed in seeds[:1] for cut in cuts[:1]]
    fitted = [Unit(cut, seed, model) for model in models for seed in seeds for cut in cuts]
    return (*fitted, *timed)


def draws(config: ATLASConfig) -> tuple[Unit, ...]:
    """Return the units that must be done before any other: none on an archive."""
    if config.source != SIMULATED:
        return ()
    return (
        Unit(SIMULATED, 0, POSTERIOR),
        *(Unit(SIMULATED, seed, DRAW) for seed in config.benchmark.seeds),
    )


def root(paths: Paths) -> Path:
    """Return the folder of the long benchmark."""
    return paths.artifacts / "evidence"


def is_done(paths: Paths, config: ATLASConfig, unit: Unit) -> bool:
    """Say whether the unit's predictions are there, made by this library from these data."""
    record = _record(paths, unit)
    if not record.is_file():
        return False
    found = read_json(record)
    return bool(found["key"] == key_of(paths, config, unit)) and all(
        (record.parent / name).is_file() and digest(record.parent / name) == known
        for name, known in found["files"].items()
    )


def mark_done(
    paths: Paths, config: ATLASConfig, unit: Unit, files: list[Path], facts: Mapping[str, Any]
) -> None:
    """Record what a unit wrote, last of all: a killed unit is done again."""
    record = _record(paths, unit)
    written = {str(path.relative_to(record.parent)): digest(path) for path in files}
    write_json(record, {"key": key_of(paths, config, unit), "files": written, **facts})


def facts(paths: Paths, units: Sequence[Unit], name: str) -> dict[Unit, Any]:
    """Return a fact that units were recorded with, of those that are done and have it."""
    records = {unit: _record(paths, unit) for unit in units}
    found = {unit: read_json(path) for unit, path in records.items() if path.is_file()}
    return {unit: record[name] for unit, record in found.items() if name in record}


def _record(paths: Paths, unit: Unit) -> Path:
    return root(paths) / unit.name / "unit.json"


def key_of(paths: Paths, config: ATLASConfig, unit: Unit) -> str:
    """Return the digest over everything that a unit's result depends on."""
    own = {"basket"} if unit.model == HEDGED else set()
    used = config.model_dump(mode="json", include=USED | own)
    used["benchmark"].pop("seeds")  # one seed more leaves the others as they are
    named = config.benchmark.models if unit.model == YARDSTICKS else ()
    used["benchmark"]["models"] = list(named)  # and so does a model of one's own, beside its rivals
    read = {} if unit.cut == SIMULATED else _read(paths, config)
    key = {"unit": unit.name, "params": used, "read": read, "code": _library()}
    if named:
        key["own"] = sources_digest(named)
    text = json.dumps(key, sort_keys=True)  # a child reads its params in another order
    return hashlib.sha256(text.encode()).hexdigest()


def _read(paths: Paths, config: ATLASConfig) -> dict[str, str]:
    found = [paths.data_dvc, *(paths.fingerprints(market) for market in config.markets)]
    return {str(path.relative_to(paths.home)): digest(path) for path in found if path.is_file()}


@cache
def _library() -> str:
    total = hashlib.sha256((PROJECT / "requirements.lock").read_bytes())
    for path in sorted((PROJECT / "atlas").rglob("*.py")):
        total.update(str(path.relative_to(PROJECT)).encode() + path.read_bytes())
    return total.hexdigest()
