"""Hosts and credentials of live sources: from an Airflow connection or the environment.

The connection of a source is `atlas_<id>`, such as `atlas_binance` or `atlas_yfinance`. Airflow's
own form is read, `AIRFLOW_CONN_ATLAS_BINANCE` as a URI or as JSON; inside a task, also what its
metadata database or secrets backend holds. Nothing of it stands in params.yaml, and a secret never
appears in a text that ATLAS makes.
"""

import json
import math
import os
import re
import sys
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from atlas.errors import ConfigError

__all__ = ["Connection", "connection"]

_NUMBERS = ("retry_s", "rate_limit_ms")


@dataclass(frozen=True)
class Connection:
    """Where a live source is and who asks.

    Attributes:
        base: scheme, host and port that stand in for the source's own, or None.
        login: API key, or None.
        password: its secret, or None.
        extra: anything else, such as `retry_s`, the first pause before another try.
    """

    base: str | None = None
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def scrub(self, text: object) -> str:
        """Return a text without this connection's secrets."""
        said = re.sub(r"(?i)(signature|apikey|api_key|token|crumb)=[^&\s]+", r"\1=***", str(text))
        secrets = [self.login, self.password, *map(str, self.extra.values())]
        for secret in secrets:
            if secret and len(secret) >= 6:
                said = said.replace(secret, "***")
        return said

    @property
    def retry_s(self) -> float:
        """First pause before another try, seconds; each further one is twice as long."""
        return float(self.extra.get("retry_s", 1.0))


def connection(source: str) -> Connection:
    """Return the connection of a source; an empty one if there is none.

    Raises:
        ConfigError: naming the variable (never its value) that cannot be read.
    """
    name = f"AIRFLOW_CONN_ATLAS_{source.upper()}"
    text = os.environ.get(name, "").strip()
    if not text:
        return _checked(_from_airflow(f"atlas_{source}") or Connection(), f"atlas_{source}")
    try:
        found = _from_json(text) if text.startswith("{") else _from_uri(text)
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(
            f"{name}: expected a connection as Airflow writes them, such as "
            "http://key:secret@host:port or JSON with conn_type, host, login, password"
        ) from None
    return _checked(found, name)


def _checked(found: Connection, name: str) -> Connection:
    for key in _NUMBERS:
        try:
            value = float(found.extra.get(key, 1.0))
        except (ValueError, TypeError):
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigError(f"{name}: {key} of its extra: expected a number above 0")
    return found


def _from_uri(text: str) -> Connection:
    parts = urlsplit(text)
    if not parts.scheme or "://" not in text:  # key:secret@host reads as a scheme and a path
        raise ValueError("no scheme")
    base = _base(parts.scheme, parts.hostname, parts.port)
    login, password = (unquote(one) if one else None for one in (parts.username, parts.password))
    return Connection(base, login, password, dict(parse_qsl(parts.query)))


def _from_json(text: str) -> Connection:
    found = json.loads(text)
    extra = found.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else dict(extra)
    scheme = found.get("schema") or found.get("conn_type") or "https"
    base = _base(scheme, found.get("host"), found.get("port"))
    return Connection(base, found.get("login"), found.get("password"), extra)


def _from_airflow(conn_id: str) -> Connection | None:
    """Ask Airflow inside one of its tasks; elsewhere loading it would take seconds."""
    if "airflow.sdk.execution_time.task_runner" not in sys.modules:
        return None
    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError

    try:
        found = AirflowConnection.get(conn_id)
    except (AirflowNotFoundException, AirflowRuntimeError):
        return None
    base = _base(found.schema or found.conn_type, found.host, found.port)
    return Connection(base, found.login, found.password, dict(found.extra_dejson))


def _base(scheme: str, host: str | None, port: int | None) -> str | None:
    """Return the address in front of a path; only http(s) addresses replace a source's own."""
    if not host:
        return None
    host = host.removeprefix("http://").removeprefix("https://")
    kind = "http" if scheme == "http" else "https"
    return f"{kind}://{host}:{port}" if port else f"{kind}://{host}"
