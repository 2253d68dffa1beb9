"""The simulated windows of one seed, drawn once and kept for all its units.

Drawing takes a minute, most of it the month of minute bars that a fingerprint looks back on, and
two dozen units ask for the same windows. So the arrays lie under var/, as plain .npy files; a draw
by another library or other parameters is not used.
"""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from atlas.bars import Timeframe
from atlas.ceilings import fit_law_posterior
from atlas.config import ATLASConfig
from atlas.draws import draw_markets
from atlas.windows import Labels, MarketData, Panel, Question, Split
from pipelines.evidence.plan import POSTERIOR, Unit
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["draw", "drawn", "is_kept", "learn", "posterior"]

_DRAWN = 1_000  # the seeds of the draws begin here: none is that of a home
_TENFOLD = 10
_RECORD = "draw.json"
_PER_PATH = 250  # windows: many paths, because each has one law and one level
_ARRAYS = ("offsets", "timestamp", "session", "values", "fingerprint", "rule", "probability", "law")


def draw(paths: Paths, config: ATLASConfig, seed: int, key: str) -> None:
    """Draw the windows of a seed and keep them under `key`; the key is written last."""
    folder = _folder(paths, seed)
    shutil.rmtree(folder, ignore_errors=True)
    windows = {
        "train": config.benchmark.train_windows,
        "validation": config.benchmark.train_windows // 8,
        "test": config.benchmark.test_windows,
    }
    paths_of = {part: -(-count // _PER_PATH) for part, count in windows.items()}
    found = draw_markets(config, seed=_DRAWN + seed, paths=paths_of, **windows)
    for market, own in found.items():
        _save(folder / market, own)
    write_json(folder / _RECORD, {"key": key, "markets": list(found)})


def learn(paths: Paths, config: ATLASConfig, key: str) -> None:
    """Fit what inputs say of the law on tenfold windows of other paths, and keep it under `key`."""
    count = _TENFOLD * config.benchmark.train_windows
    found = draw_markets(config, seed=_DRAWN, paths=-(-count // _PER_PATH), train=count)
    write_json(_posterior(paths), {"key": key, "model": fit_law_posterior(found)})


def posterior(paths: Paths) -> str:
    """Return the posterior that is kept, as `atlas.ceilings` reads it."""
    return str(read_json(_posterior(paths))["model"])


def is_kept(paths: Paths, unit: Unit, key: str) -> bool:
    """Say whether what the unit draws or learns is kept under this key."""
    record = _posterior(paths) if unit.model == POSTERIOR else _folder(paths, unit.seed) / _RECORD
    return record.is_file() and bool(read_json(record)["key"] == key)


def drawn(paths: Paths, seed: int) -> dict[str, MarketData]:
    """Return the windows that are kept of a seed, markets in the order of params."""
    folder = _folder(paths, seed)
    return {market: _load(folder / market) for market in read_json(folder / _RECORD)["markets"]}


def _folder(paths: Paths, seed: int) -> Path:
    return paths.var / "evidence" / f"drawn-{seed}"


def _posterior(paths: Paths) -> Path:
    return paths.var / "evidence" / "posterior.json"


def _save(folder: Path, own: MarketData) -> None:
    folder.mkdir(parents=True)
    panel, labels, split = own.panel, own.labels, own.split
    arrays = {name: getattr(panel, name) for name in _ARRAYS}
    arrays |= {name: getattr(labels, name) for name in ("direction", "log_rv", "last", "tied")}
    arrays |= {name: getattr(split, name) for name in ("train", "validation", "test")}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    facts = {
        "market": panel.market,
        "modality": panel.modality,
        "timeframe": dataclasses.asdict(panel.timeframe),
        "symbols": list(panel.symbols),
        "has_close": panel.has_close,
        "ties": labels.ties,
        "question": labels.question._asdict(),
        "test_ties": split.test_ties,
    }
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _load(folder: Path) -> MarketData:
    facts: Mapping[str, Any] = read_json(folder / "facts.json")

    def array(name: str) -> Any:
        return np.load(folder / f"{name}.npy", allow_pickle=False)

    panel = Panel(
        market=facts["market"],
        modality=facts["modality"],
        timeframe=Timeframe(**facts["timeframe"]),
        symbols=tuple(facts["symbols"]),
        has_close=facts["has_close"],
        **{name: array(name) for name in _ARRAYS},
    )
    labels = Labels(
        array("direction"),
        array("log_rv"),
        array("last"),
        facts["ties"],
        array("tied"),
        Question(**facts["question"]),
    )
    split = Split(array("train"), array("validation"), array("test"), facts["test_ties"])
    return MarketData(panel, labels, split)
