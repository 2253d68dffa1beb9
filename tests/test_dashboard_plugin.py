"""The dashboard inside Airflow: the plugin is light, and no route answers an anonymous."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from benchmarks.dashboard_store import TINY, make_store
from pipelines.paths import PROJECT

FILE = PROJECT / "dags" / "plugins" / "atlas_dashboard.py"


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("atlas_dashboard", FILE)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_loading_the_plugin_loads_nothing_heavy() -> None:
    """Every program of Airflow loads it: no pandas, no dashboard; the app itself needs no torch."""
    code = (
        "import sys, airflow.plugins_manager; before = set(sys.modules)\n"
        f"import runpy; runpy.run_path({str(FILE)!r})\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert not new & {'pandas', 'numba', 'pyarrow', 'dashboard', 'torch', 'mlflow'}, new\n"
        "import dashboard.app; assert not {'torch', 'mlflow', 'plotly'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]


def test_no_route_answers_an_anonymous(
    plugin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every route, static files and unknown paths included, is 401 without a login."""
    monkeypatch.setenv(
        "ATLAS_HOME", str(make_store(tmp_path, {"equity_daily": TINY["equity_daily"]}).home)
    )
    lazy = plugin.AtlasDashboard.fastapi_apps[0]["app"]
    web = TestClient(lazy)
    assert web.get("/").status_code == 401
    routes = [route.path.replace("{name}", "atlas.css") for route in lazy.app.routes]
    assert len(routes) > 15
    for path in (*routes, "/nowhere", "/static/plotly.min.js"):
        assert web.get(path).status_code == 401, path
        assert web.head(path).status_code == 401, path


def test_the_tab_leads_to_the_mounted_app(plugin: ModuleType) -> None:
    """The navigation's address is the prefix that the app is mounted under."""
    view, app = plugin.AtlasDashboard.external_views[0], plugin.AtlasDashboard.fastapi_apps[0]
    assert view["href"] == f"{app['url_prefix']}/"
    assert view["destination"] == "nav"
