"""The examples in docstrings say what the functions return."""

import doctest
import importlib
from pathlib import Path

import pytest

import atlas

_ROOT = Path(atlas.__file__).parent
_SHOWN = sorted(
    ".".join(("atlas", *path.relative_to(_ROOT).with_suffix("").parts))
    for path in _ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", _SHOWN)
def test_examples_hold(name: str) -> None:
    """Each module that shows one; a module whose examples vanish is no longer asked."""
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
