"""The kernels that the dashboard draws are those that the network applies, whoever's they are."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from starlette.testclient import TestClient

from atlas.catalogue import EXPERT_IDS
from atlas.kernels.bank import KernelBank, SeriesBank
from atlas.moe import AtlasMoE, build_model
from benchmarks.dashboard_store import TINY, make_store
from benchmarks.learned import drift
from dashboard import kernels
from dashboard.access import local_only
from dashboard.app import create_app
from dashboard.kernel_sketch import curve, tiles
from dashboard.view import View
from pipelines.paths import PROJECT, Paths
from tests.test_moe import config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return make_store(tmp_path_factory.mktemp("home"), {"equity_daily": TINY["equity_daily"]})


@pytest.fixture
def own(whole: Paths, tmp_path: Path) -> Paths:
    shutil.copytree(whole.home, tmp_path / "home")
    return Paths(tmp_path / "home")


def view(paths: Paths) -> View:
    return View(paths, PROJECT / "params.yaml")


def text(paths: Paths) -> str:
    web = TestClient(create_app(view(paths), local_only), base_url="http://127.0.0.1")
    answer = web.get("/kernels")
    assert answer.status_code == 200
    return answer.text


def tensors(model: AtlasMoE) -> dict[str, np.ndarray]:
    return {name: one.double().numpy() for name, one in model.state_dict().items()}


def mixture(**moe: object) -> AtlasMoE:
    torch.manual_seed(3)
    model = build_model(config(**moe), variant="moe_mlp")
    assert isinstance(model, AtlasMoE)
    return model


def test_what_is_drawn_is_what_the_network_applies() -> None:
    """Each kernel as its bank hands it out, without the newest bar that a mean is read against."""
    model, fresh = mixture(), mixture()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "dictionary" in name:
                weight.add_(0.1 * torch.randn_like(weight))
    found = {k.name: k for group in kernels.groups(tensors(model)) for k in group.kernels}
    applied = {}
    for bank in model.trunk.dictionary.modules():
        if isinstance(bank, KernelBank):
            used = bank.kernels().detach()
            used = used + bank.newest if isinstance(bank, SeriesBank) else used
            lives = [one[mask > 0] for one, mask in zip(used, bank.mask, strict=True)]
            applied |= dict(zip(bank.names, lives, strict=True))
    assert found.keys() == applied.keys()
    for name, kernel in found.items():
        drawn, used = np.sort(kernel.learned.ravel()), np.sort(applied[name].numpy())
        np.testing.assert_allclose(drawn, used, atol=1e-6, err_msg=name)
    known = drift(fresh, dict(model.state_dict()))
    assert {name: k.drift for name, k in found.items()} == pytest.approx(known, abs=1e-5)


def test_what_has_not_been_trained_has_not_moved_and_listens_to_its_own() -> None:
    """Template and learned are the same line, the drift 0, the scale 1 on its own kernels."""
    for group in kernels.groups(tensors(mixture())):
        for kernel in group.kernels:
            np.testing.assert_allclose(kernel.learned, kernel.template, atol=1e-6)
            assert abs(kernel.drift) < 1e-6
            assert kernel.scales.get(group.expert, 1.0) == 1.0
            assert curve(kernel.learned, kernel.template).startswith("M")


def test_an_expert_that_owns_its_bank_shows_its_own_kernels() -> None:
    """With moe.bank: expert, a kernel changed in one expert's bank moves there alone."""
    model = mixture(bank="expert")
    with torch.no_grad():
        model.experts["futures_trend"].dictionary.chart.weight.mul_(-1)
    for group in kernels.groups(tensors(model)):
        for kernel in group.kernels:
            moved = group.expert == "futures_trend" and kernel.learned.shape[0] > 1
            moved |= kernel.name == "trend_chart"
            assert kernel.drift == pytest.approx(2.0 if moved else 0.0, abs=1e-6), kernel.name


def test_the_page_shows_the_champion_with_every_expert(whole: Paths) -> None:
    """Whose kernels they are, every expert, and a drawing with a label for each kernel."""
    said = text(whole)
    assert "version 2, the champion" in said
    assert all(f'id="kernels-{expert}"' in said for expert in (*EXPERT_IDS, "shared"))
    assert said.count('role="img"') == 42
    assert "trend_fit_50: template and learned, drift" in said


def test_without_the_champions_files_those_of_the_last_night_are_shown(own: Paths) -> None:
    """It says whose they are and why."""
    database = own.var / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update model_versions set storage_location = 's3://elsewhere/m-2'")
    assert "the moe_mlp of the last night; the champion&#39;s files are not here" in text(own)
    database.unlink()
    assert "the moe_mlp of the last night; nobody is champion" in text(own)


def test_broken_weights_and_those_of_no_mixture_are_named(own: Paths) -> None:
    """A notice stands in place of the figures; the page answers."""
    (own.var / "mlflow" / "mlflow.db").unlink()
    path = own.model("moe_mlp") / kernels.WEIGHTS
    path.write_bytes(b"not a safetensors file")
    assert "cannot be read" in text(own)
    plain = build_model(config(), variant="cnn").state_dict()
    path.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in plain.items()}))
    assert "no mixture" in text(own)
    path.unlink()
    assert "run make nightly" in text(own)


def test_squares_have_the_first_row_at_the_bottom_and_blank_zeros() -> None:
    """One square above 0 in the first row, one below in the last, on the scale of both kernels."""
    kernel, beside = np.array([[0.5, 0.0], [0.0, -1.0]]), np.zeros((2, 2))
    drawn = str(tiles(kernel, beside))
    assert drawn.count("<rect") == 2
    assert (
        '<rect x="0" y="1" width="1" height="1" style="fill:color-mix(in srgb,var(--up) 50%'
        in drawn
    )
    assert (
        '<rect x="1" y="0" width="1" height="1" style="fill:color-mix(in srgb,var(--down) 100%'
        in drawn
    )
