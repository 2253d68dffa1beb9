"""Where bars come from. A source lists a market's symbols and gives each one's rows up to a night.

A source never writes. What it gives is a prefix of what it gives for a later night, so that nights
append.
"""

from pathlib import Path
from typing import Protocol

import pandas as pd

from atlas.config import ATLASConfig
from atlas.errors import ConfigError

__all__ = ["Source", "source_for"]


class Source(Protocol):
    """What ingest asks of a source."""

    def symbols(self, market: str) -> list[str]:
        """Return the market's symbols, in order."""
        ...

    def check_rows(self, market: str) -> None:
        """Refuse a market whose rows are wrong as a whole, before any of them is written."""
        ...

    def fetch(self, market: str, symbol: str, *, as_of: pd.Timestamp) -> pd.DataFrame:
        """Return a symbol's rows known by `as_of`, timestamp a column."""
        ...

    def as_of(self, market: str) -> pd.Timestamp:
        """Return the market's last night: the midnight UTC at or after its last bar's close."""
        ...


def source_for(config: ATLASConfig, folder: Path | None) -> Source:
    """Return the source that params.yaml names.

    Args:
        folder: of the archive, for the source `files`.

    Raises:
        ConfigError: the source `files` without a folder.
    """
    # imported here: each source brings its own weight, and a night needs one of them
    if config.source == "simulated":
        from pipelines.sources.simulated import SimulatedSource

        return SimulatedSource(config)
    from pipelines.sources.files import FilesSource

    if folder is None:
        raise ConfigError("the source 'files' needs a folder: give --data DIR (make: DATA=DIR)")
    return FilesSource(folder, config)
