"""Who may look: checks that stand before every route, static files and unknown paths included.

- Alone on this machine no login is asked for, but only names of this machine are answered: a page
  elsewhere that points its own name at 127.0.0.1 (DNS rebinding) gets nothing.
- Bound elsewhere every request needs the token: as a bearer, or as the cookie that the login form
  sets. It is compared in constant time and never put into a link or a log.
- Inside Airflow the plugin hands in a check of Airflow's own login.
"""

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from atlas.errors import ConfigError

__all__ = ["COOKIE", "LOOPBACK", "Check", "Guard", "local_only", "read_token", "token_needed"]

COOKIE = "atlas_dashboard"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
VARIABLE = "ATLAS_DASHBOARD_TOKEN"
_FORM_BYTES = 4_096
LEAST = 16  # characters of a token that somebody chose
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; frame-ancestors 'self'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

Check = Callable[[Request], Awaitable[Response | None]]


class Guard:
    """Middleware that asks `check` first; what it returns is the answer, None lets pass."""

    def __init__(self, app: ASGIApp, check: Check) -> None:
        self.app, self.check = app, check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        # Links are made by this app under its prefix, not by the router that it is mounted in.
        scope = {**scope, "app_root_path": scope.get("root_path", "")}
        scope.pop("router", None)
        refusal = await self.check(Request(scope, receive))
        if refusal is not None:
            refusal.headers.update(HEADERS)
            await refusal(scope, receive, send)
            return

        asks_head = scope["method"] == "HEAD"  # answered as GET is, without its body
        scope["method"] = "GET" if asks_head else scope["method"]

        async def tell(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]  # type: ignore[misc]
            elif asks_head:
                message["body"] = b""
            await send(message)

        await self.app(scope, receive, tell)  # type: ignore[arg-type]


def local_only(request: Request) -> Awaitable[Response | None]:
    """Let pass what was asked of this machine by one of its own names."""

    async def check() -> Response | None:
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if name in LOOPBACK:
            return None
        return PlainTextResponse("This dashboard answers 127.0.0.1 and localhost only.", 403)

    return check()


def token_needed(token: str) -> Check:
    """Return a check that lets pass whoever shows the token, and offers others the form."""

    async def check(request: Request) -> Response | None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        shown = given if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")
        if _same(shown, token):
            return None
        if request.url.path.endswith("/login") and request.method == "POST":
            return _logged_in(await _beginning(request), token)
        wants_page = "text/html" in request.headers.get("accept", "")
        return Response(_FORM, 401, media_type="text/html") if wants_page else _plain()

    return check


def read_token(file: Path | None, made: Path) -> tuple[str, Path | None]:
    """Return the token and, if it lies in a file, where.

    It comes from the environment, else from `file`, else from `made`, which is written once with
    mode 0600.

    Raises:
        ConfigError: the file is not there, others can read it, or the token is too short.
    """
    token = os.environ.get(VARIABLE, "").strip()
    if token:
        return _long_enough(token, VARIABLE), None
    if file is None and not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(secrets.token_urlsafe(48) + "\n")
    place = file or made
    try:
        if place.stat().st_mode & 0o077:
            raise ConfigError(f"{place}: others can read this token: chmod 600 {place}")
        return _long_enough(place.read_text(encoding="utf-8").strip(), str(place)), place
    except OSError as error:
        raise ConfigError(f"{place}: the token cannot be read ({error.strerror})") from None


async def _beginning(request: Request) -> str:
    """Return the beginning of a body: whoever is not logged in yet may send no more."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _FORM_BYTES:
            break
    return body[:_FORM_BYTES].decode("utf-8", "replace")


def _long_enough(token: str, place: str) -> str:
    if len(token) < LEAST or not token.isascii():
        raise ConfigError(f"{place}: expected a token of at least {LEAST} ASCII characters")
    return token


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _logged_in(form: str, token: str) -> Response:
    given = parse_qs(form).get("token", [""])[0].strip()
    if not _same(given, token):
        return Response(_FORM.replace("<!--note-->", _WRONG), 401, media_type="text/html")
    answer = Response(status_code=303, headers={"Location": "./"})
    answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=7 * 86_400)
    return answer


def _plain() -> Response:
    return PlainTextResponse("Show the token: Authorization: Bearer …", 401)


_WRONG = '<p role="alert">That is not the token.</p>'
_FORM = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ATLAS: log in</title>
<meta name="viewport" content="width=device-width"><style>
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;display:grid;
place-items:center;min-height:90vh;margin:0}form{max-width:22rem;padding:1.5rem;display:grid;gap:.75rem}
input,button{font:inherit;padding:.6rem .8rem;border-radius:8px;border:1px solid #8886}
button{background:#0059a8;color:#fff;border:0;cursor:pointer}</style></head><body>
<form method="post" action="login"><h1>ATLAS</h1><!--note-->
<label for="token">The token of this dashboard. Whoever started it finds it in the file that the
start named.</label><input id="token" name="token" type="password" autocomplete="current-password"
required autofocus><button>Log in</button></form></body></html>"""
