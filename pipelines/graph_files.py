"""Make the ONNX graphs that a registered model answers with, and check them against the network."""

from pathlib import Path

import numpy as np
import onnxruntime
import safetensors.torch
import torch

from atlas.charts import CHART_SHAPE, SERIES_SHAPE, WINDOW
from atlas.config import ATLASConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.ensemble import build_trained
from atlas.errors import ModelError
from atlas.inputs import HAR, SKIP, SKIP_SURFACE, Inputs
from atlas.moe import Network
from atlas.onnx_export import ANSWERS, export, input_names
from atlas.surfaces import STRIKES, TENORS
from pipelines.files import read_json

__all__ = ["TOLERANCE", "graphs_of", "read", "windows"]

TOLERANCE = 1e-5
ROWS = 64


def read(folder: Path) -> dict[str, bytes]:
    """Return the graphs of the mixture whose config.json and weights lie in a folder.

    Raises:
        ModelError: it is no mixture, or a graph answers otherwise than the network.
    """
    card = read_json(folder / "config.json")
    config = ATLASConfig.parse(card["config"])
    order = card.get("model_markets", card["markets"])  # JSON sorts the keys of the configuration
    markets = {name: config.markets[name] for name in order}
    model = build_trained(config.model_copy(update={"markets": markets}), variant=card["variant"])
    if not model.expert_ids:
        raise ModelError(f"{folder}: expected a mixture of experts, got {card['variant']!r}")
    model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    return graphs_of(model.eval())


def graphs_of(model: Network) -> dict[str, bytes]:
    """Export a trained mixture, one graph a modality, each checked against the network.

    Raises:
        ModelError: a graph answers random windows otherwise than the network does.
    """
    graphs = {}
    for modality in model.modalities:
        inputs = windows(modality, len(model.markets))
        graphs[modality] = export(model, inputs, answering=True)
        _check(model, graphs[modality], inputs)
    return graphs


def windows(modality: str, markets: int, seed: int = 1) -> Inputs:
    """Draw inputs that look like windows of a modality, as tensors, every tenth number missing."""
    random = torch.Generator().manual_seed(seed)
    is_chart = modality == "chart"
    image = CHART_SHAPE if is_chart else (2, TENORS, STRIKES, WINDOW)
    skip = len(SKIP if is_chart else SKIP_SURFACE)
    fingerprint = torch.rand(ROWS, len(FINGERPRINT_COLUMNS), generator=random)
    fingerprint[torch.rand(fingerprint.shape, generator=random) < 0.1] = torch.nan
    return Inputs(
        modality,
        torch.rand(ROWS, *image, generator=random),
        torch.randn(ROWS, *SERIES_SHAPE, generator=random),
        fingerprint,
        torch.randn(ROWS, skip, generator=random),
        torch.randn(ROWS, len(HAR), generator=random) - 9,
        torch.zeros(ROWS, dtype=torch.int64),
        torch.randint(0, markets, (ROWS,), generator=random),
        torch.full((ROWS,), float(np.log(86_400.0))),
        torch.randn(ROWS, generator=random),
    )


def _check(model: Network, graph: bytes, inputs: Inputs) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feed = {name: getattr(inputs, name).numpy() for name in input_names(model)}
    found = dict(zip(ANSWERS, session.run(None, feed), strict=True))
    with torch.inference_mode():
        output = model(inputs)
        expected = {
            "log_rv": output.log_rv,
            "probability": model.probability(output, inputs.market),
            "gate_probs": output.routing.gate_probs,
        }
    for name, tensor in expected.items():
        gap = float(np.abs(found[name] - tensor.numpy()).max())
        if not gap <= TOLERANCE:
            raise ModelError(
                f"the {inputs.modality} graph: expected the network's {name} within {TOLERANCE:g}, "
                f"got {gap:.2g} off: the weights are not finite, or ONNX Runtime is broken here"
            )
