"""A home's two promises: a market's bars come from one source, and one night runs at a time.

The first use writes the source for all markets (and an archive's folder) to var/home.json; any
other one is refused by name, since a market that mixes sources is worth nothing. A market with a
source of its own is bound to it likewise, at its first ingest, in var/sources/. Locks are the
kernel's, so a killed process leaves none behind; who holds one stands in a file beside it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from atlas.errors import HomeError
from pipelines.files import read_json, write_bytes, write_json
from pipelines.paths import Paths

__all__ = ["Binding", "bind", "bind_market", "binding", "hold", "night_lock"]


@dataclass(frozen=True)
class Binding:
    """Where a home's bars come from; only an archive has a folder."""

    source: str
    folder: Path | None


def binding(paths: Paths) -> Binding | None:
    """Return what the home is bound to, or None before its first use."""
    if not paths.binding.is_file():
        return None
    try:
        found = read_json(paths.binding)
        return Binding(str(found["source"]), Path(found["folder"]) if found["folder"] else None)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise HomeError(
            f"{paths.binding}: expected the keys source and folder ({error!r}): restore it, "
            "or remove it if data/ is empty"
        ) from None


def bind(paths: Paths, source: str, folder: Path | None) -> Binding:
    """Bind the home to a source at its first use; later only check that it is the same.

    Raises:
        HomeError: naming the source or the folder that the home is bound to.
    """
    wanted = Binding(source, folder.resolve() if folder else None)
    found = binding(paths)
    if found is None:
        place = str(wanted.folder) if wanted.folder else None
        write_json(paths.binding, {"source": source, "folder": place})
        return wanted
    if found.source != wanted.source:
        raise HomeError(
            f"home {paths.home} is bound to the source {found.source!r}, not {source!r}: "
            "give another home (--home DIR)"
        )
    if found.folder != wanted.folder:
        raise HomeError(
            f"home {paths.home} is bound to the folder {found.folder}, not {wanted.folder}: "
            "give another home (--home DIR)"
        )
    return found


def bind_market(paths: Paths, market: str, source: str) -> None:
    """Bind a market to its source at its first ingest; later only check that it is the same.

    Raises:
        HomeError: naming the source that the market is bound to.
    """
    path = paths.var / "sources" / f"{market}.json"
    found = read_json(path)["source"] if path.is_file() else None
    if found not in (None, source):
        raise HomeError(
            f"market {market!r} of home {paths.home} is bound to the source {found!r}, not "
            f"{source!r}: give another home (--home DIR), or another name to the market"
        )
    write_json(path, {"source": source})


def night_lock(paths: Paths, *, wait_s: float = 0.0) -> contextlib.AbstractContextManager[None]:
    """Hold the home for one night.

    Raises:
        HomeError: another night holds it, with its process id.
    """
    return hold(paths.lock, f"home {paths.home}: a night", wait_s=wait_s)


@contextlib.contextmanager
def hold(path: Path, what: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file until the block ends.

    Args:
        what: what another holder would be doing, for the error's text.
        wait_s: how long to wait for it, seconds.

    Raises:
        HomeError: another process holds it, with its id.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_name(f"{path.name}.pid")  # beside it: trying the lock truncates its file
    lock = FileLock(path, timeout=wait_s)
    try:
        lock.acquire()
    except Timeout:
        pid = holder.read_text().strip() if holder.is_file() else "unknown"
        raise HomeError(
            f"{what} is already running (process {pid}): wait for it, or stop that process"
        ) from None
    try:
        write_bytes(holder, f"{os.getpid()}\n".encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
