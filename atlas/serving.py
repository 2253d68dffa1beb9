"""Answer a long frame of raw bars with one prediction a symbol: what a registered model does.

- Inputs come from the functions that training used (`atlas.tails`, `atlas.inputs`), so that a
  served probability is the one of the evaluation. Every row looks back a bounded number of bars:
  the last 320 of a symbol, and for vol30 the 30 sessions before, as bars or as their sums.
- An unknown market, too few bars, a fingerprint unlike the training set, and whatever
  `atlas.doubts` names: such a row is not answered. `abstain` is set and `reason` says why.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, has_close, session_days, sessions
from atlas.config import ATLASConfig, LabelConfig, MarketConfig
from atlas.doubts import doubts
from atlas.graphs import Graphs
from atlas.long_frame import Rows, by_market
from atlas.tails import Tails, panel_of, read_tails
from atlas.windows import WINDOW, Panel

__all__ = ["Served", "bars_per_session", "forecast", "output_columns"]

UNLIKE = "the fingerprint is unlike the training set"
_SECOND = 1_000_000  # microseconds
_TEXT = pd.StringDtype(na_value=np.nan)  # what pandas makes of texts by itself

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]
Texts = NDArray[np.object_]


class Served(NamedTuple):
    """A trained network and what one must know to ask it."""

    graphs: Graphs
    markets: Mapping[str, MarketConfig]
    labels: Mapping[str, LabelConfig]
    version: str

    @classmethod
    def of(
        cls, graphs: Graphs, config: ATLASConfig, markets: Sequence[str], version: str
    ) -> "Served":
        """Look up once what every answer needs; `markets` are those the network was trained on."""
        settings = {name: config.markets[name] for name in markets}
        return cls(graphs, settings, {name: config.label(name) for name in markets}, version)


def forecast(
    served: Served,
    frame: pd.DataFrame,
    *,
    every_bar: bool = False,
    since: pd.Timestamp | None = None,
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Predict for each symbol of a long frame.

    Args:
        served: the model.
        frame: `market, symbol, timestamp`; for bars `open high low close` and any of volume, bid,
            ask, turnover, adj_close, session_sums (see `atlas.long_frame.sums_text`); for surfaces
            `tenor, delta, iv`, one quote a row. Rows in any order.
        every_bar: a row for every bar with enough bars before it, instead of the last alone.
        since: with `every_bar`, the first bar of interest, with a zone.
        now: the moment of the question, with a zone, that `data_age_s` and what is stale are
            counted to; default: the clock. With `every_bar` each bar is asked about its own
            moment, and none is stale.

    Returns:
        One row a symbol (or bar), columns `output_columns`: market; symbol; timestamp, the bar's
        open; as_of, when the bar was known; kind and horizon of the target; probability that it
        rises, calibrated; volatility (bars: predicted realised volatility, fraction per session
        as vol30, but without the night; surfaces: mean absolute change of at-the-money iv a
        snapshot; from an expected log, so about half of what comes is above it and its mean lies
        higher: `atlas.smearing`); gate_<expert>, which sum to 1; expert_ids, the top experts, best
        first; abstain and reason; data_age_s, seconds; model_version. Where it abstains the
        numbers are NaN.

    Raises:
        DataError: a column is missing or cannot be read.
    """
    moment = pd.Timestamp.now("UTC") if now is None else now
    parts = [_market(served, rows, every_bar, since, moment) for rows in by_market(frame)]
    columns = list(output_columns(served))
    answers = _joined(parts) if parts else pd.DataFrame(columns=columns)
    return answers if len(answers.columns) == len(columns) else answers.reindex(columns=columns)


def output_columns(served: Served) -> tuple[str, ...]:
    """Return the columns of a forecast, in order."""
    return (
        *("market", "symbol", "timestamp", "as_of", "kind", "horizon", "probability", "volatility"),
        *(f"gate_{name}" for name in served.graphs.expert_ids),
        *("expert_ids", "abstain", "reason", "data_age_s", "model_version"),
    )


class _Said(NamedTuple):
    """B rows of an answer that share a market.

    Attributes:
        symbol: names (B,).
        timestamp: microseconds (B,).
        reason: empty where there is nothing to say (B,).
        abstain: (B,).
        numbers: probability, volatility and gate weights; (B, 2 + E), NaN where it abstains.
        experts: the top experts, best first, joined by commas; NaN where it abstains (B,).
    """

    symbol: Texts
    timestamp: Positions
    reason: Texts
    abstain: NDArray[np.bool_]
    numbers: Floats
    experts: Texts


def _market(
    served: Served, rows: Rows, every_bar: bool, since: pd.Timestamp | None, now: pd.Timestamp
) -> pd.DataFrame:
    """Answer one market's rows; the columns of a market unknown to the model are fewer."""
    if rows.market not in served.markets:
        return _unknown(served, rows, now)
    settings, ask = served.markets[rows.market], served.labels[rows.market]
    tails = read_tails(rows, settings)
    parts = [] if every_bar or (tails.bars >= WINDOW).all() else [_too_few(served, tails)]
    ends = _every_end(tails, since) if every_bar else (tails.offsets[1:] - 1)[tails.bars >= WINDOW]
    asked = None if every_bar else now
    parts += _full(served, rows.market, tails, ends, asked) if ends.size else []
    filled = [part for part in parts if len(part.symbol)] or [_silent(served, [], [], [])]
    said = _Said(*(np.concatenate(f) if len(f) > 1 else f[0] for f in zip(*filled, strict=True)))
    delay = 0 if settings.modality == "surface" else Timeframe.parse(settings.timeframe).seconds
    known = said.timestamp + delay * _SECOND
    names = ["probability", "volatility", *(f"gate_{name}" for name in served.graphs.expert_ids)]
    rows_said = len(said.symbol)
    same = (np.full(rows_said, text, object) for text in (rows.market, ask.kind, served.version))
    market, kind, version, symbol, experts, reason = _texts(
        *same, said.symbol, said.experts, said.reason
    )
    return pd.DataFrame(  # of arrays that are ready: pandas' own guesses take longer than the gate
        {
            "market": market,
            "symbol": symbol,
            "timestamp": _times(said.timestamp),
            "as_of": _times(known),
            "kind": kind,
            "horizon": np.full(rows_said, ask.horizon),
            **dict(zip(names, said.numbers.T, strict=True)),
            "expert_ids": experts,
            "abstain": said.abstain,
            "reason": reason,
            "data_age_s": _age_s(known, now),
            "model_version": version,
        },
        copy=False,
    )


def _unknown(served: Served, rows: Rows, now: pd.Timestamp) -> pd.DataFrame:
    """Abstain on a market that the model does not know."""
    last = rows.timestamp[rows.offsets[1:] - 1]
    return pd.DataFrame(
        {
            "market": rows.market,
            "symbol": list(rows.symbols),
            "timestamp": _times(last),
            "as_of": _times(last),
            "abstain": True,
            "reason": f"unknown market: this model knows {', '.join(served.markets)}",
            "data_age_s": _age_s(last, now),
            "model_version": served.version,
        }
    )


def _age_s(known: Positions, now: pd.Timestamp) -> Floats:
    """Return how long ago bars known at these moments were known, seconds (B,)."""
    return np.asarray((now.value // 1_000 - known) / _SECOND)


def _full(
    served: Served, market: str, tails: Tails, ends: Positions, now: pd.Timestamp | None
) -> list[_Said]:
    """Answer the windows that end at `ends`, at least one; each symbol's newest if asked `now`."""
    settings = served.markets[market]
    panel = panel_of(market, settings, tails, ends)
    broken = tails.broken[ends]
    if now is not None:  # the newest bar is asked for, so a bad one cannot be passed over
        broken = broken | (tails.last[tails.bars >= WINDOW] > tails.timestamp[ends])
    found = doubts(panel, settings, ends, broken=broken, short=tails.short[ends], now=now)
    symbols = np.asarray(panel.symbol_of(ends), dtype=object)
    silent, told = found.silent, ~found.silent
    parts = []
    if silent.any():
        times = tails.timestamp[ends[silent]]
        parts.append(_silent(served, symbols[silent], times, found.reasons[silent]))
    if not silent.all():
        parts.append(_answers(served, panel, ends[told], symbols[told], found.words[told]))
    return parts


def _answers(served: Served, panel: Panel, ends: Positions, symbols: Texts, said: Texts) -> _Said:
    """Predict the windows that end at `ends`, abstaining where the fingerprint is unlike."""
    settings = served.markets[panel.market]
    found = served.graphs.answer(panel, ends, served.labels[panel.market].measure)
    unlike = found["unlike"]
    numbers = np.column_stack(
        [
            found["probability"].astype(np.float64),
            _volatility(found["log_rv"], panel, settings),
            found["gate_probs"],
        ]
    )
    experts = _top(served, found)
    if unlike.any():
        numbers[unlike], experts[unlike] = np.nan, np.nan
        said = np.where(unlike, UNLIKE, said)
    return _Said(symbols, panel.timestamp[ends], said, unlike, numbers, experts)


def _silent(served: Served, symbols: Any, times: Any, reasons: Any) -> _Said:
    """Answer nothing, with the reasons why."""
    rows = len(symbols)
    return _Said(
        np.asarray(symbols, dtype=object),
        np.asarray(times, np.int64),
        np.asarray(reasons, dtype=object),
        np.ones(rows, np.bool_),
        np.full((rows, 2 + len(served.graphs.expert_ids)), np.nan),
        np.full(rows, np.nan, dtype=object),
    )


def _texts(*columns: Texts) -> list[ExtensionArray]:
    """Return columns of text as pandas keeps them, cut from one array: making one takes long."""
    joined, rows = pd.array(np.concatenate(columns), dtype=_TEXT), len(columns[0])
    return [joined[place * rows : (place + 1) * rows] for place in range(len(columns))]


def _times(microseconds: Positions) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(microseconds.view("datetime64[us]"), tz="UTC")


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    # empty parts are left out: they would blur the types of the columns
    filled = [part for part in parts if len(part)] or parts[:1]
    return filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True)


def _too_few(served: Served, tails: Tails) -> _Said:
    few = np.flatnonzero(tails.bars < WINDOW)
    reasons = [f"{tails.bars[place]} good bars, a window takes {WINDOW}" for place in few]
    return _silent(served, [tails.symbols[place] for place in few], tails.last[few], reasons)


def _every_end(tails: Tails, since: pd.Timestamp | None) -> Positions:
    first = np.repeat(tails.offsets[:-1], tails.bars)
    wanted = np.arange(first.size) - first >= WINDOW - 1
    if since is not None:
        wanted &= tails.timestamp >= since.value // 1_000  # nanoseconds to microseconds
    return np.flatnonzero(wanted)


def bars_per_session(settings: MarketConfig, near: pd.Timestamp) -> float:
    """Return the bars of a normal session, or for bars longer than a day the share of one.

    Args:
        settings: its timeframe and calendar.
        near: with a zone; the median of the month before it is taken, so that an early close or a
            change of hours long ago does not count.

    Example:
        5-minute bars of XNYS: 78, where 24 hours hold 288; weekly bars: 1/5.
    """
    step = Timeframe.parse(settings.timeframe)
    if not step.is_intraday:
        week = 5 if has_close(settings.calendar) else 7
        return 1.0 if step.bars_per_day == 1 else step.bars_per_day * 7 / week
    last = near.tz_convert("UTC").tz_localize(None)
    month = (last - pd.Timedelta(days=31)).ceil("D")
    return _usual_bars(settings.calendar, step, month, last.floor("D"))


@cache
def _usual_bars(calendar: str, step: Timeframe, first: pd.Timestamp, last: pd.Timestamp) -> float:
    """Return the median of the sessions' bars from one day to another."""
    days = sessions(calendar, first, last)
    opens = bar_opens(calendar, step, days)
    _, counts = np.unique(session_days(opens, calendar, step), return_counts=True)
    return float(np.median(counts))


def _volatility(log_rv: NDArray[np.floating], panel: Panel, settings: MarketConfig) -> Floats:
    """Bring the predicted sum over the volatility horizon to a session (surfaces: a snapshot)."""
    mean = np.exp(log_rv.astype(np.float64)) / settings.volatility_horizon
    if panel.modality == "surface":
        return np.asarray(mean)
    if panel.timeframe.bars_per_day == 1:  # as `bars_per_session`, without asking the calendar
        return np.asarray(np.sqrt(mean))
    full = np.diff(panel.offsets) >= WINDOW
    newest = int(panel.timestamp[panel.offsets[1:][full] - 1].max())
    near = pd.Timestamp(newest, unit="us", tz="UTC")
    return np.asarray(np.sqrt(mean * bars_per_session(settings, near)))


def _top(served: Served, found: dict[str, NDArray[Any]]) -> Texts:
    """Name the experts of each row that have weight, best first."""
    ids = served.graphs.expert_ids
    top = np.empty(len(found["expert_ids"]), dtype=object)
    for row, (chosen, weights) in enumerate(
        zip(found["expert_ids"].tolist(), found["expert_weights"].tolist(), strict=True)
    ):
        top[row] = ",".join(
            ids[place] for place, weight in zip(chosen, weights, strict=True) if weight > 0
        )
    return top
