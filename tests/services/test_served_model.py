"""`mlflow models serve` answers as the model does, with nothing installed but its requirements.

What else is installed here is hidden from the server: every package outside the closure of the
model's own requirements cannot be imported in its process, nor in those that it starts.
"""

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines import challenge, packaging, store, tracking
from pipelines.paths import Paths
from tests.registered import AS_OF, registered, tiny_config
from tests.services.conftest import free_port

pytestmark = pytest.mark.services

HIDE = """
import sys
from pathlib import Path
HIDDEN = frozenset(Path(__file__).with_name("hidden").read_text().split())
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{name} is not among the model's requirements", name=name)
sys.meta_path.insert(0, Hide())
"""


def _closure(names: tuple[str, ...]) -> set[str]:
    """Return the distributions that installing some of them brings along, themselves included."""
    found, open_ = set[str](), [Requirement(name) for name in names]
    while open_:
        wanted = open_.pop()
        key = canonicalize_name(wanted.name) + str(sorted(wanted.extras))
        if key in found:
            continue
        found |= {key, canonicalize_name(wanted.name)}
        try:
            needs = importlib.metadata.requires(wanted.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        extras = [{"extra": extra} for extra in ("", *wanted.extras)]
        for need in map(Requirement, needs):
            if need.marker is None or any(need.marker.evaluate(extra) for extra in extras):
                open_.append(need)
    return found


def _hidden() -> set[str]:
    """Return the modules of every distribution that the model does not require."""
    known = _closure(packaging.REQUIREMENTS)
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & known
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Paths, str]]:
    """A home with a champion, and the address of the server that serves it."""
    paths = registered()
    tracking.swap(paths, "1", None)
    place = tmp_path_factory.mktemp("hide")
    (place / "sitecustomize.py").write_text(HIDE)
    (place / "hidden").write_text("\n".join(sorted(_hidden())))
    port, log = free_port(), place / "log"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["-m", f"models:/{tracking.MODEL}@{tracking.CHAMPION}"]
    command += ["-h", "127.0.0.1", "-p", str(port)]
    given = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "MLFLOW_TRACKING_URI": paths.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "400",  # the first question compiles
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(place),
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=given, cwd=place, stdout=said, stderr=said, start_new_session=True
        )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", process, log)
        yield paths, f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the server does not answer:\n{log.read_text()[-3000:]}")


def _asked(address: str, frame: pd.DataFrame, params: dict[str, Any]) -> pd.DataFrame:
    split = json.loads(frame.to_json(orient="split", date_format="iso", double_precision=15))
    body = json.dumps({"dataframe_split": split, "params": params}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=400) as answer:
        return pd.DataFrame(json.load(answer)["predictions"])


def _frame(paths: Paths, market: str) -> pd.DataFrame:
    settings = tiny_config().markets[market]
    parts = [
        challenge.recent(bars, settings, AS_OF).assign(market=market, symbol=symbol)
        for symbol in store.symbols(paths, market)
        for bars in [store.read_bars(paths, market, symbol, as_of=AS_OF, config=settings)]
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("market", ["equity_daily", "equity_5min", "options_skew"])
def test_the_server_answers_as_the_model_does(server: tuple[Paths, str], market: str) -> None:
    """Bars and surfaces as JSON get the very answers that `predict` gives the frame."""
    paths, address = server
    frame = _frame(paths, market)
    served = _asked(address, frame, {"now": AS_OF.isoformat()})
    wanted = challenge.answers(paths, "1", frame, threads=1, now=AS_OF)
    assert len(served) == len(wanted) > 0
    for name in wanted.columns.drop(["timestamp", "as_of"]):
        if wanted[name].dtype.kind == "f":
            np.testing.assert_allclose(served[name].astype(float), wanted[name], rtol=1e-9)
        else:
            assert served[name].tolist() == wanted[name].tolist()
    assert not served["abstain"].any()


def test_the_server_says_what_is_wrong(server: tuple[Paths, str]) -> None:
    """A frame without a price gets the library's own words, and the server goes on."""
    paths, address = server
    frame = _frame(paths, "equity_daily")
    with pytest.raises(urllib.error.HTTPError) as caught:
        _asked(address, frame.drop(columns="close"), {"now": AS_OF.isoformat()})
    assert caught.value.code == 400
    assert "column 'close' is missing" in caught.value.read().decode()
    assert len(_asked(address, frame, {"now": AS_OF.isoformat()})) == frame["symbol"].nunique()


def test_what_the_model_does_not_require_is_hidden() -> None:
    """The server ran without the pipeline's heavy parts."""
    assert {"torch", "dvc", "airflow", "great_expectations", "lightgbm", "typer"} <= _hidden()
    assert not {"mlflow", "onnxruntime", "pandas", "numba", "fastapi"} & _hidden()
