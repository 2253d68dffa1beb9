"""The form in which the watch says anything: a check is one number, its limit, and a line.

A check that could not be made is kept too, with the reason, so that nothing seems watched that is
not. Other programs read the JSON of these: see docs/monitoring.md for the meaning of each field.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

__all__ = ["KINDS", "Check", "Kind", "as_row", "unjudged"]

Kind = Literal["night", "freshness", "drift", "gate", "experts", "live"]
KINDS: tuple[Kind, ...] = ("night", "freshness", "drift", "gate", "experts", "live")


class Check(NamedTuple):
    """One number that is watched.

    Attributes:
        kind: the question.
        market: it is about; empty for a check of the whole home.
        name: of the column, the expert or the figure.
        value: that was found; NaN if there is none.
        usual: where it mostly lies, NaN if unknown.
        limit: beyond which it is an alarm, NaN if there is none.
        alarm: whether it is beyond.
        judged: whether it could be; if not, `line` says why.
        line: what a person should read; empty if all is well.
    """

    kind: Kind
    market: str
    name: str
    value: float
    usual: float
    limit: float
    alarm: bool
    judged: bool
    line: str


def unjudged(kind: Kind, market: str, name: str, why: str, value: float = np.nan) -> Check:
    """Return a check that could not be made."""
    return Check(kind, market, name, value, np.nan, np.nan, alarm=False, judged=False, line=why)


def as_row(check: Check) -> dict[str, Any]:
    """Return a check for JSON: six digits, and None for a number that is not there."""
    row = check._asdict()
    for name in ("value", "usual", "limit"):
        number = float(row[name])
        row[name] = float(f"{number:.6g}") if np.isfinite(number) else None
    return {**row, "alarm": bool(check.alarm), "judged": bool(check.judged)}
