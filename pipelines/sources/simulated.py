"""The embedded source: simulated markets whose best possible accuracy is known.

A market is simulated once and kept until another market or night is asked for, since `fetch` (one
symbol at a time) and `truth` read the same paths.
"""

import hashlib
import json

import pandas as pd

from atlas.bars import Timeframe
from atlas.config import ATLASConfig
from atlas.errors import DataError
from atlas.synthetic import Simulated, simulate, symbol_names

__all__ = ["SimulatedSource"]


class SimulatedSource:
    """A source of bars (see `pipelines.sources`) that also knows the truth about them.

    Args:
        config: sizes, seed and end of the histories come from its `simulated` block.
    """

    is_live = False
    restates = False

    def __init__(self, config: ATLASConfig) -> None:
        self.config = config
        self._made: tuple[tuple[str, pd.Timestamp], dict[str, Simulated]] | None = None

    def symbols(self, market: str) -> list[str]:
        """Return the names of a market's symbols, none if it is not simulated."""
        sizes = self.config.simulated.markets.get(market)
        return list(symbol_names(market, sizes.symbols)) if sizes else []

    def as_of(self, market: str) -> pd.Timestamp:  # noqa: ARG002 (every market ends alike)
        """Return the night at which the simulated histories end by default."""
        return pd.Timestamp(self.config.simulated.as_of, tz="UTC")

    def check_rows(self, market: str) -> None:
        """Find nothing: what is made here keeps its contract."""

    def digest(self, market: str) -> str:
        """Return a digest over what decides a market's paths."""
        settings = {"market": market, **self.config.simulated.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def fetch(
        self, market: str, symbol: str, *, as_of: pd.Timestamp, start: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return the raw rows of a symbol known by `as_of`, from `start` on.

        Raises:
            DataError: naming a symbol that the market does not have.
        """
        made = self._market(market, as_of)
        if symbol not in made:
            raise DataError(
                f"{market}/{symbol}: no such simulated symbol; expected one of "
                f"{', '.join(made) or 'none'}"
            )
        rows = made[symbol].frame
        return rows if start is None else rows[rows["timestamp"] >= start]

    def truth(self, market: str, as_of: pd.Timestamp) -> pd.DataFrame:
        """Return symbol, timestamp, p and law of every bar or surface known at `as_of`.

        p is the probability that the return after the row is up, given everything up to the row.
        """
        made = self._market(market, as_of)
        if not made:
            return pd.DataFrame(columns=["symbol", "timestamp", "p", "law"])
        return pd.concat([one.truth for one in made.values()], ignore_index=True)

    def _market(self, market: str, as_of: pd.Timestamp) -> dict[str, Simulated]:
        if self._made is None or self._made[0] != (market, as_of):
            self._made = None  # frees the last market before the next one is made
            self._made = ((market, as_of), self._simulate(market, as_of))
        return self._made[1]

    def _simulate(self, market: str, as_of: pd.Timestamp) -> dict[str, Simulated]:
        sizes = self.config.simulated.markets.get(market)
        if sizes is None:
            return {}
        settings = self.config.markets[market]
        made = simulate(
            market,
            symbols=sizes.symbols,
            history=sizes.sessions,
            history_end=self.as_of(market),
            timeframe=Timeframe.parse(settings.timeframe),
            calendar=settings.calendar,
            as_of=as_of,
            seed=self.config.simulated.seed,
        )
        return {one.symbol: one for one in made}
