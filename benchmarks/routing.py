"""Where the rule gate sends a home's markets, before and after null calibration.

`python -m benchmarks.routing --home HOME` reads the fingerprints of a home's night and prints the
share of bars per expert: by the seed's thresholds alone, with the ranges that ask what a random
walk would show, and after hysteresis, which is what the gate reads.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
import yaml

from atlas.bars import Timeframe
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.rule import rule_experts
from pipelines.paths import Paths

PROJECT = Path(__file__).parent.parent


def main(home: Annotated[Path, typer.Option(help="of a fingerprinted night")] = PROJECT) -> None:
    """Print three rows a market: share of bars per expert in per cent."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    config = ATLASConfig.parse(params)
    typer.echo("| market | bars | verdict | " + " | ".join(EXPERT_IDS) + " |")
    typer.echo("|---|---|---|" + "---|" * len(EXPERT_IDS))
    for market, settings in config.markets.items():
        path = Paths(home).fingerprints(market)
        if not path.is_file():
            continue
        frame = pd.read_parquet(path)
        values = frame[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
        timeframe = Timeframe.parse(settings.timeframe)
        found = {
            name: np.array(EXPERT_IDS)[
                rule_experts(values, settings.modality, timeframe, calibrated=calibrated)
            ]
            for name, calibrated in (("thresholds", False), ("calibrated", True))
        }
        found["steadied"] = frame["rule"].astype(str).to_numpy()
        for name, experts in found.items():
            shares = [f"{100 * np.mean(experts == expert):.1f}" for expert in EXPERT_IDS]
            typer.echo(f"| {market} | {len(frame):,} | {name} | " + " | ".join(shares) + " |")


if __name__ == "__main__":
    typer.run(main)
