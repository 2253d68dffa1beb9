"""A failed night is told, by name, in the log and to a webhook whose address nobody reads."""

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipelines import notice, tasks
from pipelines.files import write_json
from pipelines.paths import Paths

WORST = {
    "symbol": "EQD007",
    "session": "2026-11-19",
    "rule": "close_positive",
    "time": "2026-11-19T00:00:00+00:00",
}


class _Inbox(http.server.BaseHTTPRequestHandler):
    taken: ClassVar[list[tuple[str, Any]]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[tuple[str, type[_Inbox]]]:
    class Handler(_Inbox):
        taken: ClassVar[list[tuple[str, Any]]] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/token-of-ours", Handler
    server.shutdown()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.delenv("ATLAS_WEBHOOK", raising=False)
    paths = Paths(tmp_path)
    write_json(paths.night, {"as_of": "2026-11-20"})
    outcomes = {
        "equity_daily": ("2026-11-20", False, WORST),
        "crypto_1min": ("2026-11-20", True, None),
        "low_vol_etf": ("2026-11-19", False, WORST),
    }
    for market, (night, passed, worst) in outcomes.items():
        value = {"market": market, "as_of": f"{night}T00:00:00+00:00", "passed": passed}
        write_json(paths.validation(market), {**value, "worst": worst})
    return paths


def test_a_notice_names_market_symbol_session_and_rule(
    paths: Paths, inbox: tuple[str, type[_Inbox]], caplog: pytest.LogCaptureFixture
) -> None:
    """Of the markets that failed in this very night; the log says the same."""
    address, handler = inbox
    assert notice.send(paths, "the night failed", address)
    kind, body = handler.taken[0]
    assert kind == "application/json"
    expected = [{"market": "equity_daily", **WORST}]
    assert body == {"text": "the night failed", "failures": expected}
    assert "equity_daily failed: symbol EQD007, session 2026-11-19, rule close_positive" in (
        caplog.text
    )
    assert "token-of-ours" not in caplog.text


def test_a_task_tells_the_webhook_of_the_environment(
    paths: Paths, inbox: tuple[str, type[_Inbox]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the scheduler's callback calls needs no address; one that it has goes first."""
    address, handler = inbox
    monkeypatch.setenv("ATLAS_HOME", str(paths.home))
    monkeypatch.setenv("ATLAS_WEBHOOK", address)
    tasks.alert("validate failed")
    monkeypatch.setenv("ATLAS_WEBHOOK", "http://127.0.0.1:9/nobody")
    tasks.alert("train failed", address)
    assert [body["text"] for _, body in handler.taken] == ["validate failed", "train failed"]


@pytest.mark.parametrize("address", ["", "ftp://x/y", "file:///etc/hostname"])
def test_without_a_webhook_the_log_is_enough(paths: Paths, address: str) -> None:
    """Nothing is opened but http and https."""
    assert not notice.send(paths, "failed", address)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/secret", "http://[secret", "http://127.0.0.1:1/a secret\n"]
)
def test_a_webhook_that_is_down_or_wrong_keeps_its_address(
    paths: Paths, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says that it was not told; the address stands nowhere."""
    with caplog.at_level(logging.DEBUG):
        assert not notice.send(paths, "failed", address)
    assert "the webhook did not take the notice" in caplog.text
    assert "secret" not in caplog.text


def test_a_refusal_is_said(
    paths: Paths, inbox: tuple[str, type[_Inbox]], caplog: pytest.LogCaptureFixture
) -> None:
    """A webhook that answers with an error did not take it."""
    address, handler = inbox
    handler.status = 403
    assert not notice.send(paths, "failed", address)
    assert "HTTPError" in caplog.text


def test_a_home_without_a_night_has_nothing_to_name(tmp_path: Path) -> None:
    """Before the first snapshot there is only the text."""
    assert notice.failures(Paths(tmp_path)) == []
