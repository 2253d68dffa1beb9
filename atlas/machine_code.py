"""Where Numba keeps the machine code of ATLAS's loops: by the source that they are made of.

By itself Numba keeps it beside each file and looks at that file alone (its notes on caching: a
change in another file is not recognized). A loop here calls loops of other files, so after a pull
an old formula would go on inside a new one. And every registered version, which brings its own copy
of atlas, would compile for half a minute what has long been compiled.

So the folder's name and the stamp are a digest of the module, of all of the package that it
imports, however far, and of the libraries whose numbers and rules are frozen into a loop. Equal
code in equal surroundings shares machine code wherever it lies, and other code does not. Source is
read when a loop is defined: a process that goes on while its files change had better not.
"""

import ast
import json
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from numba.core import caching

__all__ = ["LOCATORS", "Beside", "Given", "UserWide", "imported_sources", "source_digest"]

_OWN = ("Given", "UserWide", "Beside")
_OF_NUMBA = (  # for what has no source to look at: a notebook, a script, a frozen program
    "UserProvidedCacheLocator",
    "InTreeCacheLocator",
    "UserWideCacheLocator",
    "IPythonCacheLocator",
    "ZipCacheLocator",
)
LOCATORS = ",".join((*(f"{__name__}.{name}" for name in _OWN), *_OF_NUMBA))
_FROZEN = ("numpy", "scipy", "llvmlite")  # Numba looks after itself and the processor


def imported_sources(module: str) -> dict[str, str]:
    """Return the modules that a module imports of its package and of atlas, directly or not.

    Nothing is imported for it. Imports inside functions count.

    Args:
        module: its full name.

    Returns:
        Source by name, in order of names, the module itself included; empty if it has none.
    """
    roots = {module.partition(".")[0], __name__.partition(".")[0]}
    found, waiting = dict[str, str](), [module]
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in roots:
            continue
        text = _source(name)
        if text is not None:
            found[name] = text
            waiting += _imports(text, name)
    return dict(sorted(found.items()))


@cache
def source_digest(module: str) -> str:
    """Return a digest of what a module's loops are made of; empty if it has no source."""
    sources = imported_sources(module)
    if not sources:
        return ""
    about = {"sources": sources, "versions": {name: _version(name) for name in _FROZEN}}
    return sha256(json.dumps(about).encode()).hexdigest()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # no loop of a process without it can use it
        return ""


def _imports(text: str, module: str) -> Iterator[str]:
    """Yield all names that may be modules among what a source imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")[: -node.level] if node.level else []
            place = ".".join([*parts, *([node.module] if node.module else [])])
            names = [f"{place}.{name.name}" for name in node.names]
            yield from names
            if not all(_source(name) for name in names):  # one is an object of `place` itself
                yield place


@cache
def _source(module: str) -> str | None:
    spec = _spec(module)
    read = getattr(spec.loader, "get_source", None) if spec else None
    try:
        return read(module) if read else None
    except ImportError:
        return None


def _spec(module: str) -> ModuleSpec | None:
    """Find a module without importing it or any package that it lies in."""
    root, *inside = module.split(".")
    spec = getattr(sys.modules.get(root), "__spec__", None) or PathFinder.find_spec(root)
    for part in inside:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


class _BySource:
    """What the places share; Numba makes one of them for each function."""

    def __init__(self, function: Any, file: str) -> None:
        self._digest = source_digest(function.__module__)
        super().__init__(function, file)  # type: ignore[call-arg] # Numba's, as the next base

    @classmethod
    def from_function(cls, function: Any, file: str) -> Self | None:
        """Return a place for a function, or None if it is to be looked for elsewhere."""
        if not source_digest(function.__module__):
            return None
        made: Self | None = super().from_function(function, file)  # type: ignore[misc]
        return made

    def get_suitable_cache_subpath(self, file: str) -> str:
        """Return the folder's name."""
        del file
        return f"atlas_{self._digest[:32]}"

    def get_source_stamp(self) -> str:
        """Return what the machine code was made of."""
        return self._digest


class Given(_BySource, caching.UserProvidedCacheLocator):  # type: ignore[misc] # untyped
    """In the folder that NUMBA_CACHE_DIR names, if it names one."""


class UserWide(_BySource, caching.UserWideCacheLocator):  # type: ignore[misc] # untyped
    """In the user's cache folder, `~/.cache/numba` on Linux."""


class Beside(_BySource, caching.InTreeCacheLocator):  # type: ignore[misc] # untyped
    """Beside the file, where the user's cache folder cannot be written."""
