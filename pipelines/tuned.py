"""Which tuned settings a training uses: `tuning: none | latest | <id>` in params.

A tuned setting is an artifact, artifacts/tuning/<id>.json; it replaces fields of `training:`. What
was chosen is written into the configuration that goes with the weights, by id, never as `latest`.
"""

from typing import Any

from pydantic import ValidationError

from atlas.config import ATLASConfig, TrainingConfig
from atlas.errors import ConfigError
from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["artifacts", "resolved"]


def artifacts(paths: Paths) -> dict[str, dict[str, Any]]:
    """Return the home's tuned settings by id, oldest first."""
    found = [read_json(path) for path in sorted(paths.tuning.glob("*.json"))]
    found.sort(key=lambda one: (one["as_of"], one["number"]))
    return {str(one["id"]): one for one in found}


def resolved(paths: Paths, config: ATLASConfig) -> ATLASConfig:
    """Return the configuration with its tuned settings put in and `tuning` naming them.

    Raises:
        ConfigError: there is no such artifact, or its settings are not those of a training.
    """
    if config.tuning == "none":
        return config
    known = artifacts(paths)
    wanted = next(reversed(known), None) if config.tuning == "latest" else config.tuning
    if wanted is None or wanted not in known:
        raise ConfigError(
            f"tuning: {config.tuning!r}: expected none, latest or one of "
            f"{', '.join(known) or '(nothing tuned yet)'} in {paths.tuning}: "
            "run `python -m pipelines tune` or set tuning: none"
        )
    fields = {**config.training.model_dump(mode="json"), **known[wanted]["settings"]}
    try:
        training = TrainingConfig.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"{paths.tuning / wanted}.json: settings: {error}") from None
    return config.model_copy(update={"training": training, "tuning": wanted})
