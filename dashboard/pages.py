"""The pages. Each is whole without a script; figures are filled in from `dashboard.charts`.

A page is made of panels: one that cannot be read shows why, and the others stand.
"""

import datetime as dt
import math
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.templating import Jinja2Templates

from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from dashboard import gates, kernels, monitoring, promotions, scores, symbols
from dashboard.assets import address
from dashboard.experts import color, experts
from dashboard.kernel_sketch import curve, tiles
from dashboard.links import find_links
from dashboard.markets import MarketLine, market_line
from dashboard.nights import last_night
from dashboard.reading import Panel, attempt
from dashboard.registry import read_registry
from dashboard.shadow import live_rows, read_log
from dashboard.trials import trial
from dashboard.view import AddressError, View
from dashboard.words import WORDS, counted

__all__ = ["overview_panels", "page", "router", "templates"]

router = APIRouter()
_MOST = 300  # lines of a table
templates = Jinja2Templates(Path(__file__).parent / "templates")


def page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """Render a template with what all of them need."""
    view: View = request.app.state.view
    words = {word: WORDS[word] for word in values.pop("words", ())}
    return templates.TemplateResponse(
        request,
        f"{name}.html",
        {
            "active": name,
            "home": str(view.paths.home),
            "links": find_links(view.paths),
            "words": words,
            "experts": experts(),
            "now": dt.datetime.now(dt.UTC),
            "asset": partial(address, request),
            **values,
        },
        status_code=status,
        headers={"Cache-Control": "no-cache"},
    )


@router.get("/")
def overview(request: Request) -> Response:
    """Champion, last night, and a line for every market."""
    words = ("champion", "night", "stage", "base rate", "interval", "expert", "gate", "seed")
    return page(request, "overview", **overview_panels(request.app.state.view), words=words)


def overview_panels(view: View) -> dict[str, Any]:
    """Return what the first page shows."""
    registry = attempt(read_registry, view.paths)
    table = attempt(scores.table, view.paths)
    lines = attempt(_market_lines, view, table)
    return {
        "registry": registry,
        "night": attempt(last_night, view.paths, view.config),
        "decided": attempt(promotions.events, registry.value) if registry.value else Panel([], ""),
        "watch": attempt(monitoring.newest, view.paths),
        "table": table,
        "lines": lines,
        "span": _span([one.score for one in lines.value or [] if one.score]),
    }


@router.get("/gate")
def gate(
    request: Request,
    market: str = "",
    symbol: str = "",
    gate: str = "",
    first: str = "",
    last: str = "",
) -> Response:
    """Who is asked when, how the load is spread, and what is wrong with it."""
    view: View = request.app.state.view
    chosen = view.choose(market, symbol, gate, first, last)
    variant = "moe_rule" if chosen.gate == "rule" else chosen.gate
    markets = tuple(view.config.markets)
    return page(
        request,
        "gate",
        chosen=chosen,
        markets=markets,
        symbols=view.symbols(chosen.market),
        gates=gates.GATES,
        alarms=attempt(gates.alarms, view.paths, variant, markets),
        watch=attempt(monitoring.newest, view.paths),
        words=("gate", "expert", "load", "dead expert", "gate drift", "fingerprint drift"),
    )


@router.get("/kernels", name="kernels")
def kernel(request: Request) -> Response:
    """What the champion's experts look for: each kernel, template against learned."""
    view: View = request.app.state.view
    found = attempt(kernels.portrait, view)
    return page(
        request, "kernels", found=found, words=("expert", "kernel", "template", "drift", "scale")
    )


@router.get("/symbol")
def symbol(request: Request, market: str = "", symbol: str = "", column: str = "") -> Response:
    """One symbol: window, fingerprint, rule, answers."""
    view: View = request.app.state.view
    chosen = view.choose(market, symbol, needs_symbol=True)
    settings = view.settings(chosen.market)
    name = chosen.symbol or ""
    return page(
        request,
        "symbol",
        chosen=chosen,
        markets=tuple(view.config.markets),
        symbols=view.symbols(chosen.market),
        settings=settings,
        asked=symbols.asked(settings.label),
        portrait=attempt(symbols.portrait, view.paths, chosen.market, settings, name),
        newest=attempt(_newest, view, chosen.market, name),
        column=column if column in FINGERPRINT_COLUMNS else "vol30",
        columns=FINGERPRINT_COLUMNS,
        meanings=WORDS,
        words=("fingerprint", "gate", "expert", "volatility", "by chance"),
    )


@router.get("/benchmark")
def benchmark(request: Request, market: str = "") -> Response:
    """The night's table, risk and coverage, reliability."""
    view: View = request.app.state.view
    chosen = view.choose(market).market if market else ""
    table = attempt(scores.table, view.paths)
    lines = table.value[1] if table.value else []
    registry = attempt(read_registry, view.paths)
    words = ("base rate", "interval", "log-loss", "lift", "seed")
    return page(
        request,
        "benchmark",
        table=table,
        groups=_grouped(lines, chosen, tuple(view.config.markets)),
        span=_span(lines),
        market=chosen,
        markets=tuple(view.config.markets),
        newest=registry.value.versions[0] if registry.value and registry.value.versions else None,
        night=attempt(last_night, view.paths, view.config),
        words=(*words, "risk and coverage", "reliability"),
    )


@router.get("/promotions", name="promotions")
def promotion(request: Request) -> Response:
    """Every version, what was decided of it and why."""
    view: View = request.app.state.view
    registry = attempt(read_registry, view.paths)
    told = attempt(promotions.events, registry.value) if registry.value else Panel([], "")
    return page(
        request,
        "promotions",
        registry=registry,
        events=told,
        offices=attempt(promotions.offices, view.paths),
        compared=sum(event.is_compared for event in told.value or []),
        needed=view.config.promotion.evidence,
        pair=attempt(trial, view.paths, registry.value, view.config.promotion)
        if registry.value
        else Panel(None, ""),
        words=("champion", "challenger", "e-value", "session", "log-loss", "interval"),
    )


@router.get("/shadow")
def shadow(request: Request, night: str = "", market: str = "") -> Response:
    """What champion and challenger said each night, and what became of it."""
    view: View = request.app.state.view
    chosen = view.choose(market).market if market else ""
    log = attempt(read_log, view.paths)
    nights = log.value.nights if log.value else []
    if night and night not in nights:
        raise AddressError(f"The log has no night {night[:40]!r}. Its newest: {_few(nights)}.")
    night = night or (nights[0] if nights else "")
    return page(
        request,
        "shadow",
        log=log,
        night=night,
        nights=nights,
        market=chosen,
        markets=tuple(view.config.markets),
        rows=attempt(live_rows, log.value, night, chosen) if log.value else log,
        most=_MOST,
        words=("shadow log", "champion", "challenger", "live", "log-loss", "abstain"),
    )


@router.get("/monitor")
def monitor(request: Request) -> Response:
    """What the daily watch found."""
    view: View = request.app.state.view
    watch = attempt(monitoring.newest, view.paths)
    night = attempt(last_night, view.paths, view.config)
    return page(
        request,
        "monitor",
        watch=watch,
        past=attempt(monitoring.days, view.paths),
        is_behind=bool(watch.value and night.value and watch.value.as_of < night.value.as_of),
        kinds=monitoring.KINDS,
        words=("alarm", "fingerprint", "fingerprint drift", "gate drift", "edge", "not judged"),
    )


def _market_lines(view: View, table: Panel) -> list[MarketLine]:
    variant, night = view.variant, view.night
    known = scores.market_lines(table.value[1], variant) if table.value else {}
    return [
        market_line(view.paths, name, settings, night, known.get(name), variant)
        for name, settings in view.config.markets.items()
    ]


def _newest(view: View, market: str, symbol: str) -> dict[str, Any]:
    """Return the newest answer of the champion's variant and its gate weights."""
    variant = view.variant
    row = symbols.answers(view.paths, variant, market, symbol).iloc[-1]
    names = [e.id for e in experts() if f"gate_{e.id}" in row.index]
    weights = sorted(((float(row[f"gate_{n}"]), n) for n in names), reverse=True)
    return {
        "variant": variant,
        "timestamp": row["timestamp"],
        "probability": float(row["probability"]),
        "volatility": float(row.get("volatility", math.nan)),
        "weights": [(name, weight) for weight, name in weights if weight > 0],
    }


def _grouped(
    lines: list[scores.Line], market: str, markets: tuple[str, ...]
) -> dict[str, list[scores.Line]]:
    """Group the table's lines by market; the mean over markets, which is none, stays."""
    found: dict[str, list[scores.Line]] = {}
    for one in lines:
        if not market or one.market == market or one.market not in markets:
            found.setdefault(one.market, []).append(one)
    return found


def _span(lines: list[scores.Line]) -> tuple[float, float]:
    """Return the axis on which all intervals are drawn."""
    ends = [v for one in lines for v in (one.low, one.high, one.base_rate, one.seed_figure)]
    known = [value for value in ends if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.4, 0.6)
    margin = max((high - low) * 0.06, 0.005)
    return low - margin, high + margin


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "–"


def _figure(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def _moment(value: dt.datetime | pd.Timestamp | None) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if value is not None else "–"


def _ago(value: dt.datetime, now: dt.datetime) -> str:
    seconds = max((now - value).total_seconds(), 0)
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) or "none"


def _place(value: float, span: tuple[float, float]) -> float:
    return round(100 * (value - span[0]) / (span[1] - span[0]), 2)


templates.env.filters |= {
    "percent": _percent,
    "figure": _figure,
    "moment": _moment,
    "ago": _ago,
    "duration": _duration,
    "place": _place,
    "curve": curve,
    "tiles": tiles,
    "color": color,
    "counted": counted,
}
templates.env.tests["known"] = math.isfinite
