"""Who was champion since when, and the way back.

- MLflow keeps aliases, not their past. So each change is told to artifacts/champions.json: when, in
  which night, from whom to whom, how and why. The alias is the truth; a change that was made but
  not told (a kill in between) is found by the next reader and told as such.
- A rollback gives the office back to the version that the champion replaced. The one that lost it
  is marked and never stands again, or the next night would promote it on the same evidence.
"""

import datetime as dt
from typing import Any

from filelock import FileLock

from atlas.errors import ModelError
from pipelines import challenge, tracking
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["champions", "note", "rollback"]

FILE = "champions.json"


def champions(paths: Paths) -> list[dict[str, Any]]:
    """Return every change of office, oldest first.

    Returns:
        For each: at (UTC), as_of (the night; None for a change by hand), version, previous (both
        None if there was none), how (`promoted`, `refreshed`, `rolled back` or `found`), reason.
    """
    with FileLock(paths.var / "mlflow" / "history.lock"):
        return _known(paths)


def note(
    paths: Paths, version: str, previous: str | None, *, how: str, as_of: str | None, reason: str
) -> None:
    """Tell that `version` holds the office since now."""
    with FileLock(paths.var / "mlflow" / "history.lock"):
        path = paths.artifacts / FILE
        told = list(read_json(path)) if path.is_file() else []
        entry = _entry(version, previous, how=how, as_of=as_of, reason=reason)
        write_json(path, [*told, entry])


def rollback(paths: Paths) -> dict[str, Any]:
    """Give the office back to the version that the champion replaced.

    Returns:
        champion_version, rolled_back (the version that lost the office) and reason.

    Raises:
        ModelError: there is no champion, it replaced nobody, or the files of the one that it
            replaced are not those that were registered.
    """
    holder = tracking.resolve(paths)
    lost, target = str(holder.version), tracking.alias(paths, tracking.PREVIOUS)
    if target is None or str(target.version) == lost:
        raise ModelError(
            f"nothing to roll back to: version {lost} is the champion and replaced no other that "
            "is left; `python -m pipelines champions` shows the history"
        )
    back = str(target.version)
    challenge.check(paths, back)
    before = _replaced_by(champions(paths), back)
    if not tracking.roll_back(paths, lost, back, before):
        raise ModelError(
            f"version {lost} lost the office meanwhile: look at `python -m pipelines champions` "
            "and roll back again if that is still wanted"
        )
    _free_challenger(paths, back)
    reason = f"rolled back from version {lost} to version {back} by hand"
    note(paths, back, lost, how="rolled back", as_of=None, reason=reason)
    path = paths.artifacts / tracking.DECISION
    if path.is_file():  # what the report shows; the next night judges anew
        told = {name: value for name, value in read_json(path).items() if name != "question"}
        news = {"champion_version": back, "promoted": False, "reason": reason}
        write_json(path, {**told, **news})
    return {"champion_version": back, "rolled_back": lost, "reason": reason}


def rollback_targets(paths: Paths) -> list[str]:
    """Return the versions that rollbacks, one after the other, would give the office to."""
    told, found = _told(paths), list[str]()
    held = tracking.alias(paths, tracking.PREVIOUS)
    version = str(held.version) if held else None
    while version is not None and version not in found:
        found.append(version)
        version = _replaced_by(told, version)
    return found


def _free_challenger(paths: Paths, version: str) -> None:
    standing = tracking.alias(paths, tracking.CHALLENGER)
    if standing is not None and str(standing.version) == version:
        tracking.stand_down(paths, version)


def _told(paths: Paths) -> list[dict[str, Any]]:
    path = paths.artifacts / FILE
    told: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    return told


def _known(paths: Paths) -> list[dict[str, Any]]:
    """Return what is told, after telling a change that nobody told."""
    path, told = paths.artifacts / FILE, _told(paths)
    holder = tracking.champion(paths)
    version = str(holder.version) if holder else None
    last = told[-1]["version"] if told else None
    if version is not None and version != last:
        reason = "in office, but nobody told why: a kill, or an ATLAS that kept no history"
        told = [*told, _entry(version, last, how="found", as_of=None, reason=reason)]
        write_json(path, told)
    return told


def _entry(
    version: str, previous: str | None, *, how: str, as_of: str | None, reason: str
) -> dict[str, Any]:
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return {
        "at": at,
        "as_of": as_of,
        "how": how,
        "previous": previous,
        "reason": reason,
        "version": version,
    }


def _replaced_by(told: list[dict[str, Any]], version: str) -> str | None:
    """Return whom a version replaced when it came to office, by itself and not by a rollback."""
    for entry in reversed(told):
        if entry["version"] == version and entry["how"] != "rolled back":
            previous: str | None = entry["previous"]
            return previous
    return None
