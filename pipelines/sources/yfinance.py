"""Yahoo's bars and option chains, through yfinance. Not yet tried against the live service.

- Yahoo divides all past prices by every later split. Stored are the prices as they were traded:
  that division is taken back, so that a split changes no stored price, only `adj_close`.
- `adj_close` is Yahoo's adjusted close for daily bars, its split-adjusted close for intraday ones,
  where it has no other.
- Daily bars carry midnight UTC of their session's date. Volume is as traded too.
- An option chain is asked for as it stands; it is a surface of its underlying's last trade, and
  counts only after the session's end. Past ones cannot be had. Yahoo's own implied volatilities are
  not used: `atlas.implied_vol` reads them off bid and ask.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yfinance
from curl_cffi.requests import exceptions as curl
from yfinance import exceptions as yahoo
from yfinance.data import YfData

from atlas.bars import COLUMNS, Timeframe
from atlas.calendars import bar_opens, sessions
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, DataError
from pipelines.connections import Connection, connection
from pipelines.sources.chains import chain_surface, last_trade
from pipelines.sources.live import Transient, complete, live_settings, now, persist, spelled
from pipelines.sources.yahoo_session import open_session

__all__ = ["YfinanceSource"]

log = logging.getLogger(__name__)
T = TypeVar("T")
DIGITS = 7  # significant; Yahoo's prices are single precision
TENOR_CHAINS = 3
_INTERVALS = {60: "1m", 120: "2m", 300: "5m", 900: "15m", 1800: "30m", 3600: "1h", 86400: "1d"}
_REACH = {"1m": 7, "2m": 59, "5m": 59, "15m": 59, "30m": 59, "1h": 729}  # days back that Yahoo has
_GONE = ("not found", "delisted", "no data found", "symbol may be")
_NETWORK = (curl.RequestException, OSError, yahoo.YFRateLimitError, yahoo.YFDataException)


class YfinanceSource:
    """The source `yfinance`; its methods are those of `pipelines.sources.Source`."""

    is_live = True
    restates = True

    def __init__(self, config: ATLASConfig) -> None:
        """Hold the configuration; Yahoo is asked when a symbol is first needed."""
        self.config = config
        self.connection: Connection = connection("yfinance")
        self._session: Any = None

    def symbols(self, market: str) -> list[str]:
        """Return the market's symbols as the store names them."""
        _, live = live_settings(self.config, market)
        return list(spelled(market, live.symbols))

    def check_rows(self, market: str) -> None:
        """Refuse a timeframe that Yahoo does not offer.

        Raises:
            ConfigError: naming it, and those there are.
        """
        settings, _ = live_settings(self.config, market)
        if settings.modality == "chart":
            _interval(settings.timeframe)

    def fetch(
        self, market: str, symbol: str, *, as_of: pd.Timestamp, start: pd.Timestamp | None = None
    ) -> pd.DataFrame:
        """Return a symbol's complete bars known by `as_of` from `start` on, or its last surface.

        Raises:
            ConfigError: Yahoo has no such symbol or timeframe.
            SourceError: it does not answer.
        """
        settings, live = live_settings(self.config, market)
        names = spelled(market, live.symbols)
        if symbol not in names:
            raise DataError(f"{market}/{symbol}: not among markets.{market}.live.symbols")
        name = f"{market}/{symbol}"
        begin = start if start is not None else pd.Timestamp(live.since, tz="UTC")
        if settings.modality == "surface":
            return self._surface(names[symbol], name, market, begin, as_of)
        step = Timeframe.parse(settings.timeframe)
        rows = self._bars(names[symbol], name, step, begin)
        return complete(rows, settings, as_of=as_of, start=begin, name=name)

    def as_of(self, market: str) -> pd.Timestamp:  # noqa: ARG002 (all markets end alike)
        """Return the last midnight."""
        return now().floor("D")

    def digest(self, market: str) -> str:  # noqa: ARG002 (nothing is known without asking)
        """Return the empty text: only asking tells what is there."""
        return ""

    def _bars(self, symbol: str, name: str, step: Timeframe, start: pd.Timestamp) -> pd.DataFrame:
        """Return all bars from `start` to now, as traded: later splits have to be known."""
        interval = _interval(step.name)
        reach = now() - pd.Timedelta(days=_REACH[interval]) if interval in _REACH else start
        if start < reach:
            log.warning("%s: Yahoo has %s bars of %d days only", name, interval, _REACH[interval])
        first = max(start, reach).floor("D") - pd.Timedelta(days=1)

        def ask() -> pd.DataFrame:
            frame: pd.DataFrame = self._ticker(symbol).history(
                interval=interval,
                start=first.to_pydatetime(),
                end=(now().floor("D") + pd.Timedelta(days=2)).to_pydatetime(),
                auto_adjust=False,
                actions=True,
                prepost=False,
            )
            return frame

        frame = self._ask(ask, f"Yahoo {symbol} {interval} from {first.date()}")
        return _as_traded(frame, step)

    def _surface(
        self, symbol: str, name: str, market: str, start: pd.Timestamp, as_of: pd.Timestamp
    ) -> pd.DataFrame:
        """Return the surface of the last session that ended in [start, as_of], if there is one."""
        settings, live = live_settings(self.config, market)
        ticker = self._ticker(symbol)
        dates = self._ask(lambda: list(ticker.options), f"Yahoo {symbol}: expiries of its options")
        frame = pd.DataFrame(columns=["timestamp", "tenor", "delta", "iv"])
        tenor = 0
        for date in dates:
            if tenor == TENOR_CHAINS:
                break
            chain = self._ask(
                partial(ticker.option_chain, date), f"Yahoo {symbol}: options of {date}"
            )
            taken = last_trade(chain.underlying, name)
            if not start <= taken <= as_of or not _has_ended(taken, settings.calendar):
                log.warning("%s: the chain of %s is no end of a session here", name, taken)
                return frame
            if pd.Timestamp(date, tz="UTC") - taken < pd.Timedelta(days=live.min_days):
                continue
            tenor += 1
            quotes = chain_surface(chain, date, taken, tenor=tenor, rate=live.rate)
            frame = pd.concat([frame, quotes], ignore_index=True) if len(frame) else quotes
        return frame

    def _ticker(self, symbol: str) -> Any:
        if self._session is None:
            yfinance.config.debug.hide_exceptions = False
            logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # what it raises is said here
            self._session = open_session(self.connection)
        return yfinance.Ticker(symbol, session=self._session)

    def _ask(self, ask: Callable[[], T], what: str) -> T:
        def tried() -> T:
            YfData.cache_get.cache_clear()  # it keeps answers, bad ones too
            try:
                return ask()
            except yahoo.YFPricesMissingError as error:
                if _is_gone(error):
                    raise _no_symbol(what, error) from None
                raise Transient(str(error)) from None
            except (yahoo.YFTzMissingError, yahoo.YFTickerMissingError) as error:
                raise _no_symbol(what, error) from None
            except _NETWORK as error:
                raise Transient(f"{type(error).__name__}: {error}"[:300]) from None
            except (TypeError, ValueError, AttributeError, LookupError) as error:
                # yfinance takes an answer apart without looking: malformed JSON ends here
                raise Transient(f"the answer cannot be read ({type(error).__name__})") from None

        return persist(tried, what, self.connection)


def _no_symbol(what: str, error: Exception) -> ConfigError:
    return ConfigError(f"{what}: Yahoo has no such symbol, or nothing of it ({error})")


def _is_gone(error: Exception) -> bool:
    return any(word in str(error).lower() for word in _GONE)


def _interval(timeframe: str) -> str:
    seconds = Timeframe.parse(timeframe).seconds
    if seconds not in _INTERVALS:
        offered = ", ".join(_INTERVALS.values())
        raise ConfigError(f"timeframe {timeframe}: Yahoo does not offer it; it has {offered}")
    return _INTERVALS[seconds]


def _as_traded(frame: pd.DataFrame, step: Timeframe) -> pd.DataFrame:
    """Take Yahoo's split adjustment back and name the columns as a bar frame does."""
    index = pd.DatetimeIndex(frame.index)
    if step.is_intraday:
        stamps = index.tz_convert("UTC")
    else:  # midnight of the exchange's own day
        stamps = index.tz_localize(None).normalize().tz_localize("UTC")
    splits = frame["Stock Splits"].to_numpy(np.float64) if "Stock Splits" in frame else 1.0
    each = np.where(splits > 0, splits, 1.0) * np.ones(len(frame))
    later = np.cumprod(each[::-1])[::-1] / each  # of the splits after each bar's own session
    if step.is_intraday and len(frame):
        later = _by_session(each, index)
    rows: dict[str, Any] = {"timestamp": stamps.as_unit("us")}
    for name in COLUMNS:
        values = frame[name.capitalize()].to_numpy(np.float64)
        rows[name] = values / later if name == "volume" else _rounded(values * later)
    adjusted = (
        frame["Adj Close"] if "Adj Close" in frame and not step.is_intraday else frame["Close"]
    )
    rows["adj_close"] = _rounded(adjusted.to_numpy(np.float64))
    return pd.DataFrame(rows)


def _by_session(each: "np.ndarray[Any, Any]", index: pd.DatetimeIndex) -> "np.ndarray[Any, Any]":
    """Return the splits after each bar's day: one that Yahoo pins to a bar began that morning."""
    days = index.tz_localize(None).normalize()
    daily = pd.Series(each).groupby(days).prod()
    later = daily[::-1].cumprod()[::-1] / daily
    return later.reindex(days).to_numpy(np.float64)


def _rounded(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Round to significant digits, so that an answer given twice is the same to the last bit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        places = DIGITS - 1 - np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** np.where(np.isfinite(places), places, 0)
    return np.round(values * scale) / scale


def _has_ended(taken: pd.Timestamp, calendar: str) -> bool:
    """Return whether the last trade is the last of its session, give or take a minute.

    Quotes still move while the session is open, and a surface of its middle is none of its end.
    """
    minute = Timeframe.parse("1min")
    opens = bar_opens(calendar, minute, sessions(calendar, taken.normalize(), taken.normalize()))
    return not len(opens) or bool(taken >= opens[-1])
