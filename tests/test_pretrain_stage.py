"""The pretrain stage: its artifact, kills, and trainings that start from what it found."""

import datetime as dt
import json
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch

from atlas.config import ATLASConfig
from atlas.errors import ConfigError, ModelError
from atlas.training_state import TrainingState
from pipelines import checkpoints, pretrain, pretrained, reproduce, train
from pipelines.files import read_json, write_json
from pipelines.paths import Paths
from tests.toys import toy_config, toy_data

NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
DATA = toy_data(bars=260, test=40, validation=30)
EARLIER = toy_data(bars=260, test=140, validation=30)


def _config(pretraining: str = "none", **training: object) -> ATLASConfig:
    config = toy_config(**{"epochs": 2, "windows_per_epoch": 24, **training})
    return config.model_copy(update={"pretraining": pretraining})


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A home whose markets are the toy's."""
    monkeypatch.setattr(train.samples, "load", lambda *_: dict(DATA))
    home = Paths(tmp_path)
    home.data_dvc.write_text("outs:\n- md5: 0123abcd.dir\n  path: data\n")
    return home


def _files(paths: Paths) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(paths.pretraining.glob("*"))}


def test_the_artifact_says_what_it_is_of(paths: Paths) -> None:
    """Settings, data version, loss curve, last sessions read; a second run finds it done."""
    summary = pretrain.run(paths, _config(), as_of=NIGHT)
    name = summary["id"]
    assert name.startswith("2026-11-20-")
    assert summary["cpu_s"] > 0
    card = read_json(paths.pretraining / f"{name}.json")
    assert (card["as_of"], card["data_version"], card["number"]) == (
        "2026-11-20",
        "0123abcd.dir",
        0,
    )
    assert len(card["history"]) == card["settings"]["epochs"] == 2
    for market, last in card["until"].items():
        own = DATA[market]
        day = (dt.date.fromisoformat(last) - dt.date(1970, 1, 1)).days
        assert day < own.panel.session[own.split.validation].min()
    before = _files(paths)
    assert len(before) == 2
    again = pretrain.run(paths, _config(), as_of=NIGHT)
    assert (again["id"], again["skipped"]) == (name, True)
    assert _files(paths) == before
    assert pretrain.run(paths, _config(epochs=1), as_of=NIGHT)["id"] != name


def test_a_killed_run_leaves_the_bytes_of_an_undisturbed_one(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its first epoch, it goes on from there and clears its checkpoints."""
    pretrain.run(paths, _config(), as_of=NIGHT)
    save = checkpoints.save

    def killed(folder: Path, state: TrainingState, *, key: str) -> None:
        save(folder, state, key=key)
        raise KeyboardInterrupt

    other = Paths(tmp_path / "other")
    other.home.mkdir()
    other.data_dvc.write_text(paths.data_dvc.read_text())
    monkeypatch.setattr(pretrain.checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(other, _config(), as_of=NIGHT)
    assert not other.pretraining.exists()
    monkeypatch.setattr(pretrain.checkpoints, "save", save)
    pretrain.run(other, _config(), as_of=NIGHT)
    assert _files(other) == _files(paths)
    assert not list((other.var / "pretraining").iterdir())


def test_params_select_kernels_by_id_and_the_training_says_so(paths: Paths) -> None:
    """`latest` becomes an id; other kernels give other weights, `none` the usual ones."""
    cold = train.run(paths, _config(), as_of=NIGHT, variant="moe_rule")
    weights = (paths.model("moe_rule") / "model.safetensors").read_bytes()
    name = pretrain.run(paths, _config(), as_of=NIGHT)["id"]
    found = train.run(paths, _config("latest"), as_of=NIGHT, variant="moe_rule")
    assert (cold["start"], found["start"]) == ("cold", f"pretraining {name}")
    card = json.loads((paths.model("moe_rule") / "config.json").read_text())
    assert card["config"]["pretraining"] == name
    assert (paths.model("moe_rule") / "model.safetensors").read_bytes() != weights
    assert train.run(paths, _config(name), as_of=NIGHT, variant="moe_rule")["skipped"] is True


def test_latest_is_of_no_later_night(paths: Paths) -> None:
    """A past night takes what was there then; one that is not there is named."""
    for name, as_of in (("a", "2026-11-13"), ("b", "2026-11-20")):
        write_json(paths.pretraining / f"{name}.json", {"id": name, "as_of": as_of, "number": 0})
    chosen = pretrained.resolved(paths, _config("latest"), NIGHT - pd.Timedelta(days=1))
    assert chosen.pretraining == "a"
    assert pretrained.resolved(paths, _config("latest"), NIGHT).pretraining == "b"
    with pytest.raises(
        ConfigError, match=r"pretraining: 'c': expected none, latest or one of a, b"
    ):
        pretrained.resolved(paths, _config("c"), NIGHT)
    with pytest.raises(ConfigError, match="run `python -m pipelines pretrain --as-of 2026-11-01`"):
        pretrained.resolved(paths, _config("latest"), pd.Timestamp("2026-11-01", tz="UTC"))


def test_kernels_that_have_read_what_is_judged_are_refused(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training whose validation lies within the sessions that were read never starts."""
    name = pretrain.run(paths, _config(), as_of=NIGHT)["id"]
    monkeypatch.setattr(train.samples, "load", lambda *_: dict(EARLIER))
    with pytest.raises(ConfigError, match=rf"{name} has read toy_charts up to 1970-.*judged from"):
        train.run(paths, _config(name), as_of=NIGHT, variant="cnn")


def test_a_changed_file_is_refused(paths: Paths) -> None:
    """Weights whose digest is not the card's are used by nobody, nor is a card without weights."""
    name = pretrain.run(paths, _config(), as_of=NIGHT)["id"]
    weights = paths.pretrained(name)
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelError, match="was changed: expected digest"):
        train.run(paths, _config(name), as_of=NIGHT, variant="cnn")
    weights.unlink()
    with pytest.raises(ConfigError, match=f"expected .*{name}.safetensors and its card"):
        train.run(paths, _config(name), as_of=NIGHT, variant="cnn")


def test_a_version_carries_its_kernels_to_where_it_is_reproduced(
    paths: Paths, tmp_path: Path
) -> None:
    """The record of a night holds the artifact, and a new home gets the same two files."""
    name = pretrain.run(paths, _config(), as_of=NIGHT)["id"]
    train.run(paths, _config("latest"), as_of=NIGHT, variant="cnn")
    known = json.loads(reproduce.record(paths, _config("latest"), "cnn"))
    assert known["params"]["pretraining"] == name
    there = Paths(tmp_path / "there")
    pretrained.unpack(there, known["pretrained"])
    assert _files(there) == _files(paths)
    found = pretrained.kernels_of(there, _config(name))
    assert found is not None
    assert (
        found.weights.keys() == safetensors.torch.load(paths.pretrained(name).read_bytes()).keys()
    )
