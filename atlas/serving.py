"""Answer a long frame of raw bars with one prediction a symbol: what a registered model does.

- Inputs come from the functions that training used (`atlas.tails`, `atlas.inputs`), so that a
  served probability is the one of the evaluation. Every row looks back a bounded number of bars:
  the last 320 of a symbol, and for vol30 the 30 sessions before, as bars or as their sums.
- An unknown market, too few bars, a bad bar in the window, prices that never moved in it, more than
  five sessions missing from it, no session for vol30: such a row is not answered. `abstain` is set
  and `reason` says why; a guess that looks like a prediction is worse than none. Where vol30 is
  known from fewer than 30 sessions, hurst from too few bars, or a few sessions are missing, the
  row is answered and `reason` says so.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe, utc_timestamps
from atlas.calendars import bar_opens, has_close, session_days, session_ranks, sessions
from atlas.config import ATLASConfig, MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, VOL_SESSIONS
from atlas.errors import DataError
from atlas.moe import AtlasMoE
from atlas.prediction import predict
from atlas.tails import Tail, panel_of, read_tail
from atlas.windows import WINDOW, Labels, MarketData, Panel, Question, Split

__all__ = ["Served", "bars_per_session", "forecast", "output_columns"]

REQUIRED = ("market", "symbol", "timestamp")
BAD_BAR = (
    f"a bar of the last {WINDOW} lacks a price, breaks low ≤ open, close ≤ high, or came twice"
)
_MORE = "give more bars or session_sums"
NO_VOL30 = f"vol30 is known from 0 of {VOL_SESSIONS} sessions: {_MORE}"
NO_HURST = "hurst is unknown: it takes 256 bars"
FLAT = f"no price moved in the last {WINDOW} bars"
FEW_MISSING = 5  # sessions; with more, 64 bars are no window
SHORT_VOL30 = f"vol30 is known from fewer than {VOL_SESSIONS} sessions: {_MORE}"

UNLIKE = "the fingerprint is unlike the training set"
_GAP = f"the last {WINDOW} bars lack more than {FEW_MISSING} sessions: they are no window"
_LACKS = f"the last {WINDOW} bars lack a session"

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


class Served(NamedTuple):
    """A trained network and what one must know to ask it."""

    model: AtlasMoE
    config: ATLASConfig
    markets: tuple[str, ...]
    version: str


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
            ask, turnover, adj_close, session_sums (see `atlas.tails.sums_text`); for surfaces
            `tenor, delta, iv`, one quote a row. Rows in any order.
        every_bar: a row for every bar with enough bars before it, instead of the last alone.
        since: with `every_bar`, the first bar of interest, with a zone.
        now: the moment that `data_age_s` is counted to; default: the clock.

    Returns:
        One row a symbol (or bar), columns `output_columns`: market; symbol; timestamp, the bar's
        open; as_of, when the bar was known; kind and horizon of the target; probability that it
        rises, calibrated; volatility (bars: predicted realised volatility, fraction per session
        as vol30, but without the night; surfaces: mean absolute change of at-the-money iv a
        snapshot); gate_<expert>, which sum to 1; expert_ids, the top experts, best first; abstain
        and reason; data_age_s, seconds; model_version. Where it abstains the numbers are NaN.

    Raises:
        DataError: a column is missing or cannot be read.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DataError(f"frame: expected columns {', '.join(REQUIRED)}; missing: {missing}")
    names = {name: frame[name].astype(str) for name in ("market", "symbol")}  # of any text type
    rows = frame.reset_index(drop=True).assign(**{n: v.to_numpy() for n, v in names.items()})
    rows["timestamp"] = utc_timestamps(rows, "frame", DataError)
    parts = [
        _market(served, str(market), own, every_bar, since)
        for market, own in rows.groupby("market", sort=False)
    ]
    columns = list(output_columns(served))
    answers = _joined(parts) if parts else pd.DataFrame(columns=columns)
    moment = pd.Timestamp.now("UTC") if now is None else now
    age = moment - pd.to_datetime(answers["as_of"], utc=True)
    answers["data_age_s"] = age.dt.total_seconds()
    answers["model_version"] = served.version
    return answers.reindex(columns=columns)


def output_columns(served: Served) -> tuple[str, ...]:
    """Return the columns of a forecast, in order."""
    return (
        *("market", "symbol", "timestamp", "as_of", "kind", "horizon", "probability", "volatility"),
        *(f"gate_{name}" for name in served.model.expert_ids),
        *("expert_ids", "abstain", "reason", "data_age_s", "model_version"),
    )


def _market(
    served: Served, market: str, rows: pd.DataFrame, every_bar: bool, since: pd.Timestamp | None
) -> pd.DataFrame:
    """Answer one market's rows: every column but age and version."""
    if market not in served.markets:
        known = ", ".join(served.markets)
        last = rows.groupby("symbol", sort=False, as_index=False)["timestamp"].max()
        reason = f"unknown market: this model knows {known}"
        unknown: pd.DataFrame = last.assign(
            market=market, as_of=last["timestamp"], abstain=True, reason=reason
        )
        return unknown
    settings, ask = served.config.markets[market], served.config.label(market)
    tails = [
        read_tail(market, str(symbol), own, settings)
        for symbol, own in rows.groupby("symbol", sort=False)
    ]
    parts = [_too_few([] if every_bar else tails)]
    full = [tail for tail in tails if len(tail.timestamp) >= WINDOW]
    parts += [_full(served, market, full, every_bar, since)] if full else []
    answers = _joined(parts)
    delay = pd.Timedelta(0) if settings.modality == "surface" else _delta(settings)
    return answers.assign(
        market=market, as_of=answers["timestamp"] + delay, kind=ask.kind, horizon=ask.horizon
    )


def _full(
    served: Served, market: str, full: list[Tail], every_bar: bool, since: pd.Timestamp | None
) -> pd.DataFrame:
    """Answer the tails that hold a window at least."""
    panel = panel_of(market, served.config.markets[market], full)
    ends = _every_end(panel, since) if every_bar else panel.offsets[1:] - 1
    broken = np.concatenate([tail.broken for tail in full])[ends]
    if not every_bar:  # the newest bar is asked for, so a bad one cannot be passed over
        broken |= np.array([tail.last > tail.timestamp[-1] for tail in full])
    rows = panel.fingerprint[ends]
    unknown = np.isnan(rows[:, FINGERPRINT_COLUMNS.index("vol30")])
    flat = _is_flat(panel)[ends]
    missing = _missing_sessions(panel, served.config.markets[market])[ends]
    silenced = {  # the first that holds is the reason
        BAD_BAR: broken,
        NO_VOL30: unknown,
        FLAT: flat,
        _GAP: missing > FEW_MISSING,
    }
    silent = np.any(list(silenced.values()), axis=0)
    reasons = np.select(list(silenced.values()), list(silenced), default="").astype(object)
    parts = [_rows(panel, ends[silent]).assign(abstain=True, reason=reasons[silent])]
    if not silent.all():
        short = np.concatenate([tail.short for tail in full])[ends]
        hurst = np.isnan(rows[:, FINGERPRINT_COLUMNS.index("hurst")])
        said = _joined_words({SHORT_VOL30: short, NO_HURST: hurst, _LACKS: missing > 0})
        parts.append(_answers(served, panel, ends[~silent], said[~silent]))
    return _joined(parts)


def _is_flat(panel: Panel) -> NDArray[np.bool_]:
    """Say whether no price of the window that ends at each bar moved, (N,)."""
    grid: Floats = panel.values  # noqa: PD011 (an array, not a frame)
    changed = np.zeros(panel.session.size, np.bool_)
    ranged = np.zeros_like(changed)
    if panel.modality == "surface":
        cells = grid.reshape(len(grid), -1)
        now, before = cells[1:], cells[:-1]
        changed[1:] = ((now != before) & ~(np.isnan(now) & np.isnan(before))).any(axis=1)
    else:
        _, high, low, close = grid[:4]
        changed[1:], ranged = close[1:] != close[:-1], high != low
    return ~(_any_of_last(ranged, WINDOW) | _any_of_last(changed, WINDOW - 1))


def _any_of_last(flags: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Say for each place whether one of the last `count` flags is set, (N,)."""
    total = np.cumsum(np.concatenate([np.zeros(count, np.int64), flags]))
    return np.asarray(total[count:] > total[:-count])


def _missing_sessions(panel: Panel, settings: MarketConfig) -> Positions:
    """Count the calendar's sessions that the window ending at each bar lacks, (N,).

    Zero before a symbol has a window, and for bars longer than a day.
    """
    if not panel.timeframe.is_intraday and panel.timeframe.bars_per_day < 1:
        return np.zeros(panel.session.size, np.int64)
    rank = session_ranks(settings.calendar, panel.session)
    begins = np.concatenate([[True], panel.session[1:] != panel.session[:-1]])
    place = np.cumsum(begins)
    lag = WINDOW - 1
    gap = np.zeros(panel.session.size, np.int64)
    gap[lag:] = (rank[lag:] - rank[:-lag]) - (place[lag:] - place[:-lag])
    return np.where(panel.index >= lag, np.maximum(gap, 0), 0)


def _joined_words(words: dict[str, NDArray[np.bool_]]) -> NDArray[np.object_]:
    """Join for each row the words that hold, (B,)."""
    said = [
        "; ".join(word for word, holds in zip(words, row, strict=True) if holds)
        for row in zip(*words.values(), strict=True)
    ]
    return np.array(said, dtype=object)


def _answers(
    served: Served, panel: Panel, ends: Positions, said: NDArray[np.object_]
) -> pd.DataFrame:
    """Predict the windows that end at `ends`, abstaining where the fingerprint is unlike."""
    settings = served.config.markets[panel.market]
    ask = served.config.label(panel.market)
    question = Question(ask.kind, ask.measure, ask.horizon, ask.skip)
    unknown = np.full(panel.timestamp.size, np.nan, np.float32)
    nothing = np.zeros(0, np.int64)
    labels = Labels(unknown, unknown, nothing, 0, question=question)
    data = MarketData(panel, labels, Split(nothing, nothing, nothing))
    place = served.model.markets.index(panel.market)
    found = predict(served.model, data, ends, market_index=place)
    gates = {
        f"gate_{name}": found["gate_probs"][:, column]
        for column, name in enumerate(served.model.expert_ids)
    }
    answers = _rows(panel, ends)
    numbers = answers.assign(
        probability=found["probability"].astype(np.float64),
        volatility=_volatility(found["log_rv_predicted"], panel, settings),
        **gates,
        expert_ids=_top(served, found),
    )
    unlike = found["unlike"]
    given = numbers.columns.difference(answers.columns)
    numbers.loc[unlike, given] = np.nan
    return numbers.assign(abstain=unlike, reason=np.where(unlike, UNLIKE, said))


def _rows(panel: Panel, ends: Positions) -> pd.DataFrame:
    times = pd.to_datetime(panel.timestamp[ends], unit="us", utc=True)
    return pd.DataFrame({"symbol": panel.symbol_of(ends), "timestamp": times})


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    # empty parts are left out: they would blur the types of the columns
    filled = [part for part in parts if len(part)] or parts[:1]
    joined: pd.DataFrame = pd.concat(filled, ignore_index=True)
    return joined


def _too_few(tails: list[Tail]) -> pd.DataFrame:
    short = [tail for tail in tails if len(tail.timestamp) < WINDOW]
    return pd.DataFrame(
        {
            "symbol": [tail.symbol for tail in short],
            "timestamp": pd.DatetimeIndex([tail.last for tail in short], tz="UTC"),
            "abstain": True,
            "reason": [f"{len(t.timestamp)} good bars, a window takes {WINDOW}" for t in short],
        }
    )


def _every_end(panel: Panel, since: pd.Timestamp | None) -> Positions:
    wanted = panel.index >= WINDOW - 1
    if since is not None:
        wanted &= panel.timestamp >= since.value // 1_000  # nanoseconds to microseconds
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
    days = sessions(settings.calendar, last - pd.Timedelta(days=31), last)
    opens = bar_opens(settings.calendar, step, days)
    _, counts = np.unique(session_days(opens, settings.calendar, step), return_counts=True)
    return float(np.median(counts))


def _volatility(log_rv: NDArray[np.floating], panel: Panel, settings: MarketConfig) -> Floats:
    """Bring the predicted sum over the volatility horizon to a session (surfaces: a snapshot)."""
    mean = np.exp(log_rv.astype(np.float64)) / settings.volatility_horizon
    if panel.modality == "surface":
        return np.asarray(mean)
    newest = pd.Timestamp(int(panel.timestamp.max()), unit="us", tz="UTC")
    return np.asarray(np.sqrt(mean * bars_per_session(settings, newest)))


def _top(served: Served, found: dict[str, NDArray[Any]]) -> list[str]:
    """Name the experts of each row that have weight, best first."""
    ids = np.asarray(served.model.expert_ids)
    return [
        ",".join(ids[chosen[weights > 0]])
        for chosen, weights in zip(found["expert_ids"], found["expert_weights"], strict=True)
    ]


def _delta(settings: MarketConfig) -> pd.Timedelta:
    return Timeframe.parse(settings.timeframe).delta
