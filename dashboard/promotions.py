"""The registry's history: every version, what was decided of it and why.

- What a night decided stands in its version's tags and, with figures, in its run.
- Changes of office stand in artifacts/champions.json, a rollback by hand among them.

Each of these may be absent; the page then shows the others.
"""

import datetime as dt
import math
from typing import Any, NamedTuple

from atlas.errors import AtlasError
from dashboard.reading import json_list
from dashboard.registry import Registry, Version, decision_of
from pipelines.paths import Paths

__all__ = ["Event", "Office", "events", "offices"]


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
