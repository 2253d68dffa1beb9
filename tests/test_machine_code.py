"""Compiled loops follow the files they were made of, wherever those lie."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atlas.machine_code import imported
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


def _answer(checkout: Path, kept: Path) -> tuple[int, bool]:
    """Return what the loop says in a new process, and whether it was compiled there."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={name: str(kept) for name in PLACES} | {"PYTHONPATH": str(checkout)},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    said, misses = done.stdout.split()
    return int(said), misses != "0"


def test_a_change_in_another_file_is_seen_and_equal_code_shares(
    checkout: Path, tmp_path: Path
) -> None:
    """Numba alone would go on with the old `twice`, and compile a second copy anew."""
    kept = tmp_path / "kept"
    assert _answer(checkout, kept) == (41, True)
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy)
    assert _answer(copy, kept) == (41, False)
    (checkout / "atlas" / "other.py").write_text(TWICE.replace("2 * x", "3 * x"))
    assert _answer(checkout, kept) == (61, True)
    assert _answer(copy, kept) == (41, False)


def test_beside_the_file_a_change_in_another_is_seen_too(checkout: Path) -> None:
    """Where the user's folders cannot be written, machine code stands in the package."""
    (checkout / "var").touch()
    nowhere = checkout / "var" / "kept"  # below a file, so that nothing can be made there
    for factor in (2, 3):
        (checkout / "atlas" / "other.py").write_text(TWICE.replace("2 * x", f"{factor} * x"))
        assert _answer(checkout, nowhere) == (20 * factor + 1, True)
    assert list((checkout / "atlas" / "__pycache__").glob("loops.one_more*.nbi"))


def test_imports_are_followed_through_the_package() -> None:
    """The formulas are part of the fingerprint's loops, the network is not."""
    names = set(imported("atlas.data_fingerprint"))
    parts = ("data_fingerprint", "passes", "formulas", "rolling", "nulls", "session_vol")
    assert names >= {f"atlas.{part}" for part in parts}
    assert not names & {"atlas", "atlas.moe", "atlas.config", "atlas.training"}
