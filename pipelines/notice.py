"""The notice of a failed night: in the log, and to a webhook if there is one.

It says in words what failed, and by name which market, symbol, session and rule, as validation left
them for the night begun last. The webhook's address is a secret: it comes from the caller (a
scheduler's connection) or from `ATLAS_WEBHOOK`, and is never written anywhere. A webhook that does
not answer is one line in the log; a failed night must not fail differently for want of it.
"""

import http.client
import json
import logging
import os
import urllib.request
from typing import Any

from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["failures", "send"]

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
_NAMED = ("symbol", "session", "rule", "time")


def send(paths: Paths, text: str, address: str | None = None) -> bool:
    """Log what failed and post it as JSON: `text` and `failures`.

    Args:
        text: what failed, in words.
        address: of the webhook; by default that of the environment's `ATLAS_WEBHOOK`.

    Returns:
        Whether a webhook took it.
    """
    found = failures(paths)
    log.error("%s", text)
    for one in found:
        log.error(
            "%s failed: symbol %s, session %s, rule %s",
            *(one.get(name) or "unknown" for name in ("market", "symbol", "session", "rule")),
        )
    wanted = address or os.environ.get("ATLAS_WEBHOOK", "")
    if not wanted.startswith(("https://", "http://")):
        return False
    body = json.dumps({"text": text, "failures": found}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(wanted, body, headers)  # noqa: S310 - http(s) only
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310
            return True
    except (OSError, http.client.HTTPException, ValueError) as error:
        # only the kind: the text of some of these errors holds the address
        log.warning("the webhook did not take the notice: %s", type(error).__name__)
        return False


def failures(paths: Paths) -> list[dict[str, Any]]:
    """Return market, symbol, session, rule and time of each market that failed in the last night.

    None where the night was not begun, or nothing failed in validation.
    """
    if not paths.night.is_file():
        return []
    night = str(read_json(paths.night)["as_of"])
    found = []
    for path in sorted(paths.validation("any").parent.glob("*.json")):
        outcome = read_json(path)
        if not outcome.get("passed", True) and str(outcome["as_of"]).startswith(night):
            worst = outcome.get("worst") or {}
            named = {name: worst.get(name) for name in _NAMED}
            found.append({"market": outcome.get("market", path.stem), **named})
    return found
