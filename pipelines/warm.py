"""Where a training's first weights come from: drawn anew, or those of the champion.

- `training.start: warm` takes the weights of the version that held the office when the night
  began, as `pipelines.history` tells it. So a night that is run again starts from the same version,
  whoever was promoted since, and a past night never from weights that saw its test sessions.
- Only what gradient descent moves is taken. Standardization, base and calibration are fitted
  anew: they belong to this night's rows.
- A reproduction lays the version that its own started from into the home (`lay`); that one counts.
- Whatever does not fit (another variant, other experts or widths, changed files) is said in one
  line, and the training starts cold.
"""

import json
import logging
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from atlas.config import ATLASConfig
from atlas.ensemble import build_trained
from atlas.errors import ModelError
from atlas.moe import Network
from atlas.training_state import section
from pipelines.files import digest, read_json, write_bytes, write_json
from pipelines.paths import Paths

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["Parent", "begin", "lay", "parent_of"]

log = logging.getLogger(__name__)
_WEIGHTS, _CARD, _NUMBER = "model.safetensors", "config.json", "version.json"


class Parent(NamedTuple):
    """The version that a training starts from, and its weights by name."""

    version: str
    weights_digest: str
    weights: dict[str, Tensor]

    @property
    def name(self) -> str:
        """What the stage's summary calls it."""
        return f"version {self.version}"

    @property
    def card(self) -> dict[str, str]:
        """What the stage's key and the registered version say of it."""
        return {"version": self.version, "weights": self.weights_digest}


def parent_of(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str
) -> Parent | None:
    """Return the version to start from, or None for a cold start; say which, and why.

    Args:
        paths: the home.
        config: of the training, tuned settings put in.
        as_of: the night.
        variant: to be trained.
    """
    if config.training.start == "cold":
        return None
    try:
        found = _found(paths, config, as_of, variant)
    except ModelError as error:
        log.warning("%s starts cold: %s", variant, error)
        return None
    log.info("%s starts warm, from version %s", variant, found.version)
    return found


def begin(model: Network, parent: Parent, member: int, members: int) -> None:
    """Put a parent's trained weights into a network whose shapes `parent_of` has compared.

    Args:
        model: to be trained.
        parent: from `parent_of`.
        member: place of the network in its ensemble, 0-based.
        members: how many it has.
    """
    own = parent.weights if members == 1 else section(parent.weights, f"members.{member}")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(own[name])


def lay(paths: Paths, version: str, files: Path) -> None:
    """Hand a home the version that its trainings start from, whoever its registry names.

    Args:
        paths: the home.
        version: its number.
        files: the folder of its model.safetensors and config.json.
    """
    for name in (_WEIGHTS, _CARD):
        write_bytes(paths.parent / name, (files / name).read_bytes())
    write_json(paths.parent / _NUMBER, {"version": version})


def _found(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, variant: str) -> Parent:
    if (paths.parent / _NUMBER).is_file():
        number = str(read_json(paths.parent / _NUMBER)["version"])
        return _read(config, variant, number, paths.parent, digest(paths.parent / _WEIGHTS))
    version = _in_office(paths, as_of)
    tags, number = version.tags, f"version {version.version}"
    if tags["variant"] != variant:
        raise ModelError(f"{number}, the champion, is a {tags['variant']}")
    from pipelines import packaging, tracking  # MLflow: seconds that a cold start need not wait

    folder = tracking.files_of(paths, version)
    packaging.check(folder, tags[tracking.MANIFEST])
    return _read(config, variant, str(version.version), folder / "artifacts", tags["weights"])


def _read(
    config: ATLASConfig, variant: str, version: str, files: Path, weights_digest: str
) -> Parent:
    weights = safetensors.torch.load((files / _WEIGHTS).read_bytes())
    card = json.loads((files / _CARD).read_text(encoding="utf-8"))
    _compare(config, variant, weights, card, f"version {version}")
    return Parent(version, weights_digest, weights)


def _in_office(paths: Paths, as_of: pd.Timestamp) -> "ModelVersion":
    """Return who held the office before the night, and is of a night before it."""
    if not (paths.var / "mlflow" / "mlflow.db").is_file():
        raise ModelError("this home has no champion yet")
    from pipelines import history, tracking

    night, known = str(as_of.date()), history.champions(paths)
    before = takewhile(lambda change: change["as_of"] is None or change["as_of"] < night, known)
    numbers = [change["version"] for change in before if change["version"] is not None]
    for number in reversed(numbers):
        version = tracking.resolve(paths, str(number))
        if version.tags["as_of"] < night:
            return version
    raise ModelError(f"no champion of this home is of an earlier night than {night}")


def _compare(
    config: ATLASConfig,
    variant: str,
    weights: Mapping[str, Tensor],
    card: Mapping[str, Any],
    number: str,
) -> None:
    """Raise, naming what differs, unless the weights are of the network to be trained."""
    before, now = card["config"]["moe"], config.moe.model_dump(mode="json")
    for key in ("enabled", "experts", "bank"):
        if before.get(key) != now[key]:
            raise ModelError(f"{number} has moe.{key} {before.get(key)}, params ask for {now[key]}")
    with torch.random.fork_rng(devices=[]):
        model = build_trained(config, variant=variant)
    wanted = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    for name, shape in wanted.items():
        came = tuple(weights[name].shape) if name in weights else "none"
        if came != shape:
            raise ModelError(f"{number} does not fit: {name}: expected {shape}, got {came}")
