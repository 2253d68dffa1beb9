"""What an archive's unit trains and is scored on: every market, cut at one date for all.

A market that ended before the cut still trains; it has no test row. One that begins after the cut
is left out. Test rows run up to the next cut, so no row is scored in two cuts.
"""

import datetime as dt
import logging
from dataclasses import replace

import numpy as np
import pandas as pd

from atlas.config import ATLASConfig
from atlas.cuts import cut_at
from atlas.errors import ConfigError, DataError
from atlas.windows import MarketData
from pipelines.paths import Paths
from pipelines.samples import load

__all__ = ["archive_at"]

log = logging.getLogger(__name__)
_LAST = np.iinfo(np.int64).max


def archive_at(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, cut: str
) -> dict[str, MarketData]:
    """Load every market and cut it at the date `cut`, one of `benchmark.cuts`.

    Validation rows are of as many sessions before the cut as the market's `cut.test`.

    Raises:
        ConfigError: no market has bars on both sides of the cut.
        DataError: a required market did not pass validation or has no fingerprints.
    """
    later = [day for day in config.benchmark.cuts if str(day) > cut]
    day = _days(dt.date.fromisoformat(cut))
    end = _days(later[0]) if later else _LAST
    data = {}
    for market, own in load(paths, config, as_of).items():
        settings = config.markets[market]
        try:
            split = cut_at(
                own.panel,
                own.labels,
                day=day,
                end=end,
                validation=settings.cut.test,
                horizon=config.label(market).horizon,
            )
        except DataError as error:
            log.info("%s", error)
            continue
        if split.train.size:
            data[market] = replace(own, split=split)
    if not any(own.split.test.size for own in data.values()):
        raise ConfigError(
            f"benchmark.cuts: no market has bars on both sides of {cut}; choose dates inside the "
            "archive's histories"
        )
    return data


def _days(day: dt.date) -> int:
    return int(np.datetime64(day, "D").astype(np.int64))
