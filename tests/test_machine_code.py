"""Compiled loops follow the files they were made of, wherever those lie."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba import config

from atlas.machine_code import imported_sources, source_digest
from atlas.rolling import compiled
from pipelines.paths import PROJECT

TWICE = "from atlas.rolling import compiled\n\n@compiled\ndef twice(x):\n    return 2 * x\n"
CALLS = """from atlas import other
from atlas.rolling import compiled

@compiled
def one_more(x):
    return other.twice(x) + 1
"""
PLACES = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
ASK = "from atlas.loops import one_more as f; print(f(20), sum(f.stats.cache_misses.values()))"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a package `atlas`: the compiler's two files, and a loop that calls another."""
    package = tmp_path / "checkout" / "atlas"
    package.mkdir(parents=True)
    for name in ("rolling.py", "machine_code.py"):
        shutil.copy(PROJECT / "atlas" / name, package)
    texts = {"__init__.py": "", "other.py": TWICE, "loops.py": CALLS}
    for name, text in texts.items():
        (package / name).write_text(text)
    return package.parent


def _answer(checkout: Path, **environment: str) -> tuple[int, bool]:
    """Return what the loop says in a new process, and whether it was compiled there."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={"PYTHONPATH": str(checkout), **environment},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    said, misses = done.stdout.split()
    return int(said), misses != "0"


@pytest.mark.parametrize("variable", PLACES)
def test_a_change_in_another_file_is_seen_and_equal_code_shares(
    checkout: Path, tmp_path: Path, variable: str
) -> None:
    """Numba alone would go on with the old `twice`, and compile a second copy anew."""
    kept = {variable: str(tmp_path / "kept")}
    assert _answer(checkout, **kept) == (41, True)
    assert list((tmp_path / "kept").rglob("atlas_*/loops.one_more*.nbi"))
    assert not list((checkout / "atlas").rglob("*.nbi"))
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy)
    assert _answer(copy, **kept) == (41, False)
    (checkout / "atlas" / "other.py").write_text(TWICE.replace("2 * x", "3 * x"))
    assert _answer(checkout, **kept) == (61, True)
    assert _answer(copy, **kept) == (41, False)


def test_beside_the_file_a_change_in_another_is_seen_too(checkout: Path) -> None:
    """Where the user's folders cannot be written, machine code stands in the package."""
    (checkout / "var").touch()
    nowhere = dict.fromkeys(PLACES, str(checkout / "var" / "kept"))  # below a file: never made
    for factor in (2, 3):
        (checkout / "atlas" / "other.py").write_text(TWICE.replace("2 * x", f"{factor} * x"))
        assert _answer(checkout, **nowhere) == (20 * factor + 1, True)
    assert list((checkout / "atlas" / "__pycache__").glob("loops.one_more*.nbi"))


def test_numba_s_own_setting_is_left_alone_and_wins(checkout: Path, tmp_path: Path) -> None:
    """Loops of other libraries keep their places; whoever sets the variable has it so."""
    given = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CACHE_LOCATOR_CLASSES": "InTreeCacheLocator"}
    assert _answer(checkout, **given) == (41, True)
    assert list((checkout / "atlas" / "__pycache__").glob("loops.one_more*.nbi"))
    before = config.CACHE_LOCATOR_CLASSES
    compiled(lambda x: x)
    assert before == config.CACHE_LOCATOR_CLASSES


@pytest.mark.parametrize(
    "line",
    [
        "import package.one",
        "import os, package.one as other",
        "from package import one",
        "from package import (  # two)\n    nothing,\n    one,\n)",
        "from package.one import *",
        "from package.one import name",
        "from . import one",
        "from .one import name",
        "x = 1; from package import one",
        "def late():\n    from package.one import name",
    ],
)
def test_every_way_to_import_counts_and_nothing_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """A module that would raise is found all the same."""
    name = f"package_{abs(hash((line, tmp_path)))}"  # found modules are remembered by name
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("nothing = 0\n")
    (folder / "one.py").write_text("raise RuntimeError\n")
    (folder / "loops.py").write_text(line.replace("package", name))
    monkeypatch.syspath_prepend(tmp_path)
    assert {f"{name}.loops", f"{name}.one"} <= set(imported_sources(f"{name}.loops"))
    assert name not in sys.modules


def test_what_has_no_source_has_no_digest() -> None:
    """Its loops are kept where Numba keeps them."""
    assert source_digest("__main__") == source_digest("no_such_module.at_all") == ""


def test_imports_are_followed_through_the_package() -> None:
    """The formulas are part of the fingerprint's loops, the network is not."""
    names = set(imported_sources("atlas.data_fingerprint"))
    parts = ("data_fingerprint", "passes", "formulas", "rolling", "nulls", "session_vol")
    assert names >= {f"atlas.{part}" for part in parts}
    assert not names & {"atlas", "atlas.moe", "atlas.config", "atlas.training"}
