"""Scripts and styles: compressed, kept for as long as their bytes last, and never stale."""

import gzip

import pytest
from starlette.testclient import TestClient

from dashboard import assets
from dashboard.access import local_only
from dashboard.app import create_app
from dashboard.view import View
from pipelines.paths import PROJECT, Paths


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    view = View(Paths(tmp_path_factory.mktemp("home")), PROJECT / "params.yaml")
    return TestClient(create_app(view, local_only), base_url="http://127.0.0.1")


def test_an_address_with_the_digest_is_kept_for_good(web: TestClient) -> None:
    """The digest of the bytes makes an answer immutable; an old one or none has to be asked."""
    digest = assets.asset("atlas.css").digest
    for query, kept in ((f"?v={digest}", True), ("?v=0123456789abcdef", False), ("", False)):
        answer = web.get(f"/static/atlas.css{query}")
        assert answer.status_code == 200
        assert ("immutable" in answer.headers["cache-control"]) is kept
    asked = {"If-None-Match": f'"{digest}"'}
    assert web.get("/static/atlas.css", headers=asked).status_code == 304


def test_pages_name_their_files_with_digests(web: TestClient) -> None:
    """Whatever a page loads has the digest of its bytes in its address."""
    text = web.get("/").text
    for name in ("atlas.css", "atlas.js", "theme.js", assets.PLOTLY):
        assert f"/static/{name}?v={assets.asset(name).digest}" in text


def test_the_large_script_is_sent_packed_to_who_reads_that(web: TestClient) -> None:
    """Plotly's script is a third of its size on the way, and the same bytes after it."""
    found = assets.asset(assets.PLOTLY)
    assert len(found.packed) < 0.35 * len(found.content)
    assert gzip.decompress(found.packed) == found.content
    plain = web.get(f"/static/{assets.PLOTLY}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == web.get(f"/static/{assets.PLOTLY}").content


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "%2e%2e"])
def test_only_files_of_the_folder_are_served(name: str, web: TestClient) -> None:
    """A name that leads elsewhere leads nowhere."""
    assert web.get(f"/static/{name}").status_code == 404
