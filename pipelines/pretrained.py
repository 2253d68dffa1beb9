"""Which pre-trained kernels a training starts from: `pretraining: none | latest | <id>` in params.

- An artifact is two files, artifacts/pretraining/<id>.safetensors and <id>.json, the card, which
  is written last and holds the digest of the first.
- What was chosen is written into the configuration that goes with the weights, by id.
- A training whose validation begins in a session that the kernels have already read is refused:
  they would have seen what it is judged on, though no label of it.
- Kernels are for trainings that begin cold; a warm one has its parent's.
"""

import base64
import binascii
import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from atlas.config import ATLASConfig
from atlas.errors import ConfigError, ModelError
from atlas.windows import MarketData
from pipelines.files import read_json, write_bytes, write_json
from pipelines.paths import Paths

__all__ = ["Kernels", "artifacts", "kernels_of", "packed", "resolved", "unpack"]

EPOCH = dt.date(1970, 1, 1)


class Kernels(NamedTuple):
    """Pre-trained kernels: their card, and weights by name in the trunk."""

    card: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def name(self) -> str:
        """What the stage's summary calls them."""
        return f"pretraining {self.card['id']}"

    def require_unseen(self, data: Mapping[str, MarketData]) -> None:
        """Make sure that no market is judged on sessions that these kernels have read.

        Raises:
            ConfigError: naming the market, both sessions and what to do.
        """
        for market, last in self.card["until"].items():
            own = data.get(market)
            judged = own.split.validation if own is not None else ()
            if own is None or not len(judged):
                continue
            first = EPOCH + dt.timedelta(int(own.panel.session[judged].min()))
            if first <= dt.date.fromisoformat(last):
                raise ConfigError(
                    f"pretraining: {self.card['id']} has read {market} up to {last}, and this "
                    f"training is judged from {first}: choose an older one, run "
                    "`python -m pipelines pretrain` for this night, or set pretraining: none"
                )


def artifacts(paths: Paths) -> dict[str, dict[str, Any]]:
    """Return the cards of the home's pre-trainings by id, oldest first."""
    found = [read_json(path) for path in sorted(paths.pretraining.glob("*.json"))]
    found.sort(key=lambda one: (one["as_of"], one["number"]))
    return {str(one["id"]): one for one in found}


def resolved(paths: Paths, config: ATLASConfig, as_of: pd.Timestamp) -> ATLASConfig:
    """Return the configuration with `pretraining` naming an artifact, or none.

    `latest` is the newest of a night no later than `as_of`.

    Raises:
        ConfigError: there is no such artifact.
    """
    if config.pretraining == "none":
        return config
    known, wanted = artifacts(paths), config.pretraining
    if wanted == "latest":
        night = str(as_of.date())
        wanted = next((i for i, one in reversed(known.items()) if one["as_of"] <= night), "")
    if wanted not in known:
        raise ConfigError(
            f"pretraining: {config.pretraining!r}: expected none, latest or one of "
            f"{', '.join(known) or '(nothing pre-trained yet)'} in {paths.pretraining}: "
            f"run `python -m pipelines pretrain --as-of {as_of.date()}` or set pretraining: none"
        )
    return config.model_copy(update={"pretraining": wanted})


def kernels_of(paths: Paths, config: ATLASConfig) -> Kernels | None:
    """Return the kernels that a resolved configuration names, None if it names none.

    Raises:
        ConfigError: they are of other markets' kinds or are not there.
        ModelError: the file was changed or cut short.
    """
    if config.pretraining == "none":
        return None
    card = artifacts(paths).get(config.pretraining)
    path = paths.pretrained(config.pretraining)
    if card is None or not path.is_file():
        raise ConfigError(
            f"pretraining: {config.pretraining!r}: expected {path} and its card, got neither or "
            "one: run `python -m pipelines pretrain` again, or set pretraining: none"
        )
    content = path.read_bytes()
    came = hashlib.sha256(content).hexdigest()
    if came != card["digest"]:
        raise ModelError(
            f"{path} was changed: expected digest {card['digest'][:12]}, got {came[:12]}: delete "
            "it and its card and run `python -m pipelines pretrain` again"
        )
    try:
        return Kernels(card, safetensors.torch.load(content))
    except SafetensorError as error:
        raise ModelError(f"{path}: is no safetensors file ({error}): delete it") from None


def packed(paths: Paths, chosen: str) -> dict[str, Any] | None:
    """Return an artifact as JSON-able values for a version's record, None if it is not there."""
    card, path = artifacts(paths).get(chosen), paths.pretrained(chosen)
    if card is None or not path.is_file():
        return None
    return {"card": card, "weights": base64.b64encode(path.read_bytes()).decode()}


def unpack(paths: Paths, known: Mapping[str, Any]) -> None:
    """Lay what `packed` returned into a home.

    Raises:
        ModelError: it is not what was packed.
    """
    card = known["card"]
    try:
        content = base64.b64decode(known["weights"], validate=True)
    except binascii.Error as error:
        raise ModelError(
            f"pre-training {card['id']}: its weights are unreadable: {error}"
        ) from None
    write_bytes(paths.pretrained(card["id"]), content)
    write_json(paths.pretraining / f"{card['id']}.json", card)
