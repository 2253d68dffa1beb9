"""Connections of live sources: what Airflow would read is read, anything else refused by name."""

import pytest

from atlas.errors import ConfigError
from pipelines.connections import Connection, connection

NAME = "AIRFLOW_CONN_ATLAS_BINANCE"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Connection()),
        ("https://key:se%2Fcret@/", Connection(None, "key", "se/cret")),
        (
            "http://127.0.0.1:80?retry_s=.5",
            Connection("http://127.0.0.1:80", extra={"retry_s": ".5"}),
        ),
        (
            '{"conn_type": "http", "host": "h", "extra": {"rate_limit_ms": 9}}',
            Connection("http://h", extra={"rate_limit_ms": 9}),
        ),
    ],
)
def test_a_connection_is_read_as_airflow_writes_it(
    text: str, found: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a URI or JSON, with or without host and credentials; none is an empty one."""
    monkeypatch.setenv(NAME, text)
    assert connection("binance") == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key:secret-of-mine@host", "expected a connection as Airflow writes them"),
        ("host:8000", "expected a connection as Airflow writes them"),
        ("http://host:99999", "expected a connection as Airflow writes them"),
        ('{"host": ', "expected a connection as Airflow writes them"),
        ("http://key:secret-of-mine@h?retry_s=soon", "retry_s of its extra: expected a number"),
        ("http://h?retry_s=-1", "retry_s of its extra: expected a number above 0"),
        ("http://h?rate_limit_ms=nan", "rate_limit_ms of its extra: expected a number above 0"),
        ('{"extra": {"retry_s": null}}', "retry_s of its extra: expected a number above 0"),
    ],
)
def test_what_cannot_be_read_is_refused_and_never_shown(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that would be passed over, or a pause that is none: refused before a request."""
    monkeypatch.setenv(NAME, text)
    with pytest.raises(ConfigError, match=f"{NAME}: {message}") as caught:
        connection("binance")
    assert "secret-of-mine" not in str(caught.value)
