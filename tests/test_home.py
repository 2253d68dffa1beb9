"""A home has one source and one night at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atlas.errors import HomeError
from pipelines.__main__ import app
from pipelines.home import Binding, bind, binding, night_lock
from pipelines.paths import PROJECT, Paths

HOLDER = """
import sys, time
from pathlib import Path
from pipelines.home import night_lock
from pipelines.paths import Paths
with night_lock(Paths(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def test_first_use_binds_and_the_same_is_fine(tmp_path: Path) -> None:
    """The first source is written down; asking for it again changes nothing."""
    paths = Paths(tmp_path / "home")
    assert binding(paths) is None
    assert bind(paths, "files", tmp_path / "a") == Binding("files", tmp_path / "a")
    assert bind(paths, "files", tmp_path / "b" / ".." / "a") == binding(paths)


def test_another_source_is_refused_by_name(tmp_path: Path) -> None:
    """Another source, or another archive, is refused, naming both."""
    paths = Paths(tmp_path)
    bind(paths, "files", tmp_path / "a")
    with pytest.raises(HomeError, match="bound to the source 'files', not 'simulated'"):
        bind(paths, "simulated", None)
    with pytest.raises(HomeError, match=r"bound to the folder \S+/a, not \S+/b"):
        bind(paths, "files", tmp_path / "b")
    assert binding(paths) == Binding("files", tmp_path / "a")


@pytest.mark.parametrize("text", ["", "{}", "[]", "{not json"])
def test_a_broken_binding_is_named(tmp_path: Path, text: str) -> None:
    """A binding that cannot be read is an error that names the file, not a fresh start."""
    paths = Paths(tmp_path)
    paths.var.mkdir()
    paths.binding.write_text(text)
    with pytest.raises(HomeError, match=r"home.json: expected the keys source and folder"):
        binding(paths)


def test_second_night_is_told_who_holds_the_home(tmp_path: Path) -> None:
    """While a night runs another is refused with its process id; after a kill the home is free."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(HomeError, match=f"already running \\(process {holder.pid}\\)"),
            night_lock(Paths(tmp_path)),
        ):
            pass
        holder.kill()
    with night_lock(Paths(tmp_path)):
        assert (tmp_path / "var" / "night.lock.pid").read_text() == f"{os.getpid()}\n"
    with night_lock(Paths(tmp_path)):
        pass


@pytest.mark.parametrize(
    "words",
    [
        ("champions",),
        ("explain", "last"),
        ("rollback",),
        ("report",),
        ("predict", "EQD000"),
        ("prune", "--keep", "3"),
        ("reproduce", "--version", "1"),
    ],
)
def test_a_home_that_is_none_is_refused_and_not_made(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """A slip in --home ends in one error, and no registry in a new folder."""
    done = CliRunner().invoke(app, [*words, "--home", str(tmp_path / "slip")])
    assert isinstance(done.exception, HomeError)
    assert "expected a home in which a night has begun" in str(done.exception)
    assert not any(tmp_path.iterdir())
