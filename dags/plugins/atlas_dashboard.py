"""The dashboard as a tab of Airflow's UI, behind Airflow's own login.

- Airflow does not put its login before a mounted app, so every request is checked here: the bearer
  token or the `_token` cookie, by the very function that Airflow's own routes use.
- Airflow loads plugins in every one of its programs. Nothing heavy is imported until a page of the
  dashboard is asked for, and then only by the api-server.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
PREFIX = "/atlas"


async def logged_in(request: "Request") -> "Response | None":
    """Let pass whom Airflow knows; answer 401 or 403 to everyone else."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import HTTPException
    from fastapi.security import HTTPAuthorizationCredentials
    from starlette.responses import PlainTextResponse

    kind, _, given = request.headers.get("authorization", "").partition(" ")
    bearer = HTTPAuthorizationCredentials(scheme=kind, credentials=given) if given else None
    try:
        await get_user(request, None, bearer)
    except HTTPException as error:
        return PlainTextResponse("Log in to Airflow first.", error.status_code)
    return None


class Lazy:
    """An app that is made when it is first asked."""

    def __init__(self) -> None:
        self.app: Any = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.app is None:
            self.app = _made()
        await self.app(scope, receive, send)


def _made() -> Any:
    import os
    from pathlib import Path

    from dashboard.app import create_app
    from dashboard.view import View
    from pipelines.paths import PROJECT, Paths

    home = Path(os.environ.get("ATLAS_HOME") or PROJECT)
    params = Path(os.environ.get("ATLAS_PARAMS") or PROJECT / "params.yaml")
    return create_app(View(Paths(home), params), logged_in)


class AtlasDashboard(AirflowPlugin):
    """Mounts the dashboard and puts it in the navigation."""

    name = "atlas_dashboard"
    fastapi_apps = [{"app": Lazy(), "url_prefix": PREFIX, "name": "ATLAS dashboard"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "ATLAS",
            "href": f"{PREFIX}/",
            "destination": "nav",
            "url_route": "atlas-dashboard",
        }
    ]
