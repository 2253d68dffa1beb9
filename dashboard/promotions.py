"""The registry's history: every version, what was decided of it and why, and the pair in trial.

- What a night decided stands in its version's tags and, with figures, in its run.
- Changes of office stand in artifacts/champions.json, a rollback by hand among them.
- The pair in trial has its state in artifacts/challenge/<champion>-<challenger>.json, one entry a
  session. Each of these may be absent; the page then shows the others.
"""

import datetime as dt
import math
from typing import Any, NamedTuple

import numpy as np

from atlas.errors import AtlasError
from dashboard.reading import json_list, json_of
from dashboard.registry import Registry, Version, decision_of
from pipelines.paths import Paths

__all__ = ["PROOF", "Event", "Office", "Trial", "events", "offices", "running_mean", "trial"]

PROOF = 20.0  # the e-value that makes a challenger champion: a mistake has a chance of 1/20


class Event(NamedTuple):
    """One version: when, what, whether it was promoted, and the comparison behind it."""

    version: int
    as_of: str
    registered: dt.datetime
    variant: str
    aliases: tuple[str, ...]
    promoted: bool | None
    reason: str
    rival: str
    difference: float
    low: float
    high: float
    run_id: str
    experiment_id: str
    data_version: str
    commit: str

    @property
    def is_compared(self) -> bool:
        """Return whether the decision rests on an interval that can be drawn."""
        return all(map(math.isfinite, (self.difference, self.low, self.high)))


class Office(NamedTuple):
    """One change of champion."""

    at: str
    version: str
    previous: str
    how: str
    reason: str


class Trial(NamedTuple):
    """The pair in trial: sessions, loss differences (below 0: challenger better), evidence."""

    champion: str
    challenger: str
    days: list[str]
    differences: list[float]
    nights: int
    e_value: float


def events(registry: Registry) -> list[Event]:
    """Return what became of every version, newest first."""
    return [_event(version) for version in registry.versions]


def offices(paths: Paths) -> list[Office]:
    """Return every change of champion that was told, newest first.

    Raises:
        DataError: the file cannot be read.
    """
    told = json_list(paths.artifacts / "champions.json")
    names = ("at", "version", "previous", "how", "reason")
    return [Office(*(str(one.get(name) or "") for name in names)) for one in reversed(told)]


def trial(paths: Paths, registry: Registry) -> Trial | None:
    """Return the pair in trial, or None where none has been kept.

    Raises:
        DataError: its file cannot be read.
    """
    champion, challenger = registry.holder("champion"), registry.holder("challenger")
    if champion is None or challenger is None:
        return None
    name = f"{champion.number}-{challenger.number}.json"
    found = json_of(paths.artifacts / "challenge" / name)
    days = found.get("days") or []
    if not days:
        return None
    return Trial(
        str(champion.number),
        str(challenger.number),
        [str(one.get("day", "")) for one in days],
        [_number(one.get("difference")) for one in days],
        len(found.get("nights") or []),
        _number(found.get("e")),
    )


def running_mean(values: list[float]) -> list[float]:
    """Return the mean of the first, the first two, … values."""
    found = np.cumsum(np.nan_to_num(values)) / np.arange(1, len(values) + 1)
    return [float(value) for value in found]


def _event(version: Version) -> Event:
    tags = version.tags
    try:
        figures: dict[str, Any] = decision_of(version).get("figures") or {}
    except AtlasError:
        figures = {}
    promoted = {"true": True, "false": False}.get(tags.get("promoted", ""))
    return Event(
        version.number,
        tags.get("as_of", "unknown"),
        dt.datetime.fromtimestamp(version.created_ms / 1000, dt.UTC),
        tags.get("variant", "unknown"),
        version.aliases,
        promoted,
        tags.get("promotion_reason", "It has not been judged yet."),
        str(figures.get("rival", "")),
        _number(figures.get("difference")),
        _number(figures.get("difference_low")),
        _number(figures.get("difference_high")),
        version.run_id,
        version.experiment_id,
        tags.get("data_version", "unknown"),
        tags.get("git_commit", "unknown"),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
