"""A copied home stands on its own files, and its original on its own."""

import shutil
from pathlib import Path

import pytest

from pipelines import challenge, prune, register, tracking
from pipelines.paths import Paths
from tests.registered import AS_OF, registered, tiny_config


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    home = tmp_path_factory.mktemp("moved") / "original"
    shutil.copytree(registered().home, home)
    paths = Paths(home)
    tracking.open_registry(paths)
    return paths


def _files(paths: Paths) -> set[str]:
    return {str(path) for path in paths.home.rglob("*") if path.is_file()}


def test_a_copied_home_names_its_own_files(original: Paths, tmp_path: Path) -> None:
    """Registering and pruning in a copy touch the copy alone."""
    copy = Paths(tmp_path / "copy")
    shutil.copytree(original.home, copy.home)
    before = _files(original)
    held = tracking.resolve(copy, "1")
    assert tracking.files_of(copy, held).is_relative_to(copy.home)
    challenge.check(copy, "1")
    config = tiny_config()
    promotion = config.promotion.model_copy(update={"resamples": 201})
    register.run(copy, config.model_copy(update={"promotion": promotion}), as_of=AS_OF)
    assert tracking.files_of(copy, tracking.resolve(copy, "2")).is_relative_to(copy.home)
    copy.data_dvc.unlink()  # of a listing that this small home never had
    client = tracking.open_registry(copy)
    client.set_model_version_tag(tracking.MODEL, "2", "data_dvc", "")
    freed = prune.run(copy, keep=1)
    assert freed.versions == ["1"]
    assert all(folder.is_relative_to(copy.home) for folder in freed.folders)
    assert _files(original) == before
    challenge.check(original, "1")


def test_a_moved_home_is_found_again(original: Paths, tmp_path: Path) -> None:
    """Where nothing is left at the old place, the version's files are those of the new one."""
    moved = Paths(tmp_path / "moved")
    shutil.copytree(original.home, tmp_path / "between")
    shutil.move(tmp_path / "between", moved.home)
    challenge.check(moved, "1")
    assert tracking.files_of(moved, tracking.resolve(moved, "1")).is_relative_to(moved.home)


def test_a_registry_without_its_files_is_left_as_it_is(original: Paths, tmp_path: Path) -> None:
    """A copied database alone goes on naming the files that there are."""
    alone = Paths(tmp_path / "alone")
    (alone.var / "mlflow").mkdir(parents=True)
    shutil.copy(original.var / "mlflow" / "mlflow.db", alone.var / "mlflow" / "mlflow.db")
    named = tracking.files_of(alone, tracking.resolve(alone, "1"))
    assert named.is_relative_to(original.home)
