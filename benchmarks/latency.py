"""What a mixture costs over one network: the very weights and the very CNN of the table.

- Both run as ONNX graphs and eagerly, on one thread, interleaved with an identical second CNN: its
  ratio to the first, `control_over_cnn`, is what the machine alone makes of a ratio. Seconds are a
  processor's.
- `moe` has the gate inside; `routed` reads the gate's weights from the fingerprint row, where a
  gate can write them once a bar. `discrete` is a peer: whole networks per expert, each of which
  answers the windows whose top two it is in.
- Weights are those of the home's last night where there is one, fresh ones elsewhere: time does not
  depend on their values.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import safetensors.torch
import torch
import yaml

from atlas.charts import CHART_SHAPE, WINDOW
from atlas.config import ATLASConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.gate import dense_weights
from atlas.inputs import HAR, SKIP, Inputs
from atlas.moe import Network, build_model
from atlas.onnx_export import WEIGHTS, export, input_names
from benchmarks.forms import taken
from benchmarks.harness import Ratio, Report, Timing, interleave, ratio, timing

__all__ = ["feed", "load_network", "operators", "run", "session_of", "windows"]

BATCHES = (1, 32, 256)
ROUNDS = 150  # each of `REPEATS` calls, so that a round is long against the clock
REPEATS = {1: 20, 32: 2, 256: 1}
EAGER_SHARE = 5  # eager is slower and steadier: a fifth of the rounds
TARGETS = {"moe": 1.08, "routed": 1.05}
PROJECT = Path(__file__).parent.parent

Feed = dict[str, npt.NDArray[np.generic]]
Work = Callable[[], object]


def run(seed: int) -> Report:
    """Measure at batches of 1, 32 and 256 windows of random walks."""
    torch.set_num_threads(1)
    results: list[Timing] = []
    ratios: list[Ratio] = []
    networks = {name: load_network(name) for name in ("cnn", "moe_mlp", "moe_rule")}
    for rows in BATCHES:
        inputs = windows(rows, seed)
        for runtime, works in (
            ("onnx", _onnx(networks, inputs)),
            ("eager", _eager(networks, inputs)),
        ):
            rounds = ROUNDS if runtime == "onnx" else ROUNDS // EAGER_SHARE
            repeats = REPEATS[rows]
            repeated = {k: _repeated(w, repeats) for k, w in works.items()}
            seconds = interleave(repeated, rounds, time.process_time)
            micros = {k: [1e6 * s / repeats for s in v] for k, v in seconds.items()}
            prefix = "" if runtime == "onnx" else "eager_"
            for name, values in micros.items():
                results.append(timing(f"{prefix}{name}_b{rows}", "us/batch", values))
                if name != "cnn":
                    target = TARGETS.get(name) if runtime == "onnx" else None
                    label = f"{prefix}{name}_over_cnn_b{rows}"
                    ratios.append(ratio(label, values, micros["cnn"], target))
            added = np.subtract(micros["moe"], micros["cnn"]).tolist()
            results.append(timing(f"{prefix}moe_added_b{rows}", "us/batch", added))
    for label, network, routed in (
        ("cnn", networks["cnn"], False),
        ("moe", networks["moe_mlp"], False),
        ("routed", networks["moe_mlp"], True),
    ):
        results.append(timing(f"{label}_operators", "operators", [operators(network, routed)]))
    return Report(results, ratios)


def operators(network: Network, routed: bool) -> int:
    """Return how many operators ONNX Runtime starts for a batch, its own foldings done."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # that the folded graph is of this machine is known
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        graph = export(network, windows(2, 0), routed=routed)
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return len(onnx.load(options.optimized_model_filepath).graph.node)


def load_network(variant: str) -> Network:
    """Return a variant with the weights of the project's last night, or fresh ones."""
    home = Path(os.environ.get("ATLAS_HOME", PROJECT))
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    torch.manual_seed(1)
    network = build_model(ATLASConfig.parse(params), variant=variant)
    weights = home / "artifacts" / "models" / variant / "model.safetensors"
    if weights.is_file():
        network.load_state_dict(safetensors.torch.load(weights.read_bytes()))
    return network.eval()


def windows(rows: int, seed: int) -> Inputs:
    """Return a batch of random charts as tensors."""
    random = torch.Generator().manual_seed(seed)
    series = torch.randn(rows, 5, WINDOW, generator=random).cumsum(2) / 8**0.5
    return Inputs(
        "chart",
        torch.rand(rows, *CHART_SHAPE, generator=random),
        series - series[:, :, -1:],
        torch.rand(rows, len(FINGERPRINT_COLUMNS), generator=random),
        torch.randn(rows, len(SKIP), generator=random),
        torch.randn(rows, len(HAR), generator=random) - 9,
        torch.zeros(rows, dtype=torch.long),
        torch.arange(rows) % 5,
        torch.full((rows,), 11.4),
        torch.randn(rows, generator=random),
    )


def session_of(network: Network, *, routed: bool = False) -> onnxruntime.InferenceSession:
    """Return a one-thread session of a network's charts."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = export(network, windows(2, 0), routed=routed)
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _onnx(networks: dict[str, Network], inputs: Inputs) -> dict[str, Work]:
    cnn, moe = networks["cnn"], networks["moe_mlp"]
    with torch.inference_mode():
        weights = dense_weights(moe(inputs).routing)
    works: dict[str, Work] = {
        "cnn": _call(session_of(cnn), feed(cnn, inputs)),
        "control": _call(session_of(cnn), feed(cnn, inputs)),
        "moe": _call(session_of(moe), feed(moe, inputs)),
        "rule": _call(session_of(networks["moe_rule"]), feed(networks["moe_rule"], inputs)),
        "routed": _call(
            session_of(moe, routed=True),
            feed(moe, inputs, routed=True) | {WEIGHTS: weights.numpy()},
        ),
    }
    parts = [
        _call(session_of(cnn), feed(cnn, taken(inputs, weights[:, column] > 0)))
        for column in range(weights.shape[1])
        if (weights[:, column] > 0).any()
    ]
    works["discrete"] = lambda: [part() for part in parts]
    return works


def _eager(networks: dict[str, Network], inputs: Inputs) -> dict[str, Work]:
    cnn, moe = networks["cnn"], networks["moe_mlp"]
    return {
        "cnn": _inferred(cnn, inputs),
        "control": _inferred(cnn, inputs),
        "moe": _inferred(moe, inputs),
    }


def feed(network: Network, inputs: Inputs, *, routed: bool = False) -> Feed:
    """Return what a session of the network asks for, the gate's weights left out."""
    names = input_names(network, routed=routed)
    return {name: getattr(inputs, name).numpy() for name in names if name != WEIGHTS}


def _call(session: onnxruntime.InferenceSession, feed: Feed) -> Work:
    return lambda: session.run(None, feed)


def _inferred(network: Network, inputs: Inputs) -> Work:
    def work() -> object:
        with torch.inference_mode():
            return network(inputs)

    return work


def _repeated(work: Work, times: int) -> Work:
    return lambda: [work() for _ in range(times)]
