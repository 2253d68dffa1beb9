"""Why a window is not answered, and what is said of one that is.

A guess that looks like a prediction is worse than none. So a window is not answered where a bar of
it is bad, its vol30 is unknown, its bars come closer than the market's, no price moved or more than
five sessions are missing, nor the newest one where the market has gone on without it: for more
sessions than its `stale_sessions`. Where vol30 is known from fewer than 30 sessions, hurst from too
few bars, a few sessions are missing or the last bar may go on, the window is answered and the words
say so.

Age is counted in sessions of the market's calendar, so that a weekend makes nothing stale, and to
the moment of the question; a question about the past has its own.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.calendars import session_ranks
from atlas.config import MarketConfig
from atlas.coverage import sessions_passed
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.session_vol import VOL_SESSIONS
from atlas.windows import WINDOW, Panel

__all__ = [
    "BAD_BAR",
    "CLOSE",
    "FLAT",
    "GAP",
    "LACKS",
    "NO_HURST",
    "NO_VOL30",
    "SHORT_VOL30",
    "UNFINISHED",
    "Doubts",
    "doubts",
    "is_flat",
    "sessions_missing",
    "sessions_since",
    "stale",
]

FEW_MISSING = 5  # sessions; with more, 64 bars are no window
_MORE = "give more bars or session_sums"
BAD_BAR = (
    f"a bar of the last {WINDOW} lacks a price, breaks low ≤ open, close ≤ high, or came twice"
)
NO_VOL30 = f"vol30 is known from 0 of {VOL_SESSIONS} sessions: {_MORE}"
CLOSE = f"the last {WINDOW} bars come closer than this market's: they are of another timeframe"
FLAT = f"no price moved in the last {WINDOW} bars"
GAP = f"the last {WINDOW} bars lack more than {FEW_MISSING} sessions: they are no window"
SHORT_VOL30 = f"vol30 is known from fewer than {VOL_SESSIONS} sessions: {_MORE}"
NO_HURST = "hurst is unknown: it takes 256 bars"
LACKS = f"the last {WINDOW} bars lack a session"
UNFINISHED = "the last bar may go on: it is known only after the moment of the question"

_SECOND = 1_000_000  # microseconds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]
Texts = NDArray[np.object_]


class Doubts(NamedTuple):
    """What speaks against B windows.

    Attributes:
        silent: which are not answered (B,).
        reasons: why they are not; empty for the others (B,).
        words: what is said of the others; empty where all is well (B,).
    """

    silent: Flags
    reasons: Texts
    words: Texts


def doubts(
    panel: Panel,
    settings: MarketConfig,
    ends: Positions,
    *,
    broken: Flags,
    short: Flags,
    now: pd.Timestamp | None,
) -> Doubts:
    """Say what speaks against the windows that end at `ends`.

    Args:
        panel: the market.
        settings: its calendar, timeframe and limit.
        ends: (B,) positions, at least one.
        broken: whether a bar of the window is bad (B,).
        short: whether vol30 is known from fewer than 30 sessions (B,).
        now: the moment of the question, with a zone; None if each window is asked about its own.
    """
    rows = panel.fingerprint[ends]
    missing = sessions_missing(panel, settings, ends)
    against = {  # the first that holds is the reason
        BAD_BAR: broken,
        NO_VOL30: np.isnan(rows[:, FINGERPRINT_COLUMNS.index("vol30")]),
        CLOSE: _come_closer(panel, settings, ends),
        FLAT: is_flat(panel)[ends],
        GAP: missing > FEW_MISSING,
    }
    hurst = np.isnan(rows[:, FINGERPRINT_COLUMNS.index("hurst")])
    words = {SHORT_VOL30: short, NO_HURST: hurst, LACKS: missing > 0}
    if now is not None:
        passed = sessions_since(panel.session[ends], settings, now)
        against[stale(settings)] = passed > settings.stale_sessions
        length = 0 if panel.modality == "surface" else panel.timeframe.seconds * _SECOND
        words[UNFINISHED] = panel.timestamp[ends] + length > now.value // 1_000
    silent = np.logical_or.reduce(list(against.values()))
    reasons = np.full(len(ends), "", dtype=object)
    if silent.any():
        reasons = np.select(list(against.values()), list(against), default="").astype(object)
    return Doubts(silent, reasons, _joined(words))


def stale(settings: MarketConfig) -> str:
    """Return the reason why bars of a market are too old."""
    return (
        f"stale: more than {settings.stale_sessions} sessions passed after the last bar; bring "
        "newer bars, or give `now` to ask about the past"
    )


def sessions_since(session: Positions, settings: MarketConfig, now: pd.Timestamp) -> Positions:
    """Count the whole sessions between those of some bars and the day of a moment, (B,).

    Counted as `atlas.coverage.sessions_passed` does.

    Args:
        session: of the bars, days since 1970-01-01, (B,).
        settings: its calendar and timeframe.
        now: with a zone.

    Example:
        After the daily bar of Friday 2026-11-13, on Friday 2026-11-20: 4, of 16 to 19 November.
    """
    return sessions_passed(session, now, settings.calendar, Timeframe.parse(settings.timeframe))


def sessions_missing(panel: Panel, settings: MarketConfig, ends: Positions) -> Positions:
    """Count the calendar's sessions that the whole windows ending at `ends` lack, (B,).

    Zero for bars longer than a day.
    """
    if not panel.timeframe.is_intraday and panel.timeframe.bars_per_day < 1:
        return np.zeros(ends.size, np.int64)
    starts = ends - (WINDOW - 1)
    days = session_ranks(settings.calendar, panel.session[np.concatenate([ends, starts])])
    place = np.cumsum(np.diff(panel.session, prepend=panel.session[:1]) != 0)
    passed = place[ends] - place[starts]
    return np.asarray(np.maximum(days[: ends.size] - days[ends.size :] - passed, 0))


def is_flat(panel: Panel) -> Flags:
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


def _any_of_last(flags: Flags, count: int) -> Flags:
    """Say for each place whether one of the last `count` flags is set, (N,)."""
    total = np.cumsum(np.concatenate([np.zeros(count, np.int64), flags]))
    return np.asarray(total[count:] > total[:-count])


def _come_closer(panel: Panel, settings: MarketConfig, ends: Positions) -> Flags:
    """Say whether the windows that end at `ends` span less time than their bars take, (B,).

    A tenth is forgiven: hours change with the season, and snapshots are taken when they are.
    """
    least = 0.9 * (WINDOW - 1) * Timeframe.parse(settings.timeframe).seconds * _SECOND
    return np.asarray(panel.timestamp[ends] - panel.timestamp[ends - (WINDOW - 1)] < least)


def _joined(words: dict[str, Flags]) -> Texts:
    """Join for each row the words that hold, (B,)."""
    said = np.full(len(next(iter(words.values()))), "", dtype=object)
    for row in np.flatnonzero(np.logical_or.reduce(list(words.values()))):
        said[row] = "; ".join(word for word, holds in words.items() if holds[row])
    return said
