"""Has the market moved away from what the champion was trained on: fingerprints and rule.

- The reference is every session before the champion's first test session, the window the newest
  sessions of the night. Without a champion, or in a market it does not know, the reference ends
  where the night's own test sessions begin.
- A symbol's first bars, whose fingerprints are not complete yet, count in neither, nor does a vol30
  of fewer than 30 sessions. A value that is missing later is a bin of its own: data that stop
  coming are a drift.
- trend_r2_null is no column of its own here: it rises with trend_r2 and has the same histogram.
- The chance of a false alarm is shared out evenly among all columns of all markets.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.bars import Timeframe
from atlas.calendars import session_days
from atlas.catalogue import EXPERT_IDS
from atlas.config import MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, LOOKBACK
from atlas.drift import (
    LEAST_WINDOWS,
    Distance,
    bin_edges,
    distance,
    farthest,
    limit,
    session_counts,
    window_length,
)
from pipelines import store
from pipelines.paths import Paths
from pipelines.watch.checks import Check, Kind, unjudged

__all__ = ["RULE", "Compared", "Spans", "column_checks", "compare", "names_of", "read", "spans_of"]

Counts = NDArray[np.float64]
RULE = "rule"
_BEFORE = {"drift": "as in training", "gate": "as before the champion's night"}
_OF_CHARTS = tuple(c for c in FINGERPRINT_COLUMNS if c not in ("trend_r2_null", "skew_iv"))
_OF_SURFACES = ("vol30", "trend_r2", "hurst", "hurst_null", "kurtosis", "skew_iv")


class Spans(NamedTuple):
    """Which sessions are compared, days since 1970-01-01; both ends belong to their span."""

    reference: tuple[int, int]
    window: tuple[int, int]
    reference_sessions: int
    sessions: int


class Compared(NamedTuple):
    """What `compare` needs beside the histograms: the question and its words."""

    kind: Kind
    market: str
    name: str
    measure: Distance
    rate: float


def names_of(settings: MarketConfig) -> tuple[str, ...]:
    """Return the columns watched in a market: those its modality has, and the rule's verdicts."""
    return (*(_OF_CHARTS if settings.modality == "chart" else _OF_SURFACES), RULE)


def read(paths: Paths, settings: MarketConfig, market: str, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the fingerprints that a night knows, complete ones only, with their `session`."""
    names = ["symbol", "timestamp", *names_of(settings), "vol30_short"]
    rows = pd.read_parquet(paths.fingerprints(market), columns=names)
    seasoned = rows.groupby("symbol", sort=False).cumcount() >= LOOKBACK
    rows = rows[seasoned & store.known_by(rows["timestamp"], as_of, settings)]
    step, times = Timeframe.parse(settings.timeframe), pd.DatetimeIndex(rows["timestamp"])
    return rows.assign(session=session_days(times, settings.calendar, step))


def spans_of(sessions: NDArray[np.int64], first_unseen: int, longest: int) -> Spans | None:
    """Return what is compared, or None where one of the two has no session.

    Args:
        sessions: days that have rows, in order.
        first_unseen: the day at which the reference has ended.
        longest: sessions of the window, at most.
    """
    seen, later = sessions[sessions < first_unseen], sessions[sessions >= first_unseen]
    if not seen.size or not later.size:
        return None
    length = min(window_length(seen.size, longest), later.size)
    reference = (int(seen[0]), int(seen[-1]))
    return Spans(reference, (int(later[-length]), int(later[-1])), int(seen.size), length)


def column_checks(
    rows: pd.DataFrame, settings: MarketConfig, market: str, spans: Spans, rate: float
) -> list[Check]:
    """Compare each column's window with its reference.

    Args:
        rows: as `read` gives them.
        rate: accepted chance of a false alarm of one column.
    """
    held = rows[rows["session"] <= spans.reference[1]]
    now = rows[rows["session"].between(*spans.window)]
    checks = []
    for name in names_of(settings):
        measure: Distance = "jensen_shannon" if name == RULE else "psi"
        asked = Compared("drift", market, name, measure, rate)
        before, after = _values(held, name), _values(now, name)
        if not np.isfinite(before[0]).any() and not np.isfinite(after[0]).any():
            checks.append(unjudged("drift", market, name, "no value is known"))
            continue
        numbers = np.arange(1.0, len(EXPERT_IDS)) - 0.5
        edges = numbers if name == RULE else bin_edges(before[0])
        counts, recent = (session_counts(*part, edges) for part in (before, after))
        checks.append(compare(asked, counts, recent.sum(0), spans.sessions))
    return checks


def compare(asked: Compared, reference: Counts, window: Counts, sessions: int) -> Check:
    """Judge a window's histogram (B,) by its reference's, one a session, (S, B)."""
    if not len(reference) or window.sum() == 0:
        return unjudged(asked.kind, asked.market, asked.name, "too few rows are known")
    value = float(distance(asked.measure, window, reference.sum(0)))
    found = limit(reference, sessions, rate=asked.rate, kind=asked.measure)
    if not np.isfinite(found.alarm):
        why = (
            f"its reference of {len(reference)} sessions holds {found.windows:.0f} independent "
            f"windows of {sessions}, fewer than {LEAST_WINDOWS:.0f}"
        )
        return unjudged(asked.kind, asked.market, asked.name, why, value)
    usual = reference.sum(0)
    varies = np.count_nonzero(usual) > 1  # else any other value is a drift
    if varies and found.alarm >= farthest(asked.measure, float(window.sum()), usual):
        why = "its spells are so long that no drift could be told from them"
        return unjudged(asked.kind, asked.market, asked.name, why, value)
    alarm, line = value > found.alarm, ""
    if alarm:
        measure = "PSI" if asked.measure == "psi" else "Jensen-Shannon divergence"
        line = (
            f"{asked.market}: {asked.name} is no longer distributed {_BEFORE[asked.kind]}: "
            f"{measure} {value:.3g} over the newest {sessions} sessions, alarm above "
            f"{found.alarm:.3g}, usual {found.usual:.3g}"
        )
    return Check(
        asked.kind, asked.market, asked.name, value, found.usual, found.alarm, alarm, True, line
    )


def _values(rows: pd.DataFrame, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return a column's values and sessions, (N,) each; the rule's experts as their numbers."""
    if name == "vol30":
        rows = rows[~rows["vol30_short"]]
    if name == RULE:
        codes = pd.Categorical(rows[RULE].astype(str), categories=EXPERT_IDS).codes
        return codes.astype(np.float64), rows["session"].to_numpy(np.int64)
    return rows[name].to_numpy(np.float64), rows["session"].to_numpy(np.int64)
