"""What validation found out about a market: the little that later stages must know of it.

- Readers that drop quarantined rows need to know that validation ran, and up to which night its
  quarantine covers the rows. Else they refuse: an unchecked row never passes for a good one.
- Nothing is trained on a market that did not pass in this very night; what an earlier night left
  lying in artifacts/ does not speak for this one.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from atlas.errors import DataError, GateError
from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["Verdict", "read_verdict", "require_passed", "require_verdict"]


class Verdict(NamedTuple):
    """The outcome of a market's last validation.

    Attributes:
        as_of: the night that was judged.
        passed: whether the market passed its gate in that night.
        covers: the latest night judged since the store is as it is; no row it knows is unchecked.
        store: digest of the files that were judged.
        unreadable: symbols whose files could not be read; they have no rows for anyone.
    """

    as_of: pd.Timestamp
    passed: bool
    covers: pd.Timestamp
    store: str
    unreadable: frozenset[str]


def read_verdict(paths: Paths, market: str) -> Verdict | None:
    """Return what the last validation said, or None if its files are not all there."""
    path: Path = paths.validation(market)
    if not path.is_file() or not paths.quarantine(market).is_file():
        return None
    state = path.stat()
    return _read(path, state.st_ino, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)  # every symbol's reader asks, and the outcome may name every symbol
def _read(path: Path, *state: int) -> Verdict | None:
    """Read an outcome; `state` of the file tells one content from the next."""
    del state
    found: dict[str, Any] = read_json(path)
    if "covers" not in found:  # written before verdicts were: validation has to run again
        return None
    return Verdict(
        pd.Timestamp(found["as_of"]),
        found["passed"],
        pd.Timestamp(found["covers"]),
        found["store"],
        frozenset(found["unreadable"]),
    )


def require_verdict(paths: Paths, market: str) -> Verdict:
    """Return what the last validation said.

    Raises:
        DataError: the market was never validated.
    """
    found = read_verdict(paths, market)
    if found is None:
        raise DataError(
            f"{market}: expected validated bars; got no outcome in {paths.validation(market)}: "
            f"{_advice(market)}"
        )
    return found


def require_passed(paths: Paths, market: str, as_of: pd.Timestamp) -> None:
    """Check that a market passed its gate in the night `as_of`.

    Raises:
        DataError: the market was not validated in this night.
        GateError: it was, and failed.
    """
    found = require_verdict(paths, market)
    if found.as_of != as_of:
        raise DataError(
            f"{market}: expected bars validated in the night of {as_of:%Y-%m-%d}; got those of "
            f"{found.as_of:%Y-%m-%d}: {_advice(market)}"
        )
    if not found.passed:
        raise GateError(
            f"{market}: expected bars that passed validation; got a market that failed it in the "
            f"night of {as_of:%Y-%m-%d}: mend its bars and {_advice(market)}"
        )


def _advice(market: str) -> str:
    return f"run validate first (`python -m pipelines validate --market {market}`)"
