"""The HTTP session that yfinance asks with: a browser's, moved to another host if one is named.

The connection `atlas_yfinance` may name a host (a proxy of one's own, or a stand-in). Every address
of Yahoo is then asked for there.
"""

import atexit
import shutil
import tempfile
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import yfinance
from curl_cffi import requests

from pipelines.connections import Connection

__all__ = ["open_session"]


class _Moved(requests.Session):  # type: ignore[misc]
    """A session whose every request goes to one host, the paths as they are."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return super().request(method, f"{self._base}{parts.path}{query}", *args, **kwargs)


def open_session(own: Connection) -> Any:
    """Return a session for yfinance.

    What yfinance keeps on disk (cookies, time zones) is kept for Yahoo alone.
    """
    if own.base:
        yfinance.set_tz_cache_location(_scratch())
    return _Moved(own.base) if own.base else requests.Session(impersonate="chrome")


@cache
def _scratch() -> str:
    """Return a folder that goes when the process ends by itself; a killed one leaves it."""
    folder = tempfile.mkdtemp(prefix="atlas-yahoo-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
