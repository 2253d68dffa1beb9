"""What pruning frees, and above all what it never does."""

import hashlib
import json

import pytest

from atlas.errors import ConfigError, ModelError
from pipelines import history, prune, tracking
from pipelines.files import write_bytes
from pipelines.paths import Paths

DVC = "[core]\n    no_scm = True\n    remote = local\n['remote \"local\"']\n    url = ../remote\n"


def put(paths: Paths, content: bytes, suffix: str = "") -> str:
    """Lay an object into cache and remote; return its name."""
    name = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    for store in (paths.home / ".dvc" / "cache", paths.home / "remote"):
        write_bytes(store / "files" / "md5" / name[:2] / name[2:], content)
    return name


def snapshot(paths: Paths, *files: str) -> str:
    """Lay down a data version of these files; return the text of its data.dvc."""
    listing = [{"md5": put(paths, text.encode()), "relpath": text} for text in files]
    name = put(paths, json.dumps(listing).encode(), ".dir")
    return f"outs:\n- md5: {name}\n  path: data\n"


def register(paths: Paths, data_dvc: str, parent: str = "none") -> str:
    """Register a version with a model folder of its own, begun from a parent's weights."""
    client = tracking.open_registry(paths)
    number = len(client.search_model_versions(f"name = '{tracking.MODEL}'")) + 1
    folder = paths.mlflow_artifacts / "models" / f"m-{number}" / "artifacts"
    write_bytes(folder / "MLmodel", f"{number}".encode())
    tags = {"data_dvc": data_dvc, "parent_version": parent}
    made = client.create_model_version(tracking.MODEL, source=folder.as_uri(), tags=tags)
    return str(made.version)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Eight versions: 4 is champion, took over from 2, which took over from 1; 5 challenges.

    The newest began from the weights of 7, and that from those of 3.
    """
    home = Paths(tmp_path_factory.mktemp("pruned"))
    write_bytes(home.home / ".dvc" / "config", DVC.encode())
    texts = [snapshot(home, "shared", f"bars {number}") for number in range(1, 9)]
    home.data_dvc.write_text(snapshot(home, "shared", "of tonight"))
    parents = {7: "3", 8: "7"}
    for number, text in enumerate(texts, start=1):
        register(home, text, parents.get(number, "none"))
    for new, old in (("1", None), ("2", "1"), ("4", "2")):
        assert tracking.swap(home, new, old)
        history.note(home, new, old, how="promoted", as_of="2026-11-20", reason="proven")
    tracking.stand(home, "5")
    write_bytes(home.mlflow_artifacts / "models" / "m-of-a-killed-night" / "weights", b"x")
    return home


def test_what_an_office_needs_stays_whatever_the_number(paths: Paths) -> None:
    """Champion, challenger and all that rollbacks can reach are kept beside the newest.

    So is the version that the newest began from, but not that one's own parent.
    """
    found = prune.plan(paths, 1)
    assert set(found.kept) == {"1", "2", "4", "5", "7", "8"}
    assert found.kept["7"] == "version 8 began from its weights"
    assert found.kept["4"] == "champion"
    assert found.kept["5"] == "challenger"
    assert found.kept["2"] == "previous"
    assert "rollback" in found.kept["1"]
    assert found.versions == ["3", "6"]
    assert [folder.name for folder in found.folders] == ["m-3", "m-6", "m-of-a-killed-night"]


def test_data_go_that_only_freed_versions_stood_on(paths: Paths) -> None:
    """Their own bars and listings go from cache and remote; shared and tonight's objects stay."""
    gone = {path.parent.name + path.name for path in prune.plan(paths, 1).objects}
    own = {hashlib.md5(f"bars {n}".encode(), usedforsecurity=False).hexdigest() for n in (3, 6)}
    assert {name for name in gone if not name.endswith(".dir")} == own
    assert sum(name.endswith(".dir") for name in gone) == 2
    assert len(prune.plan(paths, 1).objects) == 2 * len(gone)


def test_what_a_night_s_stages_read_needs_no_listing(paths: Paths) -> None:
    """A night's dvc.lock names code and folders within data/, which DVC hashes and never keeps.

    What the stages wrote stays, and what they read is no reason to free nothing.
    """
    before, made = prune.plan(paths, 1), put(paths, b"fingerprints")
    lock = paths.home / "dvc.lock"
    lock.write_text(
        "schema: '2.0'\nstages:\n  fingerprint@equity_daily:\n    cmd: python\n    deps:\n"
        f"    - path: pipelines\n      hash: md5\n      md5: {'0' * 32}.dir\n    outs:\n"
        f"    - path: artifacts/fingerprints\n      hash: md5\n      md5: {made}\n"
    )
    try:
        found = prune.plan(paths, 1)
    finally:
        lock.unlink()
    assert found == before
    freed = [path for path in prune.plan(paths, 1).objects if path not in before.objects]
    assert {path.parent.name + path.name for path in freed} == {made}  # no stage is left to need it
    for path in freed:
        path.unlink()


def test_an_unreadable_listing_frees_nothing(paths: Paths) -> None:
    """Without the listing of a kept version's data nobody knows what it needs: an error."""
    name = paths.data_dvc.read_text().split("md5: ")[1].split()[0]
    stores = [paths.home / ".dvc" / "cache", paths.home / "remote"]
    files = [store / "files" / "md5" / name[:2] / name[2:] for store in stores]
    content = files[0].read_bytes()
    for file in files:
        file.unlink()
    try:
        with pytest.raises(ModelError, match="nothing was freed"):
            prune.run(paths, 1)
    finally:
        for file in files:
            file.write_bytes(content)
    assert len(prune.plan(paths, 1).versions) == 2


def test_keeping_none_is_refused(paths: Paths) -> None:
    """The newest version is what the next night compares with."""
    with pytest.raises(ConfigError, match="--keep 0: expected at least 1"):
        prune.plan(paths, 0)


def test_pruning_frees_what_was_planned_and_rollback_goes_on(paths: Paths) -> None:
    """Freed versions are unknown, kept ones whole, nothing is left to free; then back twice."""
    planned = prune.plan(paths, 1)
    assert planned.freed_bytes > 0
    assert prune.run(paths, 1).versions == planned.versions
    assert not any(path.exists() for path in (*planned.folders, *planned.objects))
    with pytest.raises(ModelError, match="no version 3"):
        tracking.resolve(paths, "3")
    for number in planned.kept:
        folder = tracking.files_of(paths, tracking.resolve(paths, number))
        assert (folder / "MLmodel").read_text() == number
    again = prune.plan(paths, 1)
    assert (again.versions, again.folders, again.objects) == ([], [], [])
    assert [history.rollback(paths)["champion_version"] for _ in range(2)] == ["2", "1"]
