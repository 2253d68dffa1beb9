"""Write what is known of the simulated markets without reading data/: their probabilities.

Ingest does the same on its way. As a stage of its own it lets `dvc repro` start from data.dvc
alone, in a clone that has pulled data/ and ingested nothing.
"""

from typing import Any

import pandas as pd

from atlas.config import ATLASConfig
from pipelines.files import write_json
from pipelines.ingest import write_truth
from pipelines.paths import Paths
from pipelines.sources.simulated import SimulatedSource

__all__ = ["run"]


def run(paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp) -> dict[str, Any]:
    """Write artifacts/truth/ and artifacts/night.json; an archive has no truth.

    Returns:
        as_of and the markets whose truth is known.
    """
    markets = [market for market in config.markets if config.source_of(market) == "simulated"]
    source = SimulatedSource(config)
    for market in markets:
        write_truth(paths, source, market, as_of)
    paths.truth("any").parent.mkdir(parents=True, exist_ok=True)
    night = str(as_of.date())
    write_json(paths.night, {"as_of": night})
    return {"as_of": night, "markets": markets}
