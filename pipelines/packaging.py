"""Pack a trained variant as an MLflow model that needs nothing but itself to predict.

- "Models from code": pipelines/model.py is copied in and run at load time, beside the atlas/ that
  the weights were trained with. Weights are safetensors, what answers are ONNX graphs made of them
  (`pipelines.graph_files`); there is no pickle.
- manifest.json holds the digests of weights, graphs, configuration and code; model.py checks them
  at load.
  It lies beside the files it vouches for, so the version is tagged with the manifest's own digest,
  and `check` compares all of them before any code of the model runs.
- The requirements are what prediction imports, at the versions that trained it, and no more: no
  torch, no Airflow, no DVC, no Great Expectations.
"""

import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from atlas.bars import OPTIONAL, PRICES
from atlas.errors import ModelError
from atlas.long_frame import SUMS
from pipelines import graph_files
from pipelines.files import digest
from pipelines.paths import PROJECT, Paths
from pipelines.tracking import MODEL

__all__ = [
    "FILES",
    "REQUIREMENTS",
    "card",
    "check",
    "example",
    "graphs",
    "log",
    "manifest",
    "signature",
]

FILES = ("model.safetensors", "config.json")
LOADER = "model.py"
REQUIREMENTS = (  # the distributions that `import atlas.serving` and a prediction load
    "exchange-calendars",
    "mlflow",
    "numba",
    "numpy",
    "onnxruntime",
    "pandas",
    "pydantic",
    "pyyaml",
    "scipy",
)


def graphs(paths: Paths, variant: str) -> dict[str, bytes]:
    """Return the ONNX graphs of a trained variant, by modality.

    Raises:
        ModelError: a file of the trained variant is missing, or is no mixture's.
    """
    _present(paths, variant)
    return graph_files.read(paths.model(variant))


def manifest(paths: Paths, variant: str, made: Mapping[str, bytes]) -> bytes:
    """Return manifest.json: the digest of every file that a prediction of the variant reads.

    Args:
        made: what `graphs` returned.

    Raises:
        ModelError: a file of the trained variant is missing.
    """
    _present(paths, variant)
    folder = paths.model(variant)
    code = sorted((PROJECT / "atlas").rglob("*.py"))
    digests = {
        **{name: digest(folder / name) for name in FILES},
        **{f"{kind}.onnx": hashlib.sha256(graph).hexdigest() for kind, graph in made.items()},
        **{str(path.relative_to(PROJECT)): digest(path) for path in code},
        LOADER: digest(PROJECT / "pipelines" / LOADER),
    }
    return json.dumps(digests, indent=2, sort_keys=True).encode()


def log(
    paths: Paths,
    variant: str,
    experts: Sequence[str],
    tags: Mapping[str, str],
    vouched: bytes,
    made: Mapping[str, bytes],
) -> Any:
    """Log the variant's files as a model of the active run; return MLflow's description of it.

    Args:
        vouched: what `manifest` returned.
        made: what `graphs` returned.
    """
    folder = paths.model(variant)
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / "manifest.json"
        written.write_bytes(vouched)
        for kind, graph in made.items():
            (Path(scratch) / f"{kind}.onnx").write_bytes(graph)
        return mlflow.pyfunc.log_model(
            name=MODEL,
            python_model=str(PROJECT / "pipelines" / LOADER),
            code_paths=[str(PROJECT / "atlas")],
            artifacts={
                "weights": str(folder / FILES[0]),
                "config": str(folder / FILES[1]),
                "manifest": str(written),
                **{kind: str(Path(scratch) / f"{kind}.onnx") for kind in made},
            },
            signature=signature(experts),
            input_example=example(),
            pip_requirements=requirements(),
            metadata=dict(tags),
        )


def check(folder: Path, wanted: str) -> None:
    """Compare a logged model's manifest with its tag, and its files with the manifest.

    Args:
        folder: the model's files.
        wanted: SHA-256 of the manifest, in hex, from the version's tag.

    Raises:
        ModelError: a file is missing or is not the one that was registered.
    """
    vouching = folder / "artifacts" / "manifest.json"
    _same(vouching, wanted)
    for name, known in json.loads(vouching.read_bytes()).items():
        place = "code" if name.startswith("atlas/") else "" if name == LOADER else "artifacts"
        _same(folder / place / name, known)


def _present(paths: Paths, variant: str) -> None:
    folder = paths.model(variant)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder}: expected {', '.join(FILES)}; {', '.join(missing)} is missing: run "
            f"`python -m pipelines train --variant {variant}` first"
        )


def _same(path: Path, wanted: str) -> None:
    came = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if came != wanted:
        raise ModelError(
            f"{path} was tampered with: expected digest {wanted}, got {came}: restore the file "
            "that was registered or promote another version"
        )


def signature(experts: Sequence[str]) -> ModelSignature:
    """Return what goes in, what may be asked, and what comes out.

    Time stamps may carry a zone, prices and volume may be whole numbers, names may be categories,
    and session_sums may be absent for some symbols. MLflow's types refuse all of these, so the
    schema names the columns and the library's own check reads them.
    """
    numbers = [*PRICES, *OPTIONAL, "tenor", "delta", "iv"]
    free = AnyType()  # type: ignore[no-untyped-call]
    inputs: list[ColSpec | TensorSpec] = [
        *(ColSpec(free, name) for name in ("market", "symbol", "timestamp")),
        *(ColSpec(free, name, required=False) for name in ("volume", SUMS, *numbers)),
    ]
    params = [
        ParamSpec("every_bar", DataType.boolean, default=False),
        ParamSpec("since", DataType.string, default=""),
        ParamSpec("now", DataType.string, default=""),
    ]
    outputs: list[ColSpec | TensorSpec] = [
        *(ColSpec(DataType.string, name) for name in ("market", "symbol")),
        *(ColSpec(DataType.datetime, name) for name in ("timestamp", "as_of")),
        *(ColSpec(DataType.string, name) for name in ("kind", "expert_ids", "reason")),
        *(ColSpec(DataType.string, name) for name in ("model_version",)),
        ColSpec(DataType.long, "horizon"),
        *(ColSpec(DataType.double, name) for name in ("probability", "volatility", "data_age_s")),
        *(ColSpec(DataType.double, f"gate_{name}") for name in experts),
        ColSpec(DataType.boolean, "abstain"),
    ]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))


def example() -> pd.DataFrame:
    """Return a frame to copy: two days of one stock, in the form that `predict` takes."""
    days = pd.date_range("2026-11-18", periods=2, freq="D")
    close = np.array([101.0, 102.0])
    return pd.DataFrame(
        {
            "market": "equity_daily",
            "symbol": "EXAMPLE",
            "timestamp": days,
            "open": close - 0.5,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": 1e6,
        }
    )


def requirements() -> list[str]:
    """Return the pinned requirements of prediction."""
    # a local version label, as in torch's +cpu, names a build that no index may have
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in REQUIREMENTS}
    return [f"{name}=={version}" for name, version in versions.items()]


def card(tags: Mapping[str, str], losses: Mapping[str, float], table: pd.DataFrame) -> str:
    """Return the model card, as Markdown.

    Args:
        tags: of the version.
        losses: each candidate's log-loss on validation.
        table: the night's benchmark table, a row for each market and model.
    """
    chosen = ", ".join(f"{name} {loss:.5f}" for name, loss in sorted(losses.items()))
    return f"""\
**{tags["variant"]}**, trained on the night of {tags["as_of"]} (source: {tags["source"]}).

- Data version {tags["data_version"]}; commit {tags["git_commit"]}, dirty: {tags["git_dirty"]}.
- Validation log-loss, mean over markets: {chosen}.
- Input: one long frame, `market, symbol, timestamp` and the columns of bars or of surfaces; the
  last 320 bars of a symbol are enough, with the 30 sessions before as bars or as session_sums.
- Output: a calibrated probability that the target rises, volatility, gate weights, and `abstain`
  with its reason where nothing should be said.

## On sessions that it has not seen

{_results(tags["variant"], table)}

## Intended use

Research on the markets it was trained on, one answer a bar. Not advice, and no part of an order
system: the accuracy above is before any cost.

## Limits

- It knows its own markets alone and abstains elsewhere; a symbol it never saw is answered.
- It abstains on fewer than 64 good bars, a bad bar among them, prices that did not move, more than
  five missing sessions, and an unknown vol30; it says so where hurst is unknown (below 256 bars).
- It abstains where more than the market's `stale_sessions` have passed after the last bar, counted
  to the clock or to the moment given as `now`.
- Where the accuracy is within chance of the base rate, so is the probability.
"""


def _results(variant: str, table: pd.DataFrame) -> str:
    """Return the variant's rows of the table beside the base rate's, as Markdown."""
    lines = ["| market | n | base rate | accuracy | log-loss |", "|---|---|---|---|---|"]
    for row in table[table["model"] == variant].to_dict("records"):
        cells = [_cell(row.get(name)) for name in ("base_rate", "accuracy", "log_loss")]
        lines.append(f"| {row['market']} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{float(value):.4f}"
