"""What the daily watch found: alarms, how far each market has drifted, and what was not judged.

`python -m pipelines monitor` writes artifacts/monitor/<date>.json, one check a row, and the checks
of all days to history.parquet; docs/monitoring.md tells the meaning of each field. Nothing is
judged again here: a page that is looked at often must not raise alarms of its own.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import pandas as pd

from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.errors import DataError
from dashboard.reading import columns, json_of, stored
from pipelines.paths import Paths
from pipelines.watch.checks import Check, Kind

__all__ = ["KINDS", "Drift", "Watch", "days", "drift", "newest"]

FORMAT = 1
KINDS: Mapping[str, str] = {
    "night": "do nights run?",
    "freshness": "do bars come?",
    "drift": "does the market look as in training?",
    "gate": "does the gate ask the same experts?",
    "experts": "is an expert never asked?",
    "live": "does the champion keep its edge?",
}
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}")
_ORDER = (*FINGERPRINT_COLUMNS, "rule", "places")


class Watch(NamedTuple):
    """What one day found: the champion that was watched, and every check."""

    as_of: str
    champion: str
    checks: tuple[Check, ...]

    @property
    def alarms(self) -> tuple[Check, ...]:
        """Return the checks that are alarms."""
        return tuple(one for one in self.checks if one.alarm)

    def of(self, kind: str) -> tuple[Check, ...]:
        """Return the checks of one kind."""
        return tuple(one for one in self.checks if one.kind == kind)


class Drift(NamedTuple):
    """Each market's distance from training by column, as a share of where its alarm begins.

    `shares` is None where nothing could be judged; `checks` are those behind it, in the same form.
    """

    markets: tuple[str, ...]
    columns: tuple[str, ...]
    shares: list[list[float | None]]
    checks: list[list[Check | None]]


def newest(paths: Paths) -> Watch:
    """Return what the newest day found.

    Raises:
        DataError: nobody has looked yet, or the file has another form.
    """
    found = sorted((paths.artifacts / "monitor").glob("*.json"))
    dated = [path for path in found if _DATED.fullmatch(path.stem)]
    if not dated:
        raise DataError(
            "The watch has not looked at this home yet: run .venv/bin/python -m pipelines monitor "
            f"--home {paths.home}, or let Airflow's atlas_monitor do it every day"
        )
    return stored([dated[-1]], "watch", lambda: _watch(json_of(dated[-1]), str(dated[-1])))


def drift(watch: Watch) -> Drift:
    """Arrange the checks of fingerprints, of the rule's verdicts and of the gate by market.

    Raises:
        DataError: there is none of these.
    """
    own = {(c.market, c.name): c for c in (*watch.of("drift"), *watch.of("gate"))}
    if not own:
        raise DataError("The watch has no check of drift: it needs a night with fingerprints")
    markets = tuple(dict.fromkeys(market for market, _ in own))
    known = {name for _, name in own}
    names = tuple(name for name in _ORDER if name in known)
    checks = [[own.get((market, name)) for name in names] for market in markets]
    shares = [[_share(one) for one in row] for row in checks]
    return Drift(markets, tuple("gate" if n == "places" else n for n in names), shares, checks)


def days(paths: Paths) -> pd.DataFrame:
    """Return a row a day: as_of, alarms, judged and unjudged checks, oldest first.

    Raises:
        DataError: there is no history, or it cannot be read.
    """
    path = paths.artifacts / "monitor" / "history.parquet"

    def read() -> pd.DataFrame:
        rows = columns(path, ["as_of", "alarm", "judged"])
        rows = rows.assign(as_of=rows["as_of"].astype("str"), unjudged=~rows["judged"])
        found: pd.DataFrame = rows.groupby("as_of")[["alarm", "judged", "unjudged"]].sum()
        return found.reset_index().sort_values("as_of")

    return stored([path], "watched days", read)


def _watch(found: Mapping[str, Any], path: str) -> Watch:
    if found.get("format") != FORMAT:
        raise DataError(
            f"{path}: expected format {FORMAT}; got {found.get('format')}: run the monitor again"
        )
    champion = found.get("champion") or {}
    checks = tuple(_check(row) for row in found["checks"])
    return Watch(str(found["as_of"]), str(champion.get("version", "")), checks)


def _check(row: Mapping[str, Any]) -> Check:
    value, usual, limit = (
        math.nan if row[name] is None else float(row[name]) for name in ("value", "usual", "limit")
    )
    return Check(
        cast("Kind", str(row["kind"])),
        str(row["market"]),
        str(row["name"]),
        value,
        usual,
        limit,
        alarm=bool(row["alarm"]),
        judged=bool(row["judged"]),
        line=str(row["line"]),
    )


def _share(check: Check | None) -> float | None:
    if check is None or not check.judged or not check.limit > 0:
        return None
    return check.value / check.limit
