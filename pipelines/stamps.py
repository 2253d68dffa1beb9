"""Skip a stage that has nothing new to do.

A stamp records what a finished stage read (its key: data version, parameters, code, night) and the
digests of what it wrote. The stage is skipped while the key and the outputs are the same, so a
second run of a night is quick and an edited or deleted output is made again.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.files import digest, read_json, write_json
from pipelines.paths import PROJECT, Paths

__all__ = ["code_digest", "code_digest_of", "once"]

log = logging.getLogger(__name__)


@cache
def code_digest() -> str:
    """Return a digest over the sources of atlas/ and pipelines/ that are running, and the lock."""
    return code_digest_of(PROJECT)


def code_digest_of(project: Path) -> str:
    """Return the digest that `code_digest` gives of another checkout."""
    total = hashlib.sha256((project / "requirements.lock").read_bytes())
    for package in ("atlas", "pipelines"):
        for path in sorted((project / package).rglob("*.py")):
            total.update(str(path.relative_to(project)).encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def once(
    paths: Paths,
    name: str,
    key: Mapping[str, Any],
    outputs: Callable[[], Iterable[Path]],
    work: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """Run `work` unless the stage `name` already did it for this key; return its summary.

    Args:
        key: everything the stage's result depends on; the code's digest is added here.
        outputs: called after the work, gives the files it wrote.
        work: does the stage and returns its summary.

    Returns:
        The summary, with `skipped` true if it was read from the stamp.
    """
    text = json.dumps({**key, "code": code_digest()}, sort_keys=True, default=str)
    wanted = hashlib.sha256(text.encode()).hexdigest()
    stamp = paths.var / "stamps" / f"{name}.json"
    found = read_json(stamp) if stamp.is_file() else None
    if found and found["key"] == wanted and _unchanged(paths, found["outputs"]):
        log.info("%s: nothing new to do, skipped", name)
        return {**found["summary"], "skipped": True}
    summary = work()
    written = {str(p.relative_to(paths.home)): digest(p) for p in outputs()}
    write_json(stamp, {"key": wanted, "outputs": written, "summary": summary})
    return {**summary, "skipped": False}


def _unchanged(paths: Paths, outputs: Mapping[str, str]) -> bool:
    return all(
        (paths.home / name).is_file() and digest(paths.home / name) == known
        for name, known in outputs.items()
    )
