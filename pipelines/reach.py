"""Is all there that a night needs? Said before the night starts, not after its training.

Training needs every market to begin before the night, and to have more sessions by then than its
cut keeps for testing and validation. Without this the night would find out after it has ingested,
validated and fingerprinted. What a live source will give is not known before it is asked. Models
of a user's own are imported and made, as the table will make them.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from atlas.bars import Timeframe
from atlas.calendars import session_days, sessions
from atlas.config import ATLASConfig
from atlas.errors import ConfigError
from pipelines.sources.files import FilesSource
from pipelines.store import known_by

__all__ = ["require", "require_models"]


def require_models(config: ATLASConfig) -> None:
    """Check that every entry of benchmark.models leads to a model.

    Raises:
        ConfigError: naming the entry, as `atlas.own_model.load_yardsticks`.
    """
    if not config.benchmark.models:
        return
    from atlas.benchmark import MODELS  # heavy, and few have models of their own
    from atlas.own_model import load_yardsticks

    load_yardsticks(config.benchmark.models, taken=MODELS)


def require(config: ATLASConfig, folder: Path | None, as_of: pd.Timestamp) -> None:
    """Check that every market that is there has sessions enough for the night `as_of`.

    Args:
        folder: of the archive, for markets of the source `files`.

    Raises:
        ConfigError: naming the market, and what it has beside what it needs.
    """
    for market, settings in config.markets.items():
        source = config.source_of(market)
        if source == "files":
            assert folder is not None
            have = _of_archive(FilesSource(folder, config), market, as_of)
        elif source == "simulated" and market in config.simulated.markets:
            have = _of_simulated(config, market, as_of)
        else:
            continue
        needed = settings.cut.test + settings.cut.validation
        if have is not None and have <= needed:
            raise ConfigError(
                f"{market}: its cut keeps {settings.cut.test} + {settings.cut.validation} sessions "
                f"for testing and validation, so it needs more than {needed}; by {as_of.date()} it "
                f"has {have}: lower markets.{market}.cut in params.yaml, or bring more history"
            )


def _of_archive(source: FilesSource, market: str, as_of: pd.Timestamp) -> int | None:
    """Count the sessions that a night knows of; None for a market that is absent and may be."""
    settings = source.config.markets[market]
    timeframe = Timeframe.parse(settings.timeframe)
    days = np.zeros(0, np.int64)
    begins = []
    for symbol in source.files(market):
        times = source.times(market, symbol)
        begins += [times.min()] if len(times) else []
        known = pd.DatetimeIndex(times[known_by(times, as_of, settings)])
        days = np.union1d(days, session_days(known, settings.calendar, timeframe))
    if begins and not len(days) and settings.required:
        raise ConfigError(
            f"as_of {as_of.date()}: expected a night after {min(begins).date()}, where the "
            f"archive's market {market!r} begins"
        )
    return len(days) if len(days) else None


def _of_simulated(config: ATLASConfig, market: str, as_of: pd.Timestamp) -> int:
    usual = pd.Timestamp(config.simulated.as_of, tz="UTC")
    calendar, day = config.markets[market].calendar, pd.Timedelta(days=1)
    more = len(sessions(calendar, usual, as_of - day))
    fewer = len(sessions(calendar, as_of, usual - day))
    return config.simulated.markets[market].sessions + more - fewer
