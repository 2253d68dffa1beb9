"""What a night leaves in the registry: one run, one version, and nothing twice."""

import json
from hashlib import sha256
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from atlas.config import ATLASConfig
from atlas.errors import ModelError
from pipelines import environment, register, reproduce, tracking
from pipelines.files import read_json, write_parquet
from pipelines.paths import Paths
from tests.registered import AS_OF, copy_home, registered, tiny_config


@pytest.fixture(scope="module")
def config() -> ATLASConfig:
    return tiny_config()


@pytest.fixture(scope="module")
def paths() -> Paths:
    return registered()


@pytest.fixture
def summary(paths: Paths) -> dict[str, object]:
    """What the first registration of the night left."""
    found: dict[str, object] = read_json(register.registration(paths))
    return found


def test_the_candidate_is_the_best_on_validation(paths: Paths, config: ATLASConfig) -> None:
    """Of the two mixtures the one with the lower validation log-loss is registered."""
    client = tracking.open_registry(paths)
    losses = register.validation_losses(paths, config)
    version = client.get_model_version(tracking.MODEL, "1")
    assert set(losses) == {"moe_rule", "moe_mlp"}
    assert version.tags["variant"] == min(losses, key=lambda name: losses[name])


@pytest.mark.parametrize(
    ("moe", "expected"),
    [
        ({"gate": "mlp"}, ("moe_rule", "moe_mlp")),
        ({"gate": "rule"}, ("moe_rule",)),
        ({"enabled": False}, ("moe_rule",)),
    ],
)
def test_the_configured_gate_says_who_may_be_champion(
    moe: dict[str, object], expected: tuple[str, ...], config: ATLASConfig
) -> None:
    """With the rule alone, the learned gate is a yardstick of the table."""
    chosen = config.model_copy(update={"moe": config.moe.model_copy(update=moe)})
    assert register.candidates(chosen) == expected


def test_test_rows_do_not_choose_the_candidate(tmp_path: Path, config: ATLASConfig) -> None:
    """Making the loser right on every test row does not make it the candidate."""
    home = copy_home(tmp_path / "home")
    losses = register.validation_losses(home, config)
    loser = max(losses, key=lambda name: losses[name])
    path = home.model(loser) / "predictions.parquet"
    rows = pd.read_parquet(path)
    tests = rows["split"] == "test"
    rows.loc[tests, "probability"] = rows.loc[tests, "y"].clip(0.01, 0.99)
    write_parquet(path, rows)
    assert register.validation_losses(home, config) == losses


def test_the_same_night_registers_nothing_twice_and_says_so(
    paths: Paths, config: ATLASConfig
) -> None:
    """A second run with the same key finds the version, adds no run and gives the reason."""
    client = tracking.open_registry(paths)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    again = register.run(paths, config, as_of=AS_OF)
    assert not again["registered"]
    assert again["candidate_version"] == "1"
    assert "nothing to register" in again["reason"]
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert len(client.search_model_versions(f"name = '{tracking.MODEL}'")) == 1


def test_a_version_says_what_it_was_made_of(paths: Paths) -> None:
    """Night, data with data.dvc's text, parameters, commit, weights and test cut are its tags."""
    tags = tracking.open_registry(paths).get_model_version(tracking.MODEL, "1").tags
    assert tags["as_of"] == "2026-11-20"
    assert tags["data_version"] == "0123abcd.dir"
    assert tags["data_dvc"] == paths.data_dvc.read_text()
    assert tags["source"] == "simulated"
    assert {"params", "code", "git_commit", "git_dirty", "weights", "key"} <= set(tags)
    assert '"equity_daily"' in tags["first_test"]


def test_a_version_carries_the_digest_of_its_manifest(paths: Paths) -> None:
    """The database, not the folder, says which manifest is the registered one."""
    version = tracking.resolve(paths, "1")
    manifest = tracking.files_of(paths, version) / "artifacts" / "manifest.json"
    digests = json.loads(manifest.read_bytes())
    assert version.tags[tracking.MANIFEST] == sha256(manifest.read_bytes()).hexdigest()
    assert {"model.safetensors", "config.json", "model.py", "atlas/serving.py"} <= set(digests)


def test_the_run_holds_the_table_the_figure_and_the_metrics(
    paths: Paths, summary: dict[str, object]
) -> None:
    """The table can be loaded as MLflow's own; a missing figure of it is no metric."""
    client = tracking.open_registry(paths)
    run = client.get_run(str(summary["run_id"]))
    table = mlflow.load_table("benchmark.json", run_ids=[run.info.run_id])
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert run.info.status == "FINISHED"
    assert len(table) == 3
    wanted = {"accuracy.html", "table.txt", "data.dvc", "requirements.lock", "model_card.md"}
    assert wanted <= files
    assert run.data.metrics["accuracy/moe_rule/equity_daily"] == 0.6
    assert "lift/moe_rule/options_skew" not in run.data.metrics
    assert run.data.params["training.seed"] == "1"


def test_the_card_tells_data_results_use_and_limits(paths: Paths) -> None:
    """The version's description is the card; it holds the figures of its own variant."""
    version = tracking.resolve(paths, "1")
    text = str(version.description)
    assert "Data version 0123abcd.dir" in text
    assert "## Intended use" in text
    assert "## Limits" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    shown = 4 if version.tags["variant"] == "moe_rule" else 1  # the table here knows one variant
    assert len(rows) == shown


def test_the_model_holds_no_pickle_and_only_what_prediction_needs(paths: Paths) -> None:
    """Weights are safetensors, code is source, and no orchestration is among the requirements."""
    model = next((paths.mlflow_artifacts / "models").iterdir()) / "artifacts"
    suffixes = {path.suffix for path in model.rglob("*") if "__pycache__" not in path.parts}
    requirements = (model / "requirements.txt").read_text()
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
    assert (model / "artifacts" / "model.safetensors").is_file()
    assert (model / "code" / "atlas" / "serving.py").is_file()
    assert (model / "artifacts" / "chart.onnx").is_file()
    for absent in ("airflow", "dvc", "great", "lightgbm", "lightning", "torch"):
        assert absent not in requirements
    assert "onnxruntime==" in requirements
    assert "+cpu" not in requirements


def test_a_killed_registration_is_begun_anew(tmp_path: Path, config: ATLASConfig) -> None:
    """A run that led to no version is marked killed; the night registers once all the same."""
    home = copy_home(tmp_path / "home")
    client = tracking.open_registry(home)
    key = register.night_key(home, config, AS_OF)
    with tracking.night_run(client, "killed before its version", key, {}) as left:
        pass
    first = register.run(home, config, as_of=AS_OF)
    assert first["registered"]
    assert first["key"] == key
    assert client.get_run(left.info.run_id).info.status == "KILLED"


def test_a_version_carries_what_reproducing_it_takes(paths: Paths, config: ATLASConfig) -> None:
    """Parameters in their order, the environment, and the digest of every file it stands on."""
    version = tracking.resolve(paths, "1")
    uri = mlflow.get_run(str(version.run_id)).info.artifact_uri
    text = mlflow.artifacts.load_text(f"{uri}/{reproduce.RECORD}")
    found = json.loads(text)
    assert sha256(text.encode()).hexdigest() == version.tags[tracking.REPRODUCTION]
    assert list(found["params"]["markets"]) == list(config.markets)
    assert found["environment"]["threads"] == config.training.threads
    assert "library torch" in found["environment"]
    weights = f"models/{version.tags['variant']}/model.safetensors"
    assert found["digests"][weights] == version.tags["weights"]
    assert {f"fingerprints/{name}.parquet" for name in config.markets} <= set(found["digests"])
    assert "validation_log_loss" in found["metrics"]


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        ("git_commit", "0" * 40, "commit 0+ is unknown to this repository"),
        (tracking.REPRODUCTION, "0" * 64, "reproduction.json of version 1 was changed"),
        ("code", "0" * 64, "changes that were never committed"),
    ],
)
def test_what_cannot_be_reproduced_says_why(
    paths: Paths, tmp_path: Path, tag: str, value: str, message: str
) -> None:
    """An unknown commit, a changed record and uncommitted code end before anything is trained."""
    client = tracking.open_registry(paths)
    known = tracking.resolve(paths, "1").tags[tag]
    if tag == "code" and tracking.revision().commit == "unknown":
        pytest.skip("not a git checkout")
    client.set_model_version_tag(tracking.MODEL, "1", tag, value)
    try:
        with pytest.raises(ModelError, match=message):
            reproduce.run(paths, "1", work=tmp_path / "work")
    finally:
        client.set_model_version_tag(tracking.MODEL, "1", tag, known)


def test_a_candidate_of_older_code_is_refused_by_name(tmp_path: Path, config: ATLASConfig) -> None:
    """Its card lacks settings that this ATLAS keys a version by: train again."""
    home = copy_home(tmp_path / "home")
    for variant in ("moe_rule", "moe_mlp"):
        card = home.model(variant) / "config.json"
        content = json.loads(card.read_text())
        del content["config"]["pretraining"]
        card.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="did not know pretraining: run `python -m pipelines tr"):
        register.run(home, config, as_of=AS_OF)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"parent_version": "9", "parent_weights": "0" * 64}, "of version 9, which cannot be had"),
        ({"parent_version": "1", "parent_weights": "0" * 64}, "that version now has"),
    ],
)
def test_a_parent_that_is_gone_or_changed_is_named(
    paths: Paths, tmp_path: Path, tags: dict[str, str], message: str
) -> None:
    """A warm start cannot be trained again without the very weights that it began from."""
    held = tracking.resolve(paths, "1")
    held.tags.update(tags)
    with pytest.raises(ModelError, match=message):
        reproduce._lay_parent(paths, Paths(tmp_path), held)


def test_differences_of_environments_are_named() -> None:
    """A library, the thread count and what one processor has more than the other."""
    now = environment.recorded(1)
    then = {**now, "threads": 4, "library torch": "0.1", "processor features": "AVX512F"}
    lines = environment.differences(then, now)
    assert environment.differences(now, now) == []
    assert any(line.startswith("library torch: 0.1 when it was trained") for line in lines)
    assert "threads: 4 when it was trained, 1 here" in lines
    assert any(line.startswith("processor features: ") for line in lines)


def test_an_untrained_candidate_is_named(tmp_path: Path, config: ATLASConfig) -> None:
    """Registering before training says which file is missing and what to run."""
    with pytest.raises(ModelError, match="pipelines train"):
        register.run(Paths(tmp_path), config, as_of=AS_OF)
