"""What a mixture costs over one network: the very weights and the very CNN of the table.

- Both run as ONNX graphs and eagerly, on one thread, interleaved with an identical second CNN: its
  ratio to the first, `control_over_cnn`, is what the machine alone makes of a ratio. Seconds are a
  processor's. Where a session's memory happens to lie moves its time by some percent, for as long
  as it lives: so all are opened anew, in another order, after every few rounds.
- `moe` has the gate inside; `routed` reads the gate's weights from the fingerprint row, where a
  gate can write them once a bar. `discrete` is a peer: whole networks per expert, each of which
  answers the windows whose top two it is in. The other peers are what else was tried for the rows
  of experts (`benchmarks.row_forms`), with how far their answers are from the eager network's.
- Weights are those of the home's last night where there is one, fresh ones elsewhere, moved a
  little at random, so that no answer is trivial: time does not depend on their values.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from atlas.moe import AtlasMoE, Network, build_model
from atlas.onnx_export import WEIGHTS, export, input_names
from benchmarks.forms import taken
from benchmarks.harness import Ratio, Report, Seconds, Timing, interleave, ratio, timing
from benchmarks.row_forms import (
    AsTrained,
    FusedGate,
    RowMoE,
    StridedMoE,
    described,
    folded,
    of_one_bar,
)

__all__ = ["distances", "feed", "load_network", "operators", "run", "session_of", "windows"]

BATCHES = (1, 32, 256)
OPENINGS = 15  # of all sessions, each followed by its share of the rounds
ROUNDS = 10  # after an opening, each of `REPEATS` calls, so that a round is long against the clock
EAGER_ROUNDS = 30
REPEATS = {1: 20, 32: 2, 256: 1}
TARGETS = {"moe": 1.08, "routed": 1.05}
PROJECT = Path(__file__).parent.parent

Feed = dict[str, npt.NDArray[np.generic]]
Work = Callable[[], object]
Graph = tuple[bytes, Feed]


def run(seed: int) -> Report:
    """Measure at batches of 1, 32 and 256 windows of random walks."""
    torch.set_num_threads(1)
    results: list[Timing] = []
    ratios: list[Ratio] = []
    networks = {name: load_network(name) for name in ("cnn", "moe_mlp", "moe_rule")}
    for rows in BATCHES:
        inputs = windows(rows, seed)
        seconds = _onnx(networks, inputs, REPEATS[rows], seed)
        _report(results, ratios, seconds, rows, "")
        works = {name: _repeated(w, REPEATS[rows]) for name, w in _eager(networks, inputs).items()}
        seconds = interleave(works, EAGER_ROUNDS, time.process_time)
        _report(results, ratios, seconds, rows, "eager_")
    results += distances(networks["moe_mlp"], windows(32, seed))
    for label, network, routed in (
        ("cnn", networks["cnn"], False),
        ("moe", networks["moe_mlp"], False),
        ("routed", networks["moe_mlp"], True),
    ):
        results.append(timing(f"{label}_operators", "operators", [operators(network, routed)]))
    return Report(results, ratios)


def _report(
    results: list[Timing], ratios: list[Ratio], seconds: Seconds, rows: int, prefix: str
) -> None:
    """Add what one batch size and runtime took."""
    micros = {k: [1e6 * s / REPEATS[rows] for s in v] for k, v in seconds.items()}
    for name, values in micros.items():
        results.append(timing(f"{prefix}{name}_b{rows}", "us/batch", values))
        if name != "cnn":
            target = None if prefix else TARGETS.get(name)
            ratios.append(ratio(f"{prefix}{name}_over_cnn_b{rows}", values, micros["cnn"], target))
    added = np.subtract(micros["moe"], micros["cnn"]).tolist()
    results.append(timing(f"{prefix}moe_added_b{rows}", "us/batch", added))


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
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
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
    return _opened(export(network, windows(2, 0), routed=routed))


def distances(moe: Network, inputs: Inputs) -> list[Timing]:
    """Say how far the answers of each form are at most from the eager network's."""
    found = []
    for name, (graph, given) in _forms(moe, inputs).items():
        asked = of_one_bar(inputs) if name == "folded" else inputs
        with torch.inference_mode():
            output = moe(asked)
        said = _opened(graph).run(None, given)
        gaps = [
            float(np.abs(ours - theirs.numpy()).max())
            for ours, theirs in zip(said, (output.logit, output.log_rv), strict=False)
        ]
        found.append(timing(f"{name}_distance", "nats", [max(gaps)]))
    return found


def _onnx(networks: dict[str, Network], inputs: Inputs, repeats: int, seed: int) -> Seconds:
    """Return seconds of rounds, every work's in the same order."""
    cnn, moe = networks["cnn"], networks["moe_mlp"]
    assert isinstance(moe, AtlasMoE)
    random = np.random.default_rng(seed)
    plain = export(cnn, windows(2, 0))
    with torch.inference_mode():
        weights = dense_weights(moe(inputs).routing)
    graphs: dict[str, list[Graph]] = {
        "cnn": [(plain, feed(cnn, inputs))],
        "control": [(plain, feed(cnn, inputs))],
        "rule": [(export(networks["moe_rule"], windows(2, 0)), feed(networks["moe_rule"], inputs))],
        "discrete": [
            (plain, feed(cnn, taken(inputs, weights[:, column] > 0)))
            for column in range(weights.shape[1])
            if (weights[:, column] > 0).any()
        ],
    }
    graphs |= {name: [graph] for name, graph in _forms(moe, inputs).items()}
    gate, raw = FusedGate(moe), described(inputs)
    seconds: Seconds = {name: [] for name in graphs}
    for _ in range(OPENINGS):
        works = {
            str(name): _repeated(_calls(graphs[name]), repeats)
            for name in random.permutation(list(graphs))
        }
        session, given = _opened(graphs["fused"][0][0]), graphs["fused"][0][1]
        works["fused"] = _repeated(_fused(session, given, gate, raw), repeats)
        for name, values in interleave(works, ROUNDS, time.process_time).items():
            seconds[name] += values
    return seconds


def _forms(moe: Network, inputs: Inputs) -> dict[str, Graph]:
    """Return the mixture's graphs, the one that is served first."""
    assert isinstance(moe, AtlasMoE)
    two, given, outside = windows(2, 0), feed(moe, inputs), feed(moe, inputs, routed=True)
    with torch.inference_mode():
        weights = dense_weights(moe(inputs).routing).numpy()
    mixed = FusedGate(moe).rows(described(inputs)())
    one_bar = of_one_bar(inputs)
    plain = folded(moe, one_bar)
    return {
        "moe": (export(moe, two), given),
        "routed": (export(moe, two, routed=True), outside | {WEIGHTS: weights}),
        "trained": (export(AsTrained(moe), two), given),
        "strided": (export(StridedMoE(moe), two), given),
        "folded": (export(plain, two), feed(plain, one_bar)),
        "fused": (export(RowMoE(moe), two, routed=True), outside | {WEIGHTS: mixed}),
    }


def _opened(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _calls(graphs: list[Graph]) -> Work:
    calls = [(_opened(graph), given) for graph, given in graphs]
    return lambda: [session.run(None, given) for session, given in calls]


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


def _inferred(network: Network, inputs: Inputs) -> Work:
    def work() -> object:
        with torch.inference_mode():
            return network(inputs)

    return work


def _fused(session: Any, given: Feed, gate: FusedGate, raw: Callable[[], Any]) -> Work:
    return lambda: session.run(None, given | {WEIGHTS: gate.rows(raw())})


def _repeated(work: Work, times: int) -> Work:
    return lambda: [work() for _ in range(times)]
