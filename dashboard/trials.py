"""The pair in trial: the evidence for the challenger after each session, as the nights judged it.

A night keeps the whole state of its pair in artifacts/challenge/<champion>-<challenger>.json: the
sessions, their loss differences, and the e-value. What lies between, the e-value after each
session, is drawn with the same function that decides (`atlas.eprocess`), so that the line ends at
the number that the night acted on; where it does not, the file is of another code and that is said.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.config import PromotionConfig
from atlas.eprocess import log_evidence
from atlas.errors import DataError
from dashboard.reading import json_of
from dashboard.registry import Registry
from pipelines.paths import Paths

__all__ = ["MarketScore", "Trial", "running_mean", "trial"]

Floats = NDArray[np.float64]
_CAP = 1e12  # as `atlas.eprocess` caps what it returns


class MarketScore(NamedTuple):
    """Mean log-loss of both on one market's rows of the trial, nats."""

    market: str
    rows: int
    champion: float
    challenger: float


class Trial(NamedTuple):
    """The pair in trial, one entry a session in order of time.

    `differences` is the challenger's loss less the champion's (below 0: challenger better),
    `nights` the night that judged the session, `e_values` the evidence after it.
    """

    champion: str
    challenger: str
    days: list[str]
    nights: list[str]
    differences: Floats
    e_values: Floats
    kept: float
    needed: float
    allowed: int
    markets: tuple[MarketScore, ...]

    @property
    def is_of_this_code(self) -> bool:
        """Return whether the line ends at the e-value that the night kept."""
        return math.isclose(float(self.e_values[-1]), self.kept, rel_tol=1e-6)


def trial(paths: Paths, registry: Registry, settings: PromotionConfig) -> Trial | None:
    """Return the pair in trial, or None where none stands.

    Raises:
        DataError: its file is missing or cannot be read, or no session has been judged yet.
    """
    champion, challenger = registry.holder("champion"), registry.holder("challenger")
    if champion is None or challenger is None:
        return None
    path = paths.artifacts / "challenge" / f"{champion.number}-{challenger.number}.json"
    found = json_of(path)
    days: list[dict[str, Any]] = found.get("days") or []
    if not days:
        raise DataError(
            f"Version {challenger.number} stands against version {champion.number}, but no session "
            "that neither has seen has been judged yet: the next night does"
        )
    differences = np.array([float(day["difference"]) for day in days])
    path_of_e = np.exp(
        np.minimum(log_evidence(-differences, bound=float(found["bound"])), math.log(_CAP))
    )
    return Trial(
        str(champion.number),
        str(challenger.number),
        [str(day["day"]) for day in days],
        [str(day["night"]) for day in days],
        differences,
        path_of_e,
        float(found["e"]),
        settings.evidence,
        settings.nights,
        _markets(days),
    )


def running_mean(values: Floats) -> Floats:
    """Return the mean of the first, the first two, … values."""
    found: Floats = np.cumsum(values) / np.arange(1, len(values) + 1)
    return found


def _markets(days: list[dict[str, Any]]) -> tuple[MarketScore, ...]:
    sums: dict[str, Floats] = {}
    for day in days:
        for market, found in day["losses"].items():
            sums[market] = sums.get(market, np.zeros(3)) + np.asarray(found, float)
    return tuple(
        MarketScore(market, int(rows), champion / rows, challenger / rows)
        for market, (rows, champion, challenger) in sorted(sums.items())
    )
