"""The figures as JSON, one route each: what a page's empty boxes are filled with.

An answer is a figure with a summary in words, or a notice: a file that is missing or broken is told
in the box where the figure would stand, with status 200, so that a browser's console stays silent.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.errors import AtlasError, DataError
from dashboard import evidence, figures, monitoring, promotions, shadow, trials
from dashboard.gates import gate_shares, loads
from dashboard.reading import FORM_ERRORS, unexpected
from dashboard.registry import read_registry
from dashboard.scores import curves
from dashboard.shadow import ROLES
from dashboard.sketch import sketch
from dashboard.symbols import (
    answers,
    fingerprint_history,
    newest_window,
    price_history,
)
from dashboard.view import AddressError, Choice, View
from dashboard.words import counted

__all__ = ["router"]

Made = tuple[dict[str, Any], str]
router = APIRouter(prefix="/charts")


def answer(work: Callable[[], Made], *, refused: int = 400) -> Response:
    """Return a figure and its summary, or the notice that stands in its place.

    Args:
        work: makes them.
        refused: the status where a URL asks for what is not there; 200 where nobody chose it.
    """
    try:
        figure, summary = work()
        whole = {**figure, "summary": summary, "sketch": sketch(figure)}
    except AddressError as error:
        return JSONResponse({"notice": str(error)}, refused)
    except AtlasError as error:
        return JSONResponse({"notice": str(error)})
    except FORM_ERRORS as error:
        return JSONResponse({"notice": unexpected(error)})
    return JSONResponse(whole, headers={"Cache-Control": "no-cache"})


@router.get("/gate", name="chart_gate")
def gate(
    request: Request,
    market: str = "",
    symbol: str = "",
    gate: str = "",
    first: str = "",
    last: str = "",
) -> Response:
    """Gate weights over time, stacked under the price."""
    view: View = request.app.state.view

    def work() -> Made:
        chosen = view.choose(market, symbol, gate, first, last)
        experts, shares = gate_shares(
            view.paths, chosen.gate, chosen.market, chosen.symbol, chosen.first, chosen.last
        )
        settings = view.settings(chosen.market)
        try:
            price, said = price_history(
                view.paths, chosen.market, settings, chosen.symbol, view.night
            )
        except AtlasError as error:
            price, said = pd.Series(dtype=float), f"no price: {error}"
        means = shares.means.mean(axis=0)
        order = np.argsort(-means)[:2]
        top = " and ".join(f"{experts[k]} {means[k]:.0%}" for k in order if means[k] > 0)
        span = f"{shares.times[0]:%Y-%m-%d} to {shares.times[-1]:%Y-%m-%d}"
        summary = f"Heaviest on average, {span}: {top}. Above: {said}."
        return figures.gate_figure(experts, shares, price, said), summary

    return answer(work)


@router.get("/load", name="chart_load")
def load(request: Request, gate: str = "") -> Response:
    """Expert load by market."""
    view: View = request.app.state.view

    def work() -> Made:
        variant = view.choose(gate=gate).gate
        found = loads(view.paths, _scored(variant), tuple(view.config.markets))
        text = "Per cent of the top-2 places that each expert takes on test windows."
        return figures.load_figure(found), text

    return answer(work)


@router.get("/candles", name="chart_candles")
def candles(request: Request, market: str = "", symbol: str = "") -> Response:
    """The newest window for people."""
    return _window(request, market, symbol, figures.candle_figure)


@router.get("/image", name="chart_image")
def image(request: Request, market: str = "", symbol: str = "") -> Response:
    """The newest window as the model sees it."""
    return _window(request, market, symbol, figures.image_figure)


@router.get("/history", name="chart_history")
def history(
    request: Request, market: str = "", symbol: str = "", column: str = "vol30"
) -> Response:
    """One fingerprint column of a symbol over time."""
    view: View = request.app.state.view

    def work() -> Made:
        chosen = view.choose(market, symbol, needs_symbol=True)
        if column not in FINGERPRINT_COLUMNS:
            raise AddressError(f"There is no column {column!r}; choose one of the eleven.")
        rows = fingerprint_history(view.paths, chosen.market, _symbol(chosen), column)
        known = rows[column].notna().mean()
        return (
            figures.fingerprint_figure(rows, column),
            f"{len(rows):,} bars, {known:.0%} of them with a value.",
        )

    return answer(work)


@router.get("/answers", name="chart_answers")
def scored(request: Request, market: str = "", symbol: str = "", gate: str = "") -> Response:
    """Probability and volatility of a symbol's scored windows."""
    view: View = request.app.state.view

    def work() -> Made:
        chosen = view.choose(market, symbol, gate, needs_symbol=True)
        variant = _scored(chosen.gate)
        rows = answers(view.paths, variant, chosen.market, _symbol(chosen))
        right = ((rows["probability"] > 0.5) == (rows["y"] > 0.5)).mean()
        summary = f"{variant}: {len(rows):,} windows of validation and test, {right:.1%} right."
        summary += " Below: predicted volatility, and what it was, gray."
        return figures.answers_figure(rows), summary

    return answer(work)


@router.get("/risk", name="chart_risk")
def risk(request: Request, market: str = "") -> Response:
    """Accuracy over coverage."""
    text = "A line that falls from left to right: the model knows when it knows."
    return _curves(request, market, evidence.risk_figure, text)


@router.get("/reliability", name="chart_reliability")
def reliability(request: Request, market: str = "") -> Response:
    """Probabilities given against what happened."""
    text = "Points on the dotted diagonal: probabilities mean what they say."
    return _curves(request, market, evidence.reliability_figure, text)


@router.get("/decisions", name="chart_decisions")
def decisions(request: Request) -> Response:
    """Loss differences of judged versions."""
    view: View = request.app.state.view

    def work() -> Made:
        told = promotions.events(read_registry(view.paths))
        if not any(event.is_compared for event in told):
            raise AddressError("No version has been compared with another yet.")
        text = "Left of zero is better; the whole interval has to lie there to be promoted."
        return evidence.differences_figure(told[:40]), text

    return answer(work, refused=200)


@router.get("/trial", name="chart_trial")
def trial(request: Request) -> Response:
    """The evidence of champion and challenger."""
    view: View = request.app.state.view

    def work() -> Made:
        settings = view.config.promotion
        found = trials.trial(view.paths, read_registry(view.paths), settings)
        if found is None:
            raise AddressError("There is no challenger in trial now.")
        nights = len(set(found.nights))
        text = (
            f"Version {found.challenger} against version {found.champion}: "
            f"{counted(len(found.days), 'session')} in {counted(nights, 'night')} of at most "
            f"{found.allowed}, e-value {found.kept:.3g} of {found.needed:g} needed. "
            "Loss below 0: the challenger is better."
        )
        if not found.is_of_this_code:
            text += f" The line ends at {found.e_values[-1]:.3g}: another code wrote the file."
        return evidence.trial_figure(found), text

    return answer(work, refused=200)


@router.get("/shadow", name="chart_shadow")
def shadowed(request: Request) -> Response:
    """How often champion and challenger were right, night by night."""
    view: View = request.app.state.view

    def work() -> Made:
        log = shadow.read_log(view.paths)
        matured = sum(one.matured for one in log.said if one.role == ROLES[0])
        text = (
            f"{counted(len(log.nights), 'night')}. Rings: {counted(matured, 'live row')} of the "
            "champion whose outcome became known later; their number is small, so they scatter."
        )
        return evidence.shadow_figure(log), text

    return answer(work, refused=200)


@router.get("/drift", name="chart_drift")
def drifted(request: Request) -> Response:
    """How far fingerprints and gate are from what the champion was trained on."""
    view: View = request.app.state.view

    def work() -> Made:
        watch = monitoring.newest(view.paths)
        found = monitoring.drift(watch)
        alarms = sum(one.alarm for one in (*watch.of("drift"), *watch.of("gate")))
        text = f"{watch.as_of}: {counted(alarms, 'alarm')} of drift. A dot: not judged."
        return figures.drift_figure(found), text

    return answer(work, refused=200)


@router.get("/watched", name="chart_watched")
def watched(request: Request) -> Response:
    """The number of alarms, day by day."""
    view: View = request.app.state.view

    def work() -> Made:
        found = monitoring.days(view.paths)
        return figures.watched_figure(found), f"{counted(len(found), 'day')} watched."

    return answer(work, refused=200)


def _window(
    request: Request, market: str, symbol: str, draw: Callable[[Any], dict[str, Any]]
) -> Response:
    view: View = request.app.state.view

    def work() -> Made:
        chosen = view.choose(market, symbol, needs_symbol=True)
        settings = view.settings(chosen.market)
        window = newest_window(view.paths, chosen.market, settings, _symbol(chosen), view.night)
        text = f"{len(window.times)} bars to {window.times[-1]:%Y-%m-%d %H:%M} UTC."
        return draw(window), text

    return answer(work)


def _curves(
    request: Request, market: str, draw: Callable[[Any], dict[str, Any]], text: str
) -> Response:
    view: View = request.app.state.view

    def work() -> Made:
        chosen = view.choose(market).market if market else None
        return draw(curves(view.paths, chosen)), text

    return answer(work)


def _symbol(chosen: Choice) -> str:
    if chosen.symbol is None:
        raise DataError(f"{chosen.market}: the store holds no symbol: run make nightly")
    return chosen.symbol


def _scored(gate: str) -> str:
    """Return the variant of a gate; the rule's own file is that of the variant it gates."""
    return "moe_rule" if gate == "rule" else gate
