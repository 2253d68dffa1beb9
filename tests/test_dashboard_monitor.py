"""What the daily watch wrote, as the dashboard reads it: alarms, shares of limits, other forms."""

import json
import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from atlas.errors import DataError
from benchmarks.dashboard_store import TINY, make_store
from dashboard import monitoring
from dashboard.access import local_only
from dashboard.app import create_app
from dashboard.view import View
from pipelines.paths import PROJECT, Paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return make_store(tmp_path_factory.mktemp("home"), {"equity_daily": TINY["equity_daily"]})


@pytest.fixture
def own(paths: Paths, tmp_path: Path) -> Paths:
    """A copy of the watch alone, which a test may change."""
    shutil.copytree(paths.artifacts / "monitor", tmp_path / "artifacts" / "monitor")
    return Paths(tmp_path)


def test_drift_is_told_as_a_share_of_its_limit(paths: Paths) -> None:
    """A value of .4 over a limit of .3 stands at 133 %; what was not judged is empty."""
    found = monitoring.drift(monitoring.newest(paths))
    row = dict(zip(found.columns, found.shares[0], strict=True))
    assert row["vol30"] == pytest.approx(0.4 / 0.3)
    assert row["gate"] is None


def test_alarms_stand_on_every_page_that_they_concern(paths: Paths) -> None:
    """Monitor and gate say what has drifted, the overview how many alarms there are."""
    app = create_app(View(paths, PROJECT / "params.yaml"), local_only)
    web = TestClient(app, base_url="http://127.0.0.1")
    line = "equity_daily: vol30 is no longer distributed as in training"
    assert line in web.get("/monitor").text
    assert line in web.get("/gate").text
    assert "1 alarm<" in web.get("/").text


def test_the_newest_day_is_shown_and_the_days_are_counted(own: Paths) -> None:
    """The file with the latest date wins; other files of the folder are no days."""
    (own.artifacts / "monitor" / "notes.json").write_text("{}")
    assert monitoring.newest(own).as_of == "2026-11-20"
    assert list(monitoring.days(own)["alarm"]) == [1, 1]


def test_a_file_of_another_format_is_refused_by_name(own: Paths) -> None:
    """A format that this dashboard does not know says so and what to do."""
    path = own.artifacts / "monitor" / "2026-11-21.json"
    path.write_text(json.dumps({"format": 2, "checks": []}))
    with pytest.raises(DataError, match="expected format 1; got 2"):
        monitoring.newest(own)


def test_a_home_that_nobody_watched_says_what_to_do(tmp_path: Path) -> None:
    """Before the first look the notice names the command."""
    with pytest.raises(DataError, match="python -m pipelines monitor"):
        monitoring.newest(Paths(tmp_path))
