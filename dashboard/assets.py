"""Scripts, styles and the icon: sent compressed, and kept by the browser as long as they last.

An address carries the digest of the file's bytes (`?v=…`), so what is answered to it never changes
and need never be asked for again; without the digest, or with an old one, the browser has to ask.
Plotly's script comes from the installed wheel, so that figures work without a network; it is
compressed once, at the start, to less than a third.
"""

import gzip
import hashlib
import importlib.util
import mimetypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["PLOTLY", "address", "asset", "serve"]

PLOTLY = "plotly.min.js"
STATIC = Path(__file__).parent / "static"
_YEAR = "public, max-age=31536000, immutable"
_ASK = "no-cache"
_PACKED = 1_024  # bytes from which on a file is sent compressed
_LEVEL = 6  # a third of a second for Plotly; 9 takes three times as long for 1 % less


class Asset(NamedTuple):
    """One file: its bytes, compressed if that is worth it, its digest and its media type."""

    content: bytes
    packed: bytes
    digest: str
    media_type: str


def asset(name: str) -> Asset:
    """Return a file of this package, or Plotly's script.

    Raises:
        HTTPException: there is no such file.
    """
    path = _plotly() if name == PLOTLY else STATIC / Path(name).name
    if path is None or (name != PLOTLY and path.name != name) or not path.is_file():
        raise HTTPException(404)
    return _read(path, path.stat().st_mtime_ns)


def address(request: Request, name: str) -> str:
    """Return the path of a file with its digest; without one where the file is missing."""
    path = request.url_for("static", name=name).path
    try:
        return f"{path}?v={asset(name).digest}"
    except HTTPException:
        return path


def serve(request: Request, name: str) -> Response:
    """Answer with a file, compressed for a browser that reads that."""
    found = asset(name)
    is_current = request.query_params.get("v") == found.digest
    headers = {"Cache-Control": _YEAR if is_current else _ASK, "ETag": f'"{found.digest}"'}
    headers["Vary"] = "Accept-Encoding"
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if found.packed and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.packed, headers=headers, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


@cache
def _read(path: Path, _: int) -> Asset:
    content = path.read_bytes()
    is_large = len(content) >= _PACKED
    return Asset(
        content,
        gzip.compress(content, _LEVEL, mtime=0) if is_large else b"",
        hashlib.sha256(content).hexdigest()[:16],
        mimetypes.guess_type(path.name)[0] or "application/octet-stream",
    )


@cache
def _plotly() -> Path | None:
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "package_data" / PLOTLY
