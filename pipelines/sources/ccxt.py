"""Bars of any exchange that ccxt knows. Not yet tried against a live exchange (docs/sources.md).

- Pages follow one another by time: each starts after the newest bar of the one before. An exchange
  may give short pages, pages that are unordered or overlap, and empty ones where trading stood
  still; the way goes on until the asked span ends.
- Rate limits are ccxt's own; what fails on the way is tried again with back-off, what cannot
  succeed (an unknown name, refused credentials) is not.
- Host and credentials come from the connection `atlas_<exchange>` (`pipelines.connections`).
"""

import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

import ccxt
import pandas as pd

from atlas.bars import COLUMNS, Timeframe
from atlas.config import ATLASConfig, LiveConfig
from atlas.errors import ConfigError, DataError
from pipelines.connections import Connection, connection
from pipelines.sources.live import (
    Transient,
    complete,
    live_settings,
    now,
    persist,
    spelled,
    suggestion,
)

__all__ = ["CcxtSource"]

T = TypeVar("T")
PAGE = 1000  # bars; exchanges with a lower limit give less, which is a short page
NEVER_AGAIN = (ccxt.AuthenticationError, ccxt.PermissionDenied, ccxt.AccountNotEnabled)


class CcxtSource:
    """The source `ccxt`; its methods are those of `pipelines.sources.Source`."""

    is_live = True
    restates = False

    def __init__(self, config: ATLASConfig) -> None:
        """Hold the configuration; an exchange is asked when a market first needs it."""
        self.config = config
        self._clients: dict[str, _Client] = {}

    def symbols(self, market: str) -> list[str]:
        """Return the market's symbols as the store names them."""
        _, live = live_settings(self.config, market)
        return list(spelled(market, live.symbols))

    def check_rows(self, market: str) -> None:
        """Refuse an exchange, a symbol or a timeframe that does not exist.

        Raises:
            ConfigError: naming it, and what there is.
            DataError: the exchange refuses the credentials.
            SourceError: the exchange does not answer.
        """
        settings, live = live_settings(self.config, market)
        client = self._client(live)
        client.timeframe(settings.timeframe)
        for symbol in spelled(market, live.symbols).values():
            client.check_symbol(symbol)

    def fetch(
        self, market: str, symbol: str, *, as_of: pd.Timestamp, start: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return a symbol's complete bars known by `as_of`, from `start` on.

        Raises:
            ConfigError: the exchange, the symbol or the timeframe does not exist.
            DataError: the exchange refuses the credentials or the request.
            SourceError: it does not answer.
        """
        settings, live = live_settings(self.config, market)
        names = spelled(market, live.symbols)
        if symbol not in names:
            raise DataError(f"{market}/{symbol}: not among markets.{market}.live.symbols")
        begin = start if start is not None else pd.Timestamp(live.since, tz="UTC")
        client = self._client(live)
        step = Timeframe.parse(settings.timeframe)
        rows = client.bars(names[symbol], settings.timeframe, begin, min(as_of, now()), step)
        return complete(rows, settings, as_of=as_of, start=begin, name=f"{market}/{symbol}")

    def as_of(self, market: str) -> pd.Timestamp:  # noqa: ARG002 (trading never ends)
        """Return the last midnight."""
        return now().floor("D")

    def digest(self, market: str) -> str:  # noqa: ARG002 (nothing is known without asking)
        """Return the empty text: only asking tells what is there."""
        return ""

    def _client(self, live: LiveConfig) -> "_Client":
        assert live.exchange is not None
        if live.exchange not in self._clients:
            self._clients[live.exchange] = _Client(live.exchange)
        return self._clients[live.exchange]


class _Client:
    """One exchange."""

    def __init__(self, exchange: str) -> None:
        if exchange not in ccxt.exchanges:
            raise ConfigError(
                f"live.exchange {exchange!r}: ccxt knows no such exchange"
                f"{suggestion(exchange, ccxt.exchanges)}"
            )
        logging.getLogger("ccxt").setLevel(logging.INFO)  # its debug lines hold API keys
        self.name = exchange
        self.connection = connection(exchange)
        self.api = _api(exchange, self.connection)
        self._listed: set[str] | None = None

    def timeframe(self, name: str) -> str:
        """Return the exchange's name of a timeframe."""
        step = Timeframe.parse(name)
        offered = {one: ccxt.Exchange.parse_timeframe(one) for one in self.api.timeframes or {}}
        for theirs, seconds in offered.items():
            if seconds == step.seconds and not theirs.endswith("M"):
                return str(theirs)
        raise ConfigError(
            f"timeframe {name}: {self.name} does not offer it; it has "
            f"{', '.join(offered) or 'none'}"
        )

    def check_symbol(self, symbol: str) -> None:
        if self._listed is None:
            markets = self._ask(self.api.load_markets, f"{self.name}: the list of its symbols")
            self._listed = set(markets)
        if symbol not in self._listed:
            raise ConfigError(
                f"symbol {symbol!r}: {self.name} does not list it{suggestion(symbol, self._listed)}"
            )

    def bars(
        self, symbol: str, timeframe: str, start: pd.Timestamp, end: pd.Timestamp, step: Timeframe
    ) -> pd.DataFrame:
        """Return the exchange's rows from `start` to `end` as they came, page after page."""
        self.check_symbol(symbol)
        theirs = self.timeframe(timeframe)
        cursor, stop = _milliseconds(start), _milliseconds(end)
        length = step.seconds * 1000
        rows: list[list[float]] = []
        while cursor < stop:
            page = self._page(symbol, theirs, cursor)
            rows += page
            newest = max((int(row[0]) for row in page), default=-1)
            # nothing new: trading may have stood still for a page's length
            cursor = newest + length if newest >= cursor else cursor + PAGE * length
        frame = pd.DataFrame(rows, columns=["timestamp", *COLUMNS])
        stamps = pd.to_datetime(frame["timestamp"].astype("int64"), unit="ms", utc=True)
        return frame.assign(timestamp=stamps.dt.as_unit("us")).astype(dict.fromkeys(COLUMNS, float))

    def _page(self, symbol: str, timeframe: str, cursor: int) -> list[list[float]]:
        when = pd.Timestamp(cursor, unit="ms", tz="UTC").isoformat()
        what = f"{self.name} {symbol} {timeframe} from {when}"

        def ask() -> list[list[float]]:
            rows = self.api.fetch_ohlcv(symbol, timeframe, since=cursor, limit=PAGE)
            if not isinstance(rows, list) or not all(_is_bar(row) for row in rows):
                raise Transient("the answer holds no bars")
            if self.api.last_json_response is None:  # ccxt takes malformed JSON for an empty page
                raise Transient("the answer is no JSON")
            return [row[:6] for row in rows]

        return self._ask(ask, what)

    def _ask(self, ask: Callable[[], T], what: str) -> T:
        def tried() -> T:
            try:
                return ask()
            except NEVER_AGAIN as error:
                raise DataError(
                    f"{what}: {self.name} refuses the credentials of the connection "
                    f"atlas_{self.name}: {self._said(error)}"
                ) from None
            except ccxt.NetworkError as error:  # rate limits and outages among them
                raise Transient(self._said(error)) from None
            except ccxt.BaseError as error:
                if _is_garbled(error):
                    raise Transient(self._said(error)) from None
                raise DataError(
                    f"{what}: {self.name} refuses the request: {self._said(error)}"
                ) from None
            except (TypeError, ValueError, AttributeError, LookupError) as error:
                # ccxt takes an answer apart without looking: malformed JSON ends here
                raise Transient(f"the answer cannot be read ({type(error).__name__})") from None

        return persist(tried, what, self.connection)

    def _said(self, error: Exception) -> str:
        return f"{type(error).__name__}: {self.connection.scrub(error)}"[:300]


def _api(exchange: str, own: Connection) -> Any:
    """Return ccxt's client, its addresses moved to the connection's host if it has one."""
    settings: dict[str, Any] = {
        "enableRateLimit": True,
        "enableLastJsonResponse": True,
        "timeout": 30_000,
    }
    if own.login:
        settings["apiKey"], settings["secret"] = own.login, own.password or ""
    api = getattr(ccxt, exchange)(settings)
    if own.extra.get("rate_limit_ms"):
        api.rateLimit = float(own.extra["rate_limit_ms"])
    api.has["fetchCurrencies"] = False  # bars need no currencies, which some show to users only
    if own.base:
        api.urls["api"] = _moved(api.urls["api"], own.base)
    if not api.has.get("fetchOHLCV"):
        raise ConfigError(f"live.exchange {exchange!r}: it gives no bars (fetchOHLCV)")
    return api


def _moved(urls: Any, base: str) -> Any:
    if isinstance(urls, dict):
        return {name: _moved(url, base) for name, url in urls.items()}
    path = urls.split("://", 1)[-1].partition("/")[2]
    return f"{base}/{path}" if path else base


def _is_bar(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) >= 6
        and isinstance(row[0], (int, float))
        and math.isfinite(row[0])
        and all(value is None or isinstance(value, (int, float)) for value in row[1:6])
    )


def _is_garbled(error: Exception) -> bool:
    """Return whether ccxt complains about an answer rather than about the request."""
    return isinstance(error, (ccxt.BadResponse, ccxt.NullResponse)) or type(error) is ccxt.BaseError


def _milliseconds(time: pd.Timestamp) -> int:
    return int(time.value // 1_000_000)
