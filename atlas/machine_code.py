"""Where Numba keeps the machine code of ATLAS's loops: by the source that they are made of.

By itself Numba keeps it beside each file and looks at that file alone (its notes on caching: a
change in another file is not recognized). A loop here calls loops of other files, so after a pull
an old formula would go on inside a new one. And every registered version, which brings its own copy
of atlas, would compile for half a minute what has long been compiled.

So the folder's name and the stamp are a digest of the module and of all of the package that it
imports, however far: equal code shares machine code wherever it lies, and other code never does.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

from numba.core import caching

__all__ = ["LOCATORS", "Beside", "Given", "UserWide", "contents", "imported"]

LOCATORS = ",".join(f"{__name__}.{name}" for name in ("Given", "UserWide", "Beside"))
_IMPORT = r"^\s*(?:from\s+({0}(?:\.\w+)*)\s+import\s+(\([^)]*\)|.*)|import\s+({0}(?:\.\w+)+))"


def imported(module: str) -> dict[str, str]:
    """Return the modules of its package that a module imports, directly or not, itself included.

    Args:
        module: its full name.

    Returns:
        Source by name, in order of names. Imports are looked for at the beginning of lines, so
        also in functions.
    """
    pattern = re.compile(_IMPORT.format(module.partition(".")[0]), re.MULTILINE)
    found, waiting = dict[str, str](), [module]
    while waiting:
        name = waiting.pop()
        text = None if name in found else _source(name)
        if text is not None:
            found[name] = text
            waiting += [one for match in pattern.findall(text) for one in _named(*match)]
    return dict(sorted(found.items()))


def _named(place: str, names: str, plain: str) -> list[str]:
    """Return the modules that an import statement names."""
    words = [word for word in re.findall(r"\w+", names) if word != "as"]
    modules = [f"{place}.{word}" for word in words if _source(f"{place}.{word}") is not None]
    if plain or len(modules) < len(words):  # some name is an object of `place` itself
        modules.append(plain or place)
    return modules


@cache
def _source(module: str) -> str | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # what stands before the last dot is no package
        return None
    source: Callable[[str], str | None] | None = getattr(
        spec.loader if spec else None, "get_source", None
    )
    return source(module) if source else None


@cache
def contents(module: str) -> str:
    """Return a digest of the source of a module and of all that it imports of its package."""
    return sha256(json.dumps(imported(module)).encode()).hexdigest()


class _ByContents:
    """What the places share; Numba makes one of them for each function."""

    def __init__(self, function: Any, file: str) -> None:
        self._contents = contents(function.__module__)
        super().__init__(function, file)  # type: ignore[call-arg] # Numba's, as the next base

    def get_suitable_cache_subpath(self, file: str) -> str:
        """Return the folder's name."""
        del file
        return f"atlas_{self._contents[:32]}"

    def get_source_stamp(self) -> str:
        """Return what the machine code was made of."""
        return self._contents


class Given(_ByContents, caching.UserProvidedCacheLocator):  # type: ignore[misc] # untyped
    """In the folder that NUMBA_CACHE_DIR names, if it names one."""


class UserWide(_ByContents, caching.UserWideCacheLocator):  # type: ignore[misc] # untyped
    """In the user's cache folder, `~/.cache/numba` on Linux."""


class Beside(_ByContents, caching.InTreeCacheLocator):  # type: ignore[misc] # untyped
    """Beside the file, where the user's cache folder cannot be written."""
