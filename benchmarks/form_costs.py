"""What each form of experts costs: parameters, operations, memory, time.

All of it is of chart windows under a top-2 gate, the widths of params.yaml. Operations are those of
matrix products and convolutions, two for each multiply-add, as PyTorch's counter sees them.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from atlas.config import ATLASConfig
from atlas.gate import dense_weights
from atlas.inputs import Inputs
from atlas.moe import AtlasMoE, Network, build_model
from atlas.onnx_export import export
from benchmarks.forms import FORMS, alone, build_form, taken
from benchmarks.harness import interleave, ratio, timing
from benchmarks.latency import feed, session_of, windows

__all__ = ["BATCHES", "latencies", "sizes"]

BATCHES = (1, 32, 256)
_ROUNDS = 150
_REPEATS = {1: 20, 32: 2, 256: 1}
_WINDOWS = 256
Part = tuple[Network, Inputs]  # a graph, and the windows that it answers


def sizes(config: ATLASConfig) -> dict[str, dict[str, float]]:
    """Return parameters, kFLOP a window, and MiB of a session and of a training step, by form."""
    torch.manual_seed(1)
    inputs = windows(_WINDOWS, 7)
    found = {}
    for form in ("cnn", *FORMS):
        network = _network(form, config)
        found[form] = {
            "parameters": sum(weight.numel() for weight in network.parameters()),
            "kflop": _operations(network, inputs) / _WINDOWS / 1e3,
            "session_mib": _session_mib(_parts(form, config, network, inputs)),
            "training_mib": _kept(network, inputs) / 2**20,
        }
    return found


def latencies(config: ATLASConfig) -> dict[str, Any]:
    """Return microseconds a batch and ratios to the CNN, interleaved with a second CNN."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    networks = {form: _network(form, config) for form in ("cnn", *FORMS)}
    found: dict[str, Any] = {}
    for rows in BATCHES:
        inputs = windows(rows, 7)
        parts = {form: _parts(form, config, net, inputs) for form, net in networks.items()}
        parts["control"] = parts["cnn"]
        works = {form: _work(own, _REPEATS[rows]) for form, own in parts.items()}
        seconds = interleave(works, _ROUNDS)
        for form, values in seconds.items():
            micros = [1e6 * s / _REPEATS[rows] for s in values]
            found.setdefault(form, {})[str(rows)] = {
                **timing(form, "us/batch", micros)._asdict(),
                "over_cnn": ratio(form, values, seconds["cnn"], None).value,
            }
    return found


def _network(form: str, config: ATLASConfig) -> Network:
    return (
        build_model(config, variant="cnn") if form == "cnn" else build_form(form, config)
    ).eval()


def _parts(form: str, config: ATLASConfig, network: Network, inputs: Inputs) -> list[Part]:
    """Return the graphs of a form. Whole networks are one each; their gate is left out."""
    if form != "discrete":
        return [(network, inputs)]
    assert isinstance(network, AtlasMoE)
    with torch.inference_mode():
        weights = dense_weights(network(inputs).routing)
    parts: list[Part] = []
    for column in network.columns[inputs.modality]:
        rows = weights[:, column] > 0
        if rows.any():
            parts.append((alone(config, network.expert_ids[column]), taken(inputs, rows)))
    return parts


def _work(parts: list[Part], repeats: int) -> Callable[[], object]:
    calls = [(session_of(network), feed(network, inputs)) for network, inputs in parts]
    return lambda: [s.run(None, given) for _ in range(repeats) for s, given in calls]


def _operations(network: Network, inputs: Inputs) -> int:
    with FlopCounterMode(display=False) as counter:
        network(inputs)
    return int(counter.get_total_flops())


def _kept(network: Network, inputs: Inputs) -> int:
    """Return the bytes that a training step on a batch keeps for its backward pass."""
    own = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    fields = (field for field in inputs if isinstance(field, Tensor))  # no basket, no tensor
    own |= {field.untyped_storage().data_ptr() for field in fields}
    sizes: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    network.explore(True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(inputs)
        (output.logit.sum() + output.log_rv.sum()).backward()
    network.explore(False)
    return sum(sizes.values())


def _session_mib(parts: list[Part]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        for number, (network, inputs) in enumerate(parts):
            path = Path(folder) / f"{number}.onnx"
            path.write_bytes(export(network, windows(2, 0)))
            np.savez(path.with_suffix(".npz"), **feed(network, inputs))  # type: ignore[arg-type]
        command = [sys.executable, "-m", "benchmarks.peak", folder]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(told.stdout)
