"""Where bars come from. A source lists a market's symbols and gives each one's rows up to a night.

- A source never writes, and gives only what a night knows: complete bars. What it gives is a prefix
  of what it gives for a later night, so that nights append.
- Which source a market has is its own `source` in params.yaml, else the one for all.
- A local source (simulated, files) is cheap to read whole. A live one is asked over the network, a
  piece at a time, for what the store lacks.
"""

from pathlib import Path
from typing import Protocol

import pandas as pd

from atlas.config import ATLASConfig
from atlas.errors import ConfigError

__all__ = ["Source", "source_for"]


class Source(Protocol):
    """What ingest asks of a source.

    Attributes:
        is_live: whether rows come over the network, so that only what is missing is asked for.
        restates: whether a split or dividend changes rows that it gave before.
    """

    is_live: bool
    restates: bool

    def symbols(self, market: str) -> list[str]:
        """Return the market's symbols as the store names them, in order."""
        ...

    def check_rows(self, market: str) -> None:
        """Refuse a market that is wrong as a whole, before any of its rows is written."""
        ...

    def fetch(
        self, market: str, symbol: str, *, as_of: pd.Timestamp, start: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return a symbol's rows known by `as_of`, those before `start` left out.

        timestamp is a column; the rows are those that `check_bars` or `check_surfaces` accepts.
        """
        ...

    def as_of(self, market: str) -> pd.Timestamp:
        """Return the market's last night: the midnight UTC that knows its last bar."""
        ...

    def digest(self, market: str) -> str:
        """Return a digest of what is there to be given; a live source has none, the empty text."""
        ...


def source_for(config: ATLASConfig, market: str, folder: Path | None) -> Source:
    """Return the source of a market.

    Args:
        folder: of the archive, for the source `files`.

    Raises:
        ConfigError: the market is not in params.yaml, or the source `files` has no folder.
    """
    if market not in config.markets:
        known = ", ".join(config.markets)
        raise ConfigError(f"market {market!r} is not in params.yaml, which has {known}")
    name = config.source_of(market)
    # imported here: each source brings its own weight, and a market needs one of them
    if name == "simulated":
        from pipelines.sources.simulated import SimulatedSource

        return SimulatedSource(config)
    if name == "ccxt":
        from pipelines.sources.ccxt import CcxtSource

        return CcxtSource(config)
    if name == "yfinance":
        from pipelines.sources.yfinance import YfinanceSource

        return YfinanceSource(config)
    from pipelines.sources.files import FilesSource

    if folder is None:
        raise ConfigError("the source 'files' needs a folder: give --data DIR (make: DATA=DIR)")
    return FilesSource(folder, config)
