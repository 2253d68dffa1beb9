"""Several processes: shares that cover a step, and the network that one process trains."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from atlas.errors import ConfigError
from atlas.moe import build_model
from atlas.parallel import open_fabric, own_markets, shard
from atlas.training import TrainingState, train
from pipelines.processes import is_one_of_several
from tests.toys import toy_config, toy_data

SEED = 3


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_shares_cover_the_step_and_are_equally_large(processes: int) -> None:
    """Every window is taken; at most processes − 1 of a market are taken twice."""
    ends = {"a": np.arange(7), "b": np.arange(100, 104), "c": np.array([9])}
    shares = [shard(ends, rank, processes) for rank in range(processes)]
    for market, own in ends.items():
        sizes = {len(share[market]) for share in shares}
        taken = np.concatenate([share[market] for share in shares])
        assert len(sizes) == 1
        assert set(taken) == set(own)
        assert len(taken) - len(own) < processes


def test_each_market_is_validated_by_one_process() -> None:
    """None is left out, none judged twice."""
    markets = ("a", "b", "c", "d", "e")
    parts = [own_markets(markets, rank, 3) for rank in range(3)]
    assert sorted(name for part in parts for name in part) == list(markets)


def _trained(
    processes: int, folder: Path | None = None
) -> tuple[int, dict[str, Tensor], dict[str, float]]:
    """Train the toy; return the rank, the weights and the last epoch's validation scores."""
    fabric = open_fabric("cpu", processes)
    torch.manual_seed(SEED)
    model = build_model(toy_config(), variant="moe_mlp")

    def keep(state: TrainingState) -> None:
        if folder is not None:
            (folder / f"kept-by-{fabric.global_rank}").write_text(str(state.meta["step"]))

    data = toy_data(bars=260, test=40, validation=40)
    settings = toy_config(learning_rate=3e-3).training
    result = train(model, data, settings, seed=SEED, checkpoint=keep, fabric=fabric)
    figures = result.history[-1]._asdict()
    scores = {name: value for name, value in figures.items() if name.startswith("validation")}
    return fabric.global_rank, model.state_dict(), scores


def _take_part(folder: Path) -> None:
    """Do what each of torchrun's processes does here."""
    assert is_one_of_several()
    rank, weights, scores = _trained(2, folder)
    safetensors.torch.save_file(weights, folder / f"weights-{rank}")
    (folder / f"scores-{rank}").write_text(json.dumps(scores))


def test_two_processes_train_the_network_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ranks end in the same bits, rank 0 alone checkpoints, the network is that of one.

    Sums are taken in another order and a row may count twice, so they end a little apart: every
    tensor by less than a tenth of the way that training has moved it. Single weights may be further
    apart, for Adam walks as far where a gradient is nothing but rounding. The processes are
    torchrun's, forked here to save them their imports.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    agent = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        monitor_interval=0.1,
    )
    _, alone, scores = _trained(1)
    elastic_launch(agent, _take_part)(tmp_path)
    contents = [(tmp_path / f"weights-{rank}").read_bytes() for rank in (0, 1)]
    assert contents[0] == contents[1]
    assert sorted(path.name for path in tmp_path.glob("kept*")) == ["kept-by-0"]
    for rank in (0, 1):
        found = json.loads((tmp_path / f"scores-{rank}").read_text())
        assert found == pytest.approx(scores, rel=1e-3)
    together = safetensors.torch.load(contents[0])
    torch.manual_seed(SEED)
    start = build_model(toy_config(), variant="moe_mlp")
    for name, weight in start.named_parameters():
        way = (alone[name] - weight).norm()
        assert way > 0, name
        assert (together[name] - alone[name]).norm() < 0.1 * way, name


def test_a_device_that_is_not_there_is_named() -> None:
    """`cuda` on a machine without one is a line, not a traceback; `auto` takes the CPU."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match="accelerator: cuda with 2 processes needs as many CUDA"):
        open_fabric("cuda", 2)
    assert open_fabric("auto").device.type == "cpu"
