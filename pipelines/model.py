"""The registered model's code: MLflow copies this file into the model and runs it at load time.

It reads files, checks their digests and hands the frame to `atlas.serving`, taken from the atlas/
that was packed beside the weights. What answers are the ONNX graphs, so torch is not needed; the
weights that they were made from are packed beside them and checked too. A process that already runs
another atlas would silently answer with that one's formulas, so it is refused.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

import atlas
from atlas.config import ATLASConfig
from atlas.errors import DataError, ModelError
from atlas.graphs import Graphs
from atlas.serving import Served, forecast

__all__ = ["AtlasModel"]

MODALITIES = ("chart", "surface")  # names of the artifacts that are graphs


class AtlasModel(PythonModel):
    """ATLAS behind MLflow's `predict`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read graphs and configuration, refusing files or code that are not the manifest's."""
        manifest = Path(context.artifacts["manifest"])
        digests = json.loads(manifest.read_text(encoding="utf-8"))
        _check_code(Path(str(atlas.__file__)).parent.parent, digests)
        _checked(Path(context.artifacts["weights"]), digests)
        card = json.loads(_checked(Path(context.artifacts["config"]), digests))
        config = _ordered(ATLASConfig.parse(card["config"]), card)
        if not card["variant"].startswith("moe_"):
            raise ModelError(f"expected a mixture of experts to serve, got {card['variant']!r}")
        found = {name: Path(file) for name, file in context.artifacts.items() if name in MODALITIES}
        read = {name: _checked(path, digests) for name, path in found.items()}
        experts = tuple(config.moe.experts) if config.moe.enabled else ("equity_daily",)
        graphs = Graphs(read, experts, tuple(config.markets))
        version = _version(manifest.parent.parent, digests["model.safetensors"])
        self.served = Served.of(graphs, config, card["markets"], version)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer a long frame; see `atlas.serving.forecast` for what goes in and comes out.

        Args:
            context: unused.
            model_input: the frame.
            params: every_bar, since and now, the last two as ISO times, empty for the default.
        """
        del context
        given = params or {}
        return forecast(
            self.served,
            model_input,
            every_bar=bool(given.get("every_bar")),
            since=_time(given.get("since")),
            now=_time(given.get("now")),
        )


def _ordered(config: ATLASConfig, card: dict[str, Any]) -> ATLASConfig:
    """Put the markets in the order of the network's rows, which JSON with sorted keys loses."""
    names = card.get("model_markets", card["markets"])
    if set(names) != set(config.markets):
        raise ModelError(
            f"config.json: expected model_markets to name {sorted(config.markets)} in the order of "
            f"the network; got {names}"
        )
    return config.model_copy(update={"markets": {name: config.markets[name] for name in names}})


def _checked(path: Path, digests: dict[str, str]) -> bytes:
    content = path.read_bytes()
    came = hashlib.sha256(content).hexdigest()
    wanted = digests.get(path.name, "none")
    if came != wanted:
        raise ModelError(
            f"{path}: expected digest {wanted}, got {came}: the file is not the one that was "
            "registered; restore it or promote another version"
        )
    return content


def _check_code(running: Path, digests: dict[str, str]) -> None:
    for name, wanted in digests.items():
        path = running / name
        if not name.startswith("atlas/"):
            continue
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise ModelError(
                f"{path} is not the file that the model was packed with: load the model in a "
                "process of its own, before any other atlas is imported"
            )


def _version(folder: Path, weights: str) -> str:
    """Return the registered version that was asked for, else the digest of the weights."""
    meta = folder / "registered_model_meta"  # MLflow writes it when a version is fetched
    if meta.is_file():
        return str(yaml.safe_load(meta.read_text(encoding="utf-8"))["model_version"])
    return f"sha256:{weights[:12]}"


def _time(text: str | None) -> pd.Timestamp | None:
    if not text:
        return None
    try:
        time = pd.Timestamp(text)
    except ValueError as error:
        raise DataError(f"expected an ISO time such as 2026-11-20T14:30Z, got {text!r}") from error
    return time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")


set_model(AtlasModel())
