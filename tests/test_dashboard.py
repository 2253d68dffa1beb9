"""The dashboard over homes that are whole, empty, broken or hostile; who may look at it."""

import asyncio
import hashlib
import json
import re
import shutil
import stat
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from atlas.catalogue import EXPERT_IDS
from atlas.errors import ConfigError, GateError
from benchmarks.dashboard_store import TINY, make_store
from dashboard.access import local_only, read_token, token_needed
from dashboard.app import create_app
from dashboard.experts import experts
from dashboard.view import View
from pipelines import diary
from pipelines.paths import PROJECT, Paths

PAGES = ("/", "/gate", "/kernels", "/symbol", "/benchmark", "/promotions", "/shadow", "/monitor")
CHARTS = (
    "/charts/gate?market=equity_daily",
    "/charts/gate?market=equity_daily&gate=rule",
    "/charts/gate?market=crypto_1min&symbol=CRY001",
    "/charts/load",
    "/charts/candles?market=equity_daily",
    "/charts/image?market=equity_daily",
    "/charts/history?market=equity_daily&column=hurst",
    "/charts/answers?market=equity_daily",
    "/charts/risk",
    "/charts/reliability",
    "/charts/decisions",
    "/charts/trial",
    "/charts/shadow",
    "/charts/drift",
    "/charts/watched",
)
TOKEN = "-".join(["a", "token", "of", "this", "test", "alone"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return make_store(tmp_path_factory.mktemp("home"), TINY)


@pytest.fixture
def own(whole: Paths, tmp_path: Path) -> Paths:
    """A copy that a test may break."""
    shutil.copytree(whole.home, tmp_path / "home")
    return Paths(tmp_path / "home")


def client(paths: Paths) -> TestClient:
    view = View(paths, PROJECT / "params.yaml")
    return TestClient(create_app(view, local_only), base_url="http://127.0.0.1")


def files_of(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_every_page_and_chart_of_a_whole_home_has_data_and_nothing_is_written(
    whole: Paths,
) -> None:
    """Pages answer without a notice of something missing; charts have data; no file changes."""
    before, web = files_of(whole.home), client(whole)
    for path in PAGES:
        answer = web.get(path)
        assert answer.status_code == 200
        assert "Nothing to show here" not in answer.text or path == "/"
    for path in CHARTS:
        found = web.get(path).json()
        assert found.get("data"), f"{path}: {found.get('notice')}"
        assert found["summary"]
        drawing = ElementTree.fromstring(found["sketch"])  # noqa: S314 # our own text
        assert drawing.findall(".//path") or drawing.findall(".//rect"), path
        assert "nan" not in found["sketch"], path
    assert files_of(whole.home) == before


def test_the_overview_names_champion_reason_and_figures(whole: Paths) -> None:
    """Version, why it was promoted, accuracy with its interval and base rate are on the page."""
    text = client(whole).get("/").text
    for part in ("Version 2", "reason 2", "55.0 %", "53.0 % to 57.0 %", "2026-11-20"):
        assert part in text


def test_gate_weights_of_a_chart_sum_to_one(whole: Paths) -> None:
    """Every point of the stacked chart adds up, for the learned gate and for the rule."""
    for gate in ("moe_mlp", "rule"):
        found = client(whole).get(f"/charts/gate?market=equity_daily&gate={gate}").json()
        stacks = [trace["y"] for trace in found["data"] if "stackgroup" in trace]
        assert {len(stack) for stack in stacks} == {len(stacks[0])}
        assert all(abs(sum(point) - 1) < 1e-6 for point in zip(*stacks, strict=True))


def test_a_date_range_is_kept_to(whole: Paths) -> None:
    """Only points within the dates are drawn, the last day included."""
    for gate in ("moe_mlp", "rule"):
        address = f"/charts/gate?market=equity_daily&gate={gate}&first=2026-09-01&last=2026-09-05"
        found = client(whole).get(address).json()
        for trace in found["data"]:
            assert min(trace["x"])[:10] >= "2026-09-01"
            assert max(trace["x"])[:10] <= "2026-09-05"


@pytest.mark.parametrize("path", [*PAGES, *CHARTS])
def test_an_empty_home_says_so_on_every_page(path: str, tmp_path: Path) -> None:
    """Without a store, a table or a registry each page says what to do; none is an error."""
    answer = client(Paths(tmp_path)).get(path)
    assert answer.status_code in (200, 400)
    text = answer.text
    assert any(said in text for said in ("make nightly", "No ", "-m pipelines monitor"))
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("path", [*PAGES, *CHARTS])
def test_broken_files_are_named_and_never_an_error(path: str, own: Paths) -> None:
    """Cut Parquet, JSON that is none and a registry that is none give pages that say so."""
    for found in own.home.rglob("*"):
        if found.suffix in (".parquet", ".json", ".db"):
            found.write_bytes(b"PAR1 this is not what it was")
    answer = client(own).get(path)
    assert answer.status_code in (200, 400)
    assert "cannot be read" in answer.text or "Nothing to show" in answer.text


def test_one_broken_market_leaves_the_others(own: Paths) -> None:
    """A cut fingerprint file shows in its own line; the other market's line has its data."""
    own.fingerprints("crypto_1min").write_bytes(b"PAR1")
    text = client(own).get("/").text
    assert "crypto_1min.parquet cannot be read" in text
    assert "2026-11-19 00:00" in text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("market=nowhere", "No market"),
        ("market=equity_daily&symbol=NOPE", "has no symbol"),
        ("symbol=../../etc/passwd", "symbol name"),
        ("gate=oracle'--", "no gate"),
        ("first=2026-13-40", "no date"),
        ("first=2026-11-02&last=2026-11-01", "swap"),
    ],
)
def test_what_a_url_asks_for_is_checked(query: str, said: str, whole: Paths) -> None:
    """What this home has not is refused by name, on the page and in the figure."""
    page = client(whole).get(f"/gate?{query}")
    assert page.status_code == 404
    assert said in page.text
    figure = client(whole).get(f"/charts/gate?{query}")
    assert figure.status_code == 400
    assert said in figure.json()["notice"]


@pytest.mark.parametrize("query", ["night=2026-01-01", "market=nowhere", "night=<script>"])
def test_the_shadow_log_has_its_own_nights_and_markets(query: str, whole: Paths) -> None:
    """A night or market that the log has not is refused by name."""
    answer = client(whole).get(f"/shadow?{query}")
    assert answer.status_code == 404
    assert "<script>" not in answer.text


def test_hostile_names_show_as_text(own: Paths) -> None:
    """A symbol whose name is markup is shown, never run, in lists and in refusals."""
    name = "<img src=x onerror=alert(1)>"
    good = own.bars("equity_daily") / "EQU000.parquet"
    shutil.copy(good, own.bars("equity_daily") / f"{name}.parquet")
    listed = client(own).get("/gate?market=equity_daily").text
    asked = client(own).get("/symbol", params={"market": "equity_daily", "symbol": name}).text
    for text in (listed, asked):
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text


def test_only_names_of_this_machine_are_answered(whole: Paths) -> None:
    """A foreign Host gets nothing, static files included."""
    web = client(whole)
    for path in ("/", "/charts/load", "/static/atlas.css", "/nowhere"):
        assert web.get(path, headers={"Host": "evil.example"}).status_code == 403
        assert web.get(path, headers={"Host": "localhost:8050"}).status_code in (200, 404)


def test_a_token_is_asked_for_everywhere(whole: Paths) -> None:
    """Bound elsewhere, every route wants the token: as a bearer or as the form's cookie."""
    app = create_app(View(whole, PROJECT / "params.yaml"), token_needed(TOKEN))
    web = TestClient(app, base_url="http://example.test", follow_redirects=False)
    for path in (*PAGES, *CHARTS, "/static/atlas.css", "/static/plotly.min.js", "/nowhere"):
        assert web.get(path).status_code == 401
        assert web.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert web.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert web.post("/login", data={"token": "wrong"}).status_code == 401
    answer = web.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert web.get("/gate").status_code == 200


def test_a_login_reads_no_more_than_a_form_has() -> None:
    """Who has no token cannot fill the memory with a body that never ends."""
    taken = []

    async def receive() -> dict[str, object]:
        taken.append(1)
        return {"type": "http.request", "body": b"x" * 4_096, "more_body": True}

    scope = {"type": "http", "method": "POST", "path": "/login", "headers": []}
    answer = asyncio.run(token_needed(TOKEN)(Request(scope, receive)))  # type: ignore[arg-type]
    assert answer is not None
    assert answer.status_code == 401
    assert len(taken) == 2


def test_the_token_is_made_once_for_the_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generated token is 0600 and stays; a readable file or a short token is refused."""
    monkeypatch.delenv("ATLAS_DASHBOARD_TOKEN", raising=False)
    made = tmp_path / "var" / "token"
    token, place = read_token(None, made)
    assert place == made
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert read_token(None, made)[0] == token
    made.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(None, made)
    monkeypatch.setenv("ATLAS_DASHBOARD_TOKEN", "short")
    with pytest.raises(ConfigError, match="at least 16"):
        read_token(None, made)


def test_a_check_stands_before_every_route(whole: Paths) -> None:
    """Whatever check is handed in, no route answers what it refuses: the form Airflow mounts."""

    async def refuse(_: Request) -> Response | None:
        return PlainTextResponse("no", 401)

    app = create_app(View(whole, PROJECT / "params.yaml"), refuse)
    web = TestClient(app)
    paths = [str(getattr(route, "path", "")) for route in app.routes]
    assert len(paths) >= len(PAGES) + 10
    for path in (*paths, *PAGES, *CHARTS):
        assert web.get(path.replace("{name}", "atlas.css")).status_code == 401


def test_links_keep_the_prefix_of_a_mount(whole: Paths) -> None:
    """Mounted under a prefix, as in Airflow, every page answers and its links stay under it."""
    outer = FastAPI()
    outer.mount("/atlas", create_app(View(whole, PROJECT / "params.yaml"), local_only))
    web = TestClient(outer, base_url="http://127.0.0.1")
    for path in PAGES:
        answer = web.get(f"/atlas{path}")
        assert answer.status_code == 200
        own = re.findall(r'(?:href|src)="(/[^"]*)"', answer.text)
        assert len(own) > 8
        assert all(address.startswith("/atlas/") for address in own)


def test_answers_forbid_scripts_of_others(whole: Paths) -> None:
    """The content policy allows scripts of this server alone, inline ones not."""
    policy = client(whole).get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src" not in policy
    assert "<script>" not in client(whole).get("/").text


def test_every_expert_has_a_color_of_its_own() -> None:
    """No two experts share a color."""
    assert len({one.color for one in experts()}) == len(EXPERT_IDS)


def test_colors_of_experts_stand_for_nothing_else(whole: Paths) -> None:
    """Lines of models, volatility and skew have none of the experts' colors."""
    taken = {one.color.lower() for one in experts()}
    for path in CHARTS:
        if "gate" not in path:
            found = json.dumps(client(whole).get(path).json()).lower()
            assert not [shade for shade in taken if shade in found], path


def test_every_page_is_asked_for_its_head(whole: Paths) -> None:
    """HEAD answers as GET does, without a body; what watches a service asks so."""
    web = client(whole)
    for path in (*PAGES, *CHARTS, "/static/atlas.css"):
        answer = web.head(path)
        assert answer.status_code == 200, path
        assert not answer.content
    assert web.head("/nowhere").status_code == 404


@pytest.mark.parametrize("gate", ["rule", "moe_mlp"])
@pytest.mark.parametrize(
    "range_of", ["first=2300-01-01", "last=1600-01-01", "first=0001-01-01&last=0001-01-01"]
)
def test_a_range_far_from_all_data_says_so(gate: str, range_of: str, whole: Paths) -> None:
    """Any date of the calendar is one that the gate can be asked about."""
    answer = client(whole).get(f"/charts/gate?market=equity_daily&gate={gate}&{range_of}")
    assert answer.status_code == 200
    assert "widen the range" in answer.json()["notice"]


def test_a_long_name_is_not_repeated_in_full(whole: Paths) -> None:
    """A notice repeats no more than the beginning of what an address says."""
    for name in ("symbol", "market", "gate", "first"):
        notice = client(whole).get(f"/charts/gate?{name}={'A' * 5_000}").json()["notice"]
        assert "A" * 65 not in notice
        assert len(notice) < 300


def test_a_statistic_that_a_market_lacks_is_called_missing(own: Paths) -> None:
    """A fingerprint without a spread is explained all the same; the range does not hold."""
    path = own.fingerprints("equity_daily")
    pd.read_parquet(path).assign(spread=float("nan")).to_parquet(path)
    text = client(own).get("/symbol?market=equity_daily").text
    assert "the rule names" in text
    assert "missing" in text


def test_values_that_cannot_be_shown_are_told(own: Paths) -> None:
    """A file whose columns are there and hold nothing gives a page that says so."""
    path = own.artifacts / "shadow" / "2026-11-20.parquet"
    pd.read_parquet(path).assign(probability=None).to_parquet(path)
    answer = client(own).get("/shadow")
    assert answer.status_code == 200
    assert "another form than expected" in answer.text


def test_the_load_is_the_share_of_the_two_heaviest_places(whole: Paths) -> None:
    """Each cell is an expert's count among the two heaviest of test windows, by market."""
    found = client(whole).get("/charts/load?gate=moe_mlp").json()["data"][0]
    rows = pd.read_parquet(whole.model("moe_mlp") / "predictions.parquet")
    rows = rows[rows["split"] == "test"]
    for market, shares in zip(found["y"], found["z"], strict=True):
        own = rows.loc[rows["market"] == market, [f"gate_{name}" for name in found["x"]]]
        places = (own.rank(axis=1, ascending=False, method="first") <= 2) & (own > 0)
        assert shares == pytest.approx(list(places.sum() / places.sum().sum()))


def test_a_failed_validation_is_told(own: Paths) -> None:
    """The overview says which market failed its gate and by how much."""
    path = own.validation("equity_daily")
    outcome = json.loads(path.read_text()) | {"passed": False, "bad_share": 0.25}
    path.write_text(json.dumps(outcome))
    diary.begin_night(own, "2026-11-20")
    with pytest.raises(GateError), diary.told(own, "2026-11-20", "validate", "equity_daily"):
        raise GateError("equity_daily: 25.0% of <its> rows are bad")
    text = client(own).get("/").text
    assert "failed validation" in text
    assert "<b>validate failed.</b> equity_daily: 25.0% of &lt;its&gt; rows are bad" in text
