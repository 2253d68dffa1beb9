"""MLflow behind one door: one experiment, runs of nights, versions, aliases.

Every test works on a real SQLite registry of its own.
"""

import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from atlas.errors import ModelError
from pipelines import tracking
from pipelines.paths import Paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    home = Paths(tmp_path_factory.mktemp("home"))
    tracking.open_registry(home)
    return home


def version(paths: Paths, key: str = "k") -> str:
    """Register a version without a model, which is all that aliases need."""
    client = tracking.open_registry(paths)
    made = client.create_model_version(
        tracking.MODEL, source=paths.mlflow_artifacts.as_uri(), tags={"key": key}
    )
    return str(made.version)


def test_opening_twice_makes_one_experiment_with_an_absolute_location(paths: Paths) -> None:
    """The second opening finds the first one's experiment, whose files lie in the home."""
    first = tracking.open_registry(paths).get_experiment_by_name(tracking.EXPERIMENT)
    second = tracking.open_registry(paths).get_experiment_by_name(tracking.EXPERIMENT)
    assert first is not None
    assert second is not None
    assert first.experiment_id == second.experiment_id
    assert first.artifact_location == paths.mlflow_artifacts.as_uri()


def test_a_fresh_registry_has_no_champion_and_says_so(tmp_path: Path) -> None:
    """The missing alias tells the user to run a night; the question alone is None."""
    fresh = Paths(tmp_path)
    assert tracking.champion(fresh) is None
    with pytest.raises(ModelError, match="no champion yet"):
        tracking.resolve(fresh)
    with pytest.raises(ModelError, match="no version 7"):
        tracking.resolve(fresh, "7")
    with pytest.raises(ModelError, match="champoin: expected a version's number or an alias"):
        tracking.resolve(fresh, "champoin")


def test_a_run_carries_its_tags_and_nothing_of_the_machine(paths: Paths) -> None:
    """The tags are the ones given; MLflow's tags of user, host and script are not added."""
    client = tracking.open_registry(paths)
    with tracking.night_run(client, "night", "key-1", {"as_of": "2026-11-20"}) as run:
        client.log_metric(run.info.run_id, "x", 1.0)
    found = client.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.tags == {
        "as_of": "2026-11-20",
        "key": "key-1",
        "mlflow.runName": "night",
    }


def test_a_run_that_raises_is_failed_and_one_left_open_is_marked_killed(paths: Paths) -> None:
    """A killed attempt leaves its run open; the next attempt at the same key closes it."""
    client = tracking.open_registry(paths)
    with (
        pytest.raises(RuntimeError, match="broken"),
        tracking.night_run(client, "a", "key-2", {}) as failed,
    ):
        raise RuntimeError("broken")
    assert client.get_run(failed.info.run_id).info.status == "FAILED"
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    left = client.create_run(experiment.experiment_id, tags={"key": "key-2"})
    with tracking.night_run(client, "b", "key-2", {}):
        pass
    assert client.get_run(left.info.run_id).info.status == "KILLED"


def test_a_version_is_found_by_its_key(paths: Paths) -> None:
    """The newest version with the key is found, and None for a key without one."""
    client: MlflowClient = tracking.open_registry(paths)
    version(paths, "abc")
    newest = version(paths, "abc")
    found = tracking.version_of(client, "abc")
    assert found is not None
    assert str(found.version) == newest
    assert tracking.version_of(client, "abd") is None


def test_a_swap_keeps_the_previous_champion_and_refuses_a_stale_expectation(
    tmp_path: Path,
) -> None:
    """Of two promotions that judged the same champion, the second does nothing."""
    home = Paths(tmp_path)
    client = tracking.open_registry(home)
    one, two, three = (version(home) for _ in range(3))
    assert tracking.swap(home, one, expected=None)
    assert tracking.swap(home, two, expected=one)
    assert not tracking.swap(home, three, expected=one)
    aliases = client.get_registered_model(tracking.MODEL).aliases
    assert {name: str(number) for name, number in aliases.items()} == {
        "champion": two,
        "previous": one,
    }


def test_the_revision_ignores_what_a_night_writes(tmp_path: Path) -> None:
    """Changed data.dvc and dvc.lock do not make a checkout dirty; any other change does."""
    assert tracking.revision(tmp_path) == ("unknown", False)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("data.dvc", "code.py"):
        (tmp_path / name).write_text("1")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    (tmp_path / "data.dvc").write_text("2")
    (tmp_path / "dvc.lock").write_text("new")
    commit, dirty = tracking.revision(tmp_path)
    assert len(commit) == 40
    assert not dirty
    (tmp_path / "code.py").write_text("2")
    assert tracking.revision(tmp_path).dirty


def test_the_data_version_is_read_from_data_dvc(tmp_path: Path) -> None:
    """The md5 of the folder is the data version; without a record it is `none`."""
    home = Paths(tmp_path)
    assert tracking.data_version(home) == "none"
    home.data_dvc.write_text("outs:\n- md5: 0123abcd.dir\n  size: 1\n  path: data\n")
    assert tracking.data_version(home) == "0123abcd.dir"
    home.data_dvc.write_text("outs: []\n")
    with pytest.raises(ModelError, match="no md5"):
        tracking.data_version(home)
