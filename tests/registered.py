"""A home with three small trained markets, for tests of the registry.

Ingest, validation, fingerprints and training are the real stages; only the table and the base
rate, which belong to another stage, are written plainly. The training happens once a process; a
test that changes the home takes a copy of its own.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from atlas.config import ATLASConfig
from pipelines import fingerprint, ingest, register, train, validate
from pipelines.files import write_bytes, write_json, write_parquet
from pipelines.paths import Paths

__all__ = ["AS_OF", "copy_home", "registered", "tiny_config", "write_base_rate"]

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")
MARKETS = ("options_skew", "equity_daily", "equity_5min")  # not in alphabetical order


def tiny_config() -> ATLASConfig:
    """Return three small markets, three symbols each, and the least training."""
    values = yaml.safe_load((Path(__file__).parent / "params_tiny.yaml").read_text())
    values["markets"] = {name: values["markets"][name] for name in MARKETS}
    sessions = {"equity_5min": 40}  # 30 of them before the test sessions, for vol30
    sizes = {name: {"symbols": 3, "sessions": sessions.get(name, 420)} for name in MARKETS}
    values["simulated"]["markets"] = sizes
    values["training"] |= {"windows_per_epoch": 128, "batch": 64, "epochs": 1}
    return ATLASConfig.parse(values)


def copy_home(folder: Path) -> Paths:
    """Return a home of one's own, trained and scored, with nothing registered."""
    shutil.copytree(_trained(), folder)
    return Paths(folder)


@cache
def registered() -> Paths:
    """Return a home whose night is registered, one for the whole process: change copies alone."""
    scratch = tempfile.mkdtemp(prefix="atlas-registered-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    home = copy_home(Path(scratch) / "home")
    register.run(home, tiny_config(), as_of=AS_OF)
    return home


def write_base_rate(paths: Paths, probability: float | None = None) -> None:
    """Write the yardstick's predictions, all the same; None knows what happened: unbeatable."""
    rows = pd.read_parquet(paths.model("moe_rule") / "predictions.parquet")
    names = ["market", "symbol", "timestamp", "session", "split", "y", "p"]
    known = rows["y"].clip(0.02, 0.98).astype(float)
    base = rows[names].assign(
        model="base_rate", probability=known if probability is None else probability
    )
    write_parquet(paths.benchmark / "predictions.parquet", base)


@cache
def _trained() -> Path:
    scratch = tempfile.mkdtemp(prefix="atlas-registered-")
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    home = Path(scratch) / "home"
    paths, config = Paths(home), tiny_config()
    for market in config.markets:
        ingest.run(paths, config, as_of=AS_OF, market=market, folder=None)
        validate.run(paths, config, as_of=AS_OF, market=market)
        fingerprint.run(paths, config, as_of=AS_OF, market=market)
    for variant in register.candidates(config):
        train.run(paths, config, as_of=AS_OF, variant=variant)
    write_base_rate(paths)
    table = pd.DataFrame(
        {
            "market": list(config.markets),
            "model": "moe_rule",
            "n": 120,
            "accuracy": [0.5, 0.6, 0.5],
            "log_loss": [0.7, 0.6, 0.7],
            "lift": [np.nan, 0.5, np.nan],
        }
    )
    write_parquet(paths.benchmark / "table.parquet", table)
    write_bytes(paths.benchmark / "table.txt", b"the table\n")
    write_bytes(paths.benchmark / "accuracy.html", b"<html>the figure</html>")
    paths.data_dvc.write_text("outs:\n- md5: 0123abcd.dir\n  path: data\n")
    write_json(home / "var" / "home.json", {"source": "simulated"})
    return home
