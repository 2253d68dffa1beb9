"""What every page is handed: the home, its configuration, and the few choices a URL makes.

Choices are checked here, against what the home has; what does not fit is an
`AddressError`, which becomes a page of its own that says what would fit.
"""

import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from atlas.config import ATLASConfig, MarketConfig
from atlas.errors import AtlasError, ConfigError, DataError
from dashboard.gates import GATES
from dashboard.markets import night_of_home
from dashboard.reading import stored
from dashboard.registry import read_registry
from pipelines import store
from pipelines.night import read_config
from pipelines.paths import Paths

__all__ = ["AddressError", "Choice", "View"]

_EMPTY = " Its store is empty: run make nightly."
_MOST = 64  # letters of an address that a notice repeats
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class AddressError(ConfigError):
    """A URL asks for what this home does not have, or for nothing that makes sense."""


@dataclass(frozen=True)
class Choice:
    """What a page is about; all of it checked."""

    market: str
    symbol: str | None
    gate: str
    first: dt.date | None
    last: dt.date | None


@dataclass(frozen=True)
class View:
    """One home, looked at and never changed."""

    paths: Paths
    params: Path

    @property
    def config(self) -> ATLASConfig:
        """Return the configuration as it is now.

        Raises:
            ConfigError: params.yaml is not right.
        """
        return stored([self.params], "config", lambda: read_config(self.params))

    @property
    def night(self) -> pd.Timestamp:
        """Return the night last begun."""
        return night_of_home(self.paths, self.config)

    @property
    def variant(self) -> str:
        """Return the variant whose gate is shown by default: the champion's, if it is there."""
        found = "moe_mlp"
        try:
            holder = read_registry(self.paths).holder("champion")
            found = holder.tags.get("variant", found) if holder else found
        except AtlasError:
            pass
        there = [n for n in GATES[:2] if (self.paths.model(n) / "predictions.parquet").is_file()]
        return found if found in there or not there else there[0]

    def settings(self, market: str) -> MarketConfig:
        """Return a market's settings."""
        return self.config.markets[market]

    def symbols(self, market: str) -> list[str]:
        """Return a market's symbols that the store can name."""
        return store.symbols(self.paths, market)

    def choose(
        self,
        market: str = "",
        symbol: str = "",
        gate: str = "",
        first: str = "",
        last: str = "",
        *,
        needs_symbol: bool = False,
    ) -> Choice:
        """Check what a URL says; what it leaves out is chosen.

        Raises:
            AddressError: it names a market, symbol, gate or date that is not one.
        """
        markets = list(self.config.markets)
        there = [name for name in markets if self.paths.fingerprints(name).is_file()]
        market = market or (there or markets)[0]
        if market not in markets:
            raise AddressError(f"No market {_short(market)}. This home has {', '.join(markets)}.")
        gate = gate or self.variant
        if gate not in GATES:
            raise AddressError(
                f"There is no gate {_short(gate)}. Choose one of {', '.join(GATES)}."
            )
        chosen = self._symbol(market, symbol, needs_symbol=needs_symbol)
        begin, end = _date(first), _date(last)
        if begin and end and begin > end:
            raise AddressError(f"The range begins on {begin}, after it ends on {end}: swap them.")
        return Choice(market, chosen, gate, begin, end)

    def _symbol(self, market: str, symbol: str, *, needs_symbol: bool) -> str | None:
        names = self.symbols(market)
        if not symbol:
            return names[0] if needs_symbol and names else None
        try:
            store.symbol_name(symbol)
        except DataError as error:
            raise AddressError(str(error).replace(repr(symbol), _short(symbol))) from None
        if symbol not in names:
            near = [name for name in names if name.lower().startswith(symbol[:1].lower())][:5]
            hint = f" It has {', '.join(near or names[:5])} and others." if names else _EMPTY
            raise AddressError(f"{market} has no symbol {symbol!r}.{hint}")
        return symbol


def _date(text: str) -> dt.date | None:
    if not text:
        return None
    try:
        if _DATE.fullmatch(text):
            return dt.date.fromisoformat(text)
    except ValueError:
        pass
    raise AddressError(f"{_short(text)} is no date. Write it as 2026-11-20.")


def _short(text: str) -> str:
    """Quote what a URL says; a notice need not repeat five thousand letters."""
    return repr(text if len(text) <= _MOST else f"{text[:_MOST]}…")
