"""The app: pages, charts, static files, and what is said when something is not there.

The same app stands alone and mounts under a prefix in Airflow; whoever makes it hands in the check
that stands before every route.
"""

import contextlib
import logging
import threading
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from atlas.bars import COLUMNS
from atlas.charts import WINDOW, render
from atlas.errors import AtlasError
from dashboard import assets, charts, pages
from dashboard.access import Check, Guard
from dashboard.reading import FORM_ERRORS, attempt, unexpected
from dashboard.view import AddressError, View

__all__ = ["create_app", "warm"]

log = logging.getLogger(__name__)


def create_app(view: View, check: Check) -> FastAPI:
    """Return the app for one home, with `check` before every route."""
    app = FastAPI(title="ATLAS", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.view = view
    app.include_router(pages.router)
    app.include_router(charts.router)
    app.add_api_route("/static/{name}", assets.serve, methods=["GET"], name="static")
    app.add_middleware(Guard, check=check)
    app.add_exception_handler(AddressError, _refused)
    app.add_exception_handler(AtlasError, _failed)
    for kind in FORM_ERRORS:
        app.add_exception_handler(kind, _malformed)
    app.add_exception_handler(HTTPException, _not_there)
    app.add_exception_handler(RequestValidationError, _not_understood)
    threading.Thread(target=warm, args=[view], daemon=True).start()
    return app


def warm(view: View) -> None:
    """Read the first page's files, pack the script, load the renderer, before anyone asks."""
    attempt(pages.overview_panels, view)
    pages.templates.get_template("overview.html")
    render(np.ones((len(COLUMNS), WINDOW)), np.array([WINDOW - 1]))
    with contextlib.suppress(HTTPException):  # no Plotly: figures stay sketches
        assets.asset(assets.PLOTLY)


def _refused(request: Request, error: Any) -> Response:
    return _said(request, 404, "There is nothing here", str(error))


def _failed(request: Request, error: Any) -> Response:
    return _said(request, 200, "This cannot be shown", str(error))


def _malformed(request: Request, error: Any) -> Response:
    """Answer where a file could be read and its values cannot be shown."""
    log.error("%s: %s", request.url.path, error, exc_info=error)
    return _said(request, 200, "This cannot be shown", unexpected(error))


def _not_there(request: Request, error: Any) -> Response:
    text = "This address leads nowhere: use the links above."
    return _said(request, error.status_code, "There is nothing here", text)


def _not_understood(request: Request, error: Any) -> Response:
    what = "; ".join(str(one.get("msg", "")) for one in error.errors())
    return _said(request, 400, "The address is not understood", what)


def _said(request: Request, status: int, title: str, text: str) -> Response:
    return pages.page(request, "notice", status, title=title, text=text)
