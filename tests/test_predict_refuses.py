"""What a registered model and the command refuse: changed files, another atlas, no champion."""

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from atlas.errors import ModelError
from pipelines import challenge, packaging, predict, register, tracking
from pipelines.paths import Paths
from tests.registered import AS_OF, copy_home, tiny_config

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    home = copy_home(tmp_path_factory.mktemp("served") / "home")
    register.run(home, CONFIG, as_of=AS_OF)
    tracking.open_registry(home)
    return home


def test_tampered_weights_are_not_loaded(paths: Paths) -> None:
    """One changed byte of the weights, or of the packed digests' code, stops the loading."""
    weights = next((paths.mlflow_artifacts / "models").rglob("model.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ModelError, match="expected digest"):
            mlflow.pyfunc.load_model(f"models:/{tracking.MODEL}/1")
    finally:
        weights.write_bytes(content)


@pytest.mark.parametrize("name", ["artifacts/config.json", "model.py", "code/atlas/serving.py"])
def test_files_and_manifest_changed_together_are_found_out(paths: Paths, name: str) -> None:
    """Whoever changes a file and the manifest beside it still lacks the registry's digest."""
    folder = tracking.files_of(paths, tracking.resolve(paths, "1"))
    manifest, file = folder / "artifacts" / "manifest.json", folder / name
    kept = manifest.read_bytes(), file.read_bytes()
    key = name.removeprefix("artifacts/").removeprefix("code/")
    try:
        file.write_bytes(kept[1] + b"\n")
        with pytest.raises(ModelError, match=r"tampered with: expected digest"):
            challenge.answers(paths, "1", pd.DataFrame(), threads=1)
        digests = {**json.loads(kept[0]), key: sha256(file.read_bytes()).hexdigest()}
        manifest.write_text(json.dumps(digests))
        with pytest.raises(ModelError, match=r"manifest.json was tampered with"):
            challenge.answers(paths, "1", pd.DataFrame(), threads=1)
    finally:
        manifest.write_bytes(kept[0])
        file.write_bytes(kept[1])


def test_a_model_refuses_to_run_another_atlas(paths: Paths) -> None:
    """In a process whose atlas is not the packed one, loading fails instead of answering."""
    manifest = next((paths.mlflow_artifacts / "models").rglob("manifest.json"))
    content = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(content), "atlas/stats.py": "0" * 64}))
    try:
        with pytest.raises(ModelError, match="process of its own"):
            mlflow.pyfunc.load_model(f"models:/{tracking.MODEL}/1")
    finally:
        manifest.write_text(content)


def test_asking_without_a_champion_says_so(paths: Paths) -> None:
    """The missing alias is a clear error, before any process is started."""
    with pytest.raises(ModelError, match="no champion yet"):
        predict.predict(paths, CONFIG, "ANY", as_of=AS_OF)


def test_the_requirements_are_what_prediction_imports(paths: Paths) -> None:
    """Without torch, DVC and Airflow a process loads it, and its code imports no other library."""
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"torch", "dvc", "airflow", "great_expectations", "lightgbm"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import mlflow
mlflow.set_tracking_uri({paths.tracking_uri!r})
mlflow.set_registry_uri({paths.tracking_uri!r})
model = mlflow.pyfunc.load_model("models:/{tracking.MODEL}/1")
answers = model.predict(model.input_example.assign(market="tulips"))
print(answers["reason"].iloc[0])
print(*(m.__file__ for n, m in sys.modules.items() if n.startswith("atlas")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=paths.home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    reason, modules = done.stdout.splitlines()[-2:]
    assert "unknown market" in reason
    files = [Path(file) for file in modules.split()]
    assert all(file.is_relative_to(paths.mlflow_artifacts.resolve()) for file in files)
    imports = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
    named = {name for file in files for name in imports.findall(file.read_text())}
    libraries = {name.replace("_", "-") for name in named - set(sys.stdlib_module_names)}
    assert libraries - {"atlas"} <= set(packaging.REQUIREMENTS)


def test_a_changed_graph_is_not_loaded(paths: Paths) -> None:
    """The graphs that answer are vouched for as the weights are."""
    graph = next((paths.mlflow_artifacts / "models").rglob("chart.onnx"))
    content = graph.read_bytes()
    graph.write_bytes(content + b"\0")
    try:
        with pytest.raises(ModelError, match=r"chart.onnx: expected digest"):
            mlflow.pyfunc.load_model(f"models:/{tracking.MODEL}/1")
    finally:
        graph.write_bytes(content)
