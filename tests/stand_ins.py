"""Local HTTP stand-ins of an exchange and of Yahoo, which serve bars and, when told to, faults.

The real client libraries are driven against them; only the address is another one.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd

from atlas.implied_vol import black76

MINUTE = 60_000
FIRST = pd.Timestamp("2026-01-30", tz="UTC")


class Answer(NamedTuple):
    """One HTTP answer; a str body is sent as it is."""

    status: int
    body: Any


class StandIn:
    """Answers requests by path; a fault is used up by one request to its path."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.base = ""

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        raise NotImplementedError


@contextmanager
def served(stand_in: StandIn) -> Iterator[StandIn]:
    """Serve a stand-in on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            stand_in.asked.append(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            found = stand_in.answer(parts.path, query)
            text = found.body if isinstance(found.body, str) else json.dumps(found.body)
            self.send_response(found.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stand_in.base = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()


def _walk(count: int, seed: int) -> np.ndarray:
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.001, count))).round(5)


class Exchange(StandIn):
    """Binance's klines of a few days of minutes; one hour of them is missing."""

    def __init__(self, minutes: int = 5 * 1440, page: int = 1000) -> None:
        super().__init__()
        self.page = page
        start = int(FIRST.value // 1_000_000)
        stamps = start + MINUTE * np.arange(minutes)
        close = _walk(minutes, 4).round(2)
        self.rows = [
            [int(t), f"{c:.2f}", f"{c + 1:.2f}", f"{c - 1:.2f}", f"{c:.2f}", "2.5", int(t) + 59_999,
             "1", 1, "1", "1", "0"]
            for t, c in zip(stamps, close, strict=True)
            if not 600 <= (t - start) // MINUTE < 660
        ]  # fmt: skip
        self.late: list[list[Any]] = []

    def frame(self) -> pd.DataFrame:
        """Return the bars that the exchange has, as a source should give them."""
        table = [[row[0], *map(float, row[1:6])] for row in sorted(self.rows)]
        frame = pd.DataFrame(table, columns=["timestamp", "open", "high", "low", "close", "volume"])
        stamps = pd.to_datetime(frame["timestamp"], unit="ms", utc=True).dt.as_unit("us")
        return frame.assign(timestamp=stamps)

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        if path == "/api/v3/exchangeInfo":
            return Answer(200, _exchange_info())
        if path.endswith("exchangeInfo"):
            return Answer(200, {"symbols": [], "timezone": "UTC"})
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "401":
            return Answer(401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions."})
        if fault.isdigit():
            return Answer(int(fault), {"code": -1003, "msg": "told to"})
        if fault == "malformed":
            return Answer(200, '[[1769731200000,"100.0",')
        if fault == "nonsense":
            return Answer(200, {"surprise": True})
        since, limit = int(query["startTime"]), min(int(query["limit"]), self.page)
        page = [row for row in sorted(self.rows) if row[0] >= since][:limit]
        if fault == "short":
            page = page[:7]
        if fault == "unordered":
            page = page[::-1]
        if fault == "twice":
            page = [*page[:5], *page]
        if fault == "early":  # rows from before what was asked for
            page = [*[row for row in sorted(self.rows) if row[0] < since][-3:], *page]
        return Answer(200, page)


def _exchange_info() -> dict[str, Any]:
    filters = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01",
            "maxPrice": "1000000",
            "tickSize": ".01",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "9000", "stepSize": "0.001"},
    ]
    symbol = {
        "symbol": "BTCUSDT",
        "status": "TRADING",
        "baseAsset": "BTC",
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "filters": filters,
    }
    return {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "symbols": [symbol]}


_ABOUT = {  # of any symbol's chart
    "currency": "USD",
    "instrumentType": "EQUITY",
    "exchangeTimezoneName": "America/New_York",
    "timezone": "EST",
    "gmtoffset": -18000,
    "range": "",
    "validRanges": ["1d", "1mo", "max"],
    "priceHint": 2,
}


class Yahoo(StandIn):
    """Yahoo's chart and option endpoints for one stock, and its cookie and crumb."""

    def __init__(self, sessions: pd.DatetimeIndex) -> None:
        super().__init__()
        self.sessions = sessions
        self.traded = _walk(len(sessions), 6).round(2)
        self.splits: dict[int, float] = {}  # place of the first session after it: ratio
        self.dividends: dict[int, float] = {}
        self.vol: Callable[[float], float] = lambda _: 0.2
        self.taken = pd.Timestamp("2026-02-06 21:00", tz="UTC")
        self.expiries = ("2026-02-08", "2026-02-20", "2026-03-20", "2026-06-19", "2026-09-18")
        self.known = {"ACME"}

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        if path in ("/", ""):
            return Answer(200, "")
        if path == "/v1/test/getcrumb":
            return Answer(200, "crumb")
        fault = self.faults.pop(0) if self.faults else ""
        if fault.isdigit():
            return Answer(int(fault), "Too Many Requests" if fault == "429" else "told to")
        if fault == "malformed":
            return Answer(200, '{"chart": {"result": [')
        symbol = path.rsplit("/", 1)[-1]
        if path.startswith("/v8/finance/chart/"):
            return self._chart(symbol, query)
        if path.startswith("/v7/finance/options/"):
            return Answer(200, {"optionChain": {"result": [self._chain(query)], "error": None}})
        return Answer(404, {})

    def _chart(self, symbol: str, query: dict[str, str]) -> Answer:
        if symbol not in self.known:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return Answer(404, {"chart": {"result": None, "error": error}})
        intraday = query["interval"] != "1d"
        splits = self.splits if symbol == "ACME" else {}
        dividends = self.dividends if symbol == "ACME" else {}
        opens = (self.sessions + pd.Timedelta(hours=9.5)).tz_localize("America/New_York")
        place = np.arange(len(opens))
        factor = np.array([np.prod([1 / r for p, r in splits.items() if p > i]) for i in place])
        paid = np.array([
            np.prod([1 - d / self.traded[p - 1] for p, d in dividends.items() if p > i])
            for i in place
        ])  # fmt: skip
        if intraday:
            steps = pd.to_timedelta(np.arange(13) * 30, unit="min")
            stamps = np.array([int(t.timestamp()) for o in opens for t in o + steps])
            place = np.repeat(place, 13)
        else:
            stamps = np.array([int(t.timestamp()) for t in opens])
        close = (self.traded * factor)[place]
        quote = {
            "open": close.tolist(),
            "high": (close * 1.01).tolist(),
            "low": (close * 0.99).tolist(),
            "close": close.tolist(),
            "volume": np.rint(1000 / factor[place]).astype(int).tolist(),
        }
        begin, end = int(query.get("period1", 0)), int(query.get("period2", 2**40))
        keep = [i for i, t in enumerate(stamps) if begin <= t < end]
        indicators: dict[str, Any] = {
            "quote": [{name: [values[i] for i in keep] for name, values in quote.items()}]
        }
        if not intraday:
            adjusted = close * paid[place]
            indicators["adjclose"] = [{"adjclose": [float(adjusted[i]) for i in keep]}]
        meta = {
            **_ABOUT,
            "symbol": symbol,
            "dataGranularity": query["interval"],
            "regularMarketTime": int(stamps[-1]),
            "firstTradeDate": int(stamps[0]),
            "tradingPeriods": self._periods(opens),
        }
        result = {
            "meta": meta,
            "timestamp": [int(stamps[i]) for i in keep],
            "indicators": indicators,
            "events": _events(opens, splits, dividends),
        }
        return Answer(200, {"chart": {"result": [result], "error": None}})

    def _periods(self, opens: pd.DatetimeIndex) -> list[list[dict[str, Any]]]:
        return [
            [{"start": int(t.timestamp()), "end": int(t.timestamp()) + 23_400, "timezone": "EST",
              "gmtoffset": -18000}]
            for t in opens
        ]  # fmt: skip

    def _chain(self, query: dict[str, str]) -> dict[str, Any]:
        stamps = [int(pd.Timestamp(day, tz="UTC").timestamp()) for day in self.expiries]
        date = int(query.get("date", stamps[0]))
        expiry = pd.Timestamp(date, unit="s").tz_localize("America/New_York")
        expiry += pd.Timedelta(hours=16)
        years = (expiry - self.taken).total_seconds() / (365.25 * 86400)
        spot, forward = 100.0, 100.5
        sides: dict[str, list[dict[str, Any]]] = {"calls": [], "puts": []}
        for strike in np.arange(40.0, 200.5, 1.0):
            for side in ("calls", "puts"):
                price = black76(forward, strike, years, self.vol(strike), is_call=side == "calls")
                half = 0.0 if price < 1e-4 else min(0.002, price / 4)
                sides[side].append({
                    "contractSymbol": f"ACME{strike:g}",
                    "strike": float(strike),
                    "bid": price - half if half else 0.0,
                    "ask": price + half,
                    "lastPrice": price,
                    "impliedVolatility": 9.9,
                    "lastTradeDate": int(self.taken.timestamp()),
                })  # fmt: skip
        quote = {
            "symbol": "ACME",
            "regularMarketTime": int(self.taken.timestamp()),
            "regularMarketPrice": spot,
            "exchangeTimezoneName": "America/New_York",
        }
        return {
            "underlyingSymbol": "ACME",
            "expirationDates": stamps,
            "strikes": [],
            "quote": quote,
            "options": [{"expirationDate": date, **sides}],
        }


def _events(
    opens: pd.DatetimeIndex, splits: dict[int, float], dividends: dict[int, float]
) -> dict[str, Any]:
    events: dict[str, Any] = {}
    for kind, found in (("splits", splits), ("dividends", dividends)):
        for i, value in found.items():
            date = int(opens[i].timestamp())
            entry = {"date": date, "amount": value}
            if kind == "splits":
                entry = {"date": date, "numerator": value, "denominator": 1.0}
            events.setdefault(kind, {})[str(date)] = entry
    return events
