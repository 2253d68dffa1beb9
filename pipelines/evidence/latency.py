"""Say what each network of the table costs to ask, as a ratio to the plain CNN.

All run as ONNX graphs, which is how they are served: one window, one thread, in turns, so that
whatever else the machine does falls on all alike. Time depends on a network's form alone, so one
seed and the weights of one cut will do. `python -m benchmarks latency` goes deeper: batches, eager
networks, an identical control.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import safetensors.torch

from atlas.basket_config import HEDGED
from atlas.baskets import absent_basket
from atlas.config import ATLASConfig
from atlas.hedge import build_network
from atlas.inputs import Inputs, gather
from atlas.moe import Network
from atlas.onnx_export import export, input_names
from atlas.prediction import to_tensors
from atlas.windows import MarketData
from pipelines.evidence import plan
from pipelines.files import read_json, write_json
from pipelines.paths import Paths

__all__ = ["latency_ratios", "ratios_to", "write_latency"]

PEER = "cnn"
ROUNDS = 200
REPEATS = 10  # calls in a round, so that it is long against the clock

Work = Callable[[], object]


def write_latency(
    paths: Paths,
    config: ATLASConfig,
    folder: Path,
    data: Mapping[str, MarketData],
    unit: plan.Unit,
) -> list[Path]:
    """Time one window of a chart market in every network that the unit's seed and cut left.

    Args:
        paths: where the networks lie.
        config: what they were built from.
        folder: gets latency.json, model to ratio.
        data: of the markets.
        unit: names seed and cut.
    """
    own = _chart_market(data)
    works = {}
    for name in (*plan.SERVED, HEDGED):
        weights = plan.root(paths) / unit.cut / str(unit.seed) / name / "model.safetensors"
        if weights.is_file():
            network = build_network(config, variant=name)
            network.load_state_dict(safetensors.torch.load(weights.read_bytes()))
            panel = own.panel
            if name == HEDGED and config.basket:  # what it reads of a basket costs the same time
                absent = absent_basket(tuple(config.basket.series), panel.timestamp.size)
                panel = replace(panel, basket=absent)
            window = gather(panel, own.split.test[:2], market_index=0)
            works[name] = _work(network, to_tensors(window))
    write_json(folder / "latency.json", ratios_to(PEER, works))
    return [folder / "latency.json"]


def latency_ratios(paths: Paths, config: ATLASConfig) -> dict[str, float]:
    """Return each network's ratio to the plain CNN; empty where nothing was timed."""
    found = [unit for unit in plan.units(config) if unit.model == plan.LATENCY]
    path = plan.root(paths) / found[0].name / "latency.json"
    ratios: dict[str, float] = read_json(path) if path.is_file() else {}
    return ratios


def ratios_to(peer: str, works: dict[str, Work], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median over rounds of each work's time over the peer's in the same round."""
    if peer not in works:
        return {}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()  # the first call allocates
    for _ in range(rounds):
        for name, work in works.items():
            begun = time.perf_counter()
            for _ in range(REPEATS):
                work()
            seconds[name].append(time.perf_counter() - begun)
    return {
        name: round(float(np.median(np.divide(own, seconds[peer]))), 3)
        for name, own in seconds.items()
    }


def _work(network: Network, inputs: Inputs) -> Work:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = export(network, inputs)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feed = {name: getattr(inputs, name)[:1].numpy() for name in input_names(network)}
    return lambda: session.run(None, feed)


def _chart_market(data: Mapping[str, MarketData]) -> MarketData:
    charts = [own for own in data.values() if own.panel.modality == "chart"]
    return (charts or list(data.values()))[0]
