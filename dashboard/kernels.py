"""The kernels of a model, template against learned, and how much each expert listens to them.

- What is read is the champion's weights; where nobody is champion, or its files are elsewhere,
  those that the last night trained. Only the dictionary is opened, by its tensors' names.
- A kernel is shown as it is applied: where it lives, and free of what its bank takes out of it (its
  mean where it detects, a line where a pattern is read around one). So is its template.
- Drift is 1 − the cosine between the two: 0 has not moved, 1 has nothing left of its template.
- PyTorch is not imported: these are a few products of small arrays.
"""

from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from atlas.catalogue import CATALOGUE, CROSS_ASSET
from atlas.errors import AtlasError, DataError, HomeError
from atlas.kernels.registry import BLOCKS, Template, templates_of
from atlas.kernels.templates import detector
from dashboard.reading import rows_of, stored
from dashboard.registry import MODEL, read_registry
from dashboard.view import View
from pipelines.paths import Paths

__all__ = ["Group", "Kernel", "Portrait", "Source", "groups", "portrait", "source"]

WEIGHTS = "model.safetensors"
_MEMBER = "members.0."  # of an ensemble the first is shown
Floats = NDArray[np.float64]
Arrays = dict[str, Floats]


class Source(NamedTuple):
    """A file of weights and whose they are."""

    path: Path
    said: str


class Kernel(NamedTuple):
    """One kernel: its template and what training made of it, both (rows, columns).

    `scales` holds each expert's mean size of scale on it, by the experts that may use it.
    """

    name: str
    family: str
    drift: float
    template: Floats
    learned: Floats
    scales: dict[str, float]


class Group(NamedTuple):
    """An expert with the kernels that are its own; the shared ones have no expert's id."""

    expert: str
    kernels: tuple[Kernel, ...]


class Portrait(NamedTuple):
    """All kernels of a model, by whom they belong to."""

    source: Source
    groups: tuple[Group, ...]
    members: int


def portrait(view: View) -> Portrait:
    """Return the kernels of the home's model.

    Raises:
        AtlasError: there are no weights, or they are no mixture's.
    """
    found = source(view)
    return stored([found.path], found.said, lambda: _portrait(found))


def source(view: View) -> Source:
    """Return where the champion's weights lie, else those of the last night.

    Raises:
        HomeError: there are neither, or the registry cannot be read.
    """
    paths = view.paths
    variant = view.variant
    path = paths.model(variant) / WEIGHTS
    is_begun = _database(paths).is_file() or paths.mlflow_server.is_file()
    champion = None
    if is_begun or not path.is_file():  # a home whose night was not registered yet has neither
        champion = read_registry(paths).holder("champion")
    if champion is not None:
        kept = _kept(paths, champion.number)
        if kept is not None and kept.is_file():
            return Source(kept, f"version {champion.number}, the champion")
    if not path.is_file():
        raise HomeError(f"There are no weights of {variant} yet ({path}): run make nightly")
    why = "the champion's files are not here" if champion else "nobody is champion"
    return Source(path, f"the {variant} of the last night; {why}")


def groups(tensors: Arrays) -> tuple[Group, ...]:
    """Return every expert's own kernels, then those that all share.

    Args:
        tensors: a mixture's dictionary and its experts' rows, by their names in the file.

    Raises:
        DataError: a tensor is missing.
    """
    specs = [s for s in (*CATALOGUE, *CROSS_ASSET) if f"experts.{s.id}.head.bias" in tensors]
    if not specs:
        raise DataError("These weights are no mixture's: they name no expert of the catalogue")
    found = []
    for spec in specs:
        own = f"experts.{spec.id}.dictionary."
        prefix = own if f"{own}series.weight" in tensors else "trunk.dictionary."
        mine = tuple(k for k in _dictionary(tensors, prefix) if k.family in spec.kernels)
        found.append(Group(spec.id, mine))
    if "trunk.dictionary.series.weight" in tensors:
        everyone = _dictionary(tensors, "trunk.dictionary.")
        found.append(Group("", tuple(k for k in everyone if k.family in BLOCKS)))
    return tuple(found)


def _portrait(found: Source) -> Portrait:
    tensors: Arrays = {}
    try:
        with safe_open(found.path, framework="np") as file:
            names = list(file.keys())
            prefix = _MEMBER if any(name.startswith(_MEMBER) for name in names) else ""
            for name in names:
                inner = name.removeprefix(prefix)
                if name.startswith(prefix) and _is_wanted(inner):
                    tensors[inner] = np.asarray(file.get_tensor(name), np.float64)
    except (SafetensorError, OSError) as error:
        first = str(error).splitlines()[0][:160]
        raise DataError(f"{found.path} cannot be read ({first}): run the night again") from None
    members = len({name.split(".")[1] for name in names if name.startswith("members.")})
    return Portrait(found, groups(tensors), max(members, 1))


def _is_wanted(name: str) -> bool:
    return "dictionary." in name or (name.startswith("experts.") and "head.weight" not in name)


def _dictionary(tensors: Arrays, prefix: str) -> list[Kernel]:
    """Return all kernels of one dictionary, as its banks order them."""
    by_relation = ("none", "mean", "line")
    series = sorted(templates_of("series"), key=lambda row: by_relation.index(row.relative))
    found = []
    for place, response, templates, first in (
        ("series", "series", series, 0),
        ("chart", "chart", templates_of("chart", blocks=False), 0),
        ("surface.laplacian", "surface", templates_of("surface"), 0),
        ("surface.smile", "surface", templates_of("smile"), 1),
    ):
        bank = {n: tensors[f"{prefix}{place}.{n}"] for n in _tensors(tensors, f"{prefix}{place}.")}
        if not bank:
            continue
        many = {"series": len(series), "chart": len(templates), "surface": 2}[response]
        rows = _scales(tensors, response, many)
        for index, template in enumerate(templates):
            scales = {expert: float(row[first + index]) for expert, row in rows.items()}
            found.append(_kernel(template, bank, index, scales))
    return found


def _tensors(tensors: Arrays, prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]


def _kernel(template: Template, bank: Arrays, index: int, scales: dict[str, float]) -> Kernel:
    try:
        mask, constant = bank["mask"][index], bank["constant"][index]
        weight = bank["weight"][index] * mask
    except (KeyError, IndexError):
        raise DataError(
            f"The kernel {template.name} is not in these weights: another version of this code "
            "made them; run the night again"
        ) from None
    lives = np.ix_(*(np.flatnonzero(_any_but(mask > 0, axis)) for axis in range(mask.ndim)))
    shape = template.weights()
    if mask[lives].shape != shape.shape:
        raise DataError(f"The kernel {template.name} has another shape in these weights")
    before = np.zeros_like(weight)
    before[lives] = detector(shape) if template.detects else shape
    takes_out = [constant.reshape(mask.shape), *([bank["line"][index]] if "line" in bank else [])]
    before, after = (_projected(kernel, takes_out) for kernel in (before, weight))
    newest = bank["newest"][index] if "newest" in bank else 0.0
    drift = 1 - _cosine(before - newest, after - newest)
    start, end = (_flat(kernel[lives]) for kernel in (before, after))
    return Kernel(template.name, template.owner, drift, start, end, scales)


def _projected(kernel: Floats, directions: list[Floats]) -> Floats:
    """Return the kernel without its parts along unit (or zero) directions."""
    for one in directions:
        kernel = kernel - one * float((one * kernel).sum())
    return kernel


def _scales(tensors: Arrays, place: str, many: int) -> dict[str, Floats]:
    """Return each expert's size of scale on `many` kernels; both polarities' mean, if two."""
    end = f".scale.{place}"
    return {
        name.split(".")[1]: np.abs(row).reshape(-1, many).mean(axis=0)
        for name, row in tensors.items()
        if name.startswith("experts.") and name.endswith(end)
    }


def _flat(kernel: Floats) -> Floats:
    """Return a kernel as (rows, columns); slices of a third axis stand side by side."""
    if kernel.ndim == 1:
        return kernel[None]
    return kernel if kernel.ndim == 2 else np.concatenate(list(np.moveaxis(kernel, -1, 0)), axis=1)


def _any_but(mask: NDArray[np.bool_], axis: int) -> Any:
    return mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis))


def _cosine(a: Floats, b: Floats) -> float:
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def _database(paths: Paths) -> Path:
    return paths.var / "mlflow" / "mlflow.db"


def _kept(paths: Paths, number: int) -> Path | None:
    """Return where a registered version's weights lie, None if that is no place of this machine."""
    try:
        rows = rows_of(
            _database(paths),
            "select storage_location from model_versions where name = ? and version = ?",
            [MODEL, number],
        )
    except AtlasError:
        return None
    found = urlsplit(str(rows[0]["storage_location"] or "") if rows else "")
    if found.scheme not in ("", "file") or not found.path:
        return None
    return Path(unquote(found.path)) / "artifacts" / WEIGHTS
