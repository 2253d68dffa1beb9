"""Warm starts: from whom, what is taken, and a cold start with its reason where it cannot be."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch

from atlas.config import ATLASConfig
from atlas.moe import build_model
from pipelines import history, register, tracking, train, warm
from pipelines.files import read_json
from pipelines.paths import Paths
from tests.registered import AS_OF, registered, tiny_config

NEXT = AS_OF + pd.Timedelta(days=1)


def _config(moe: dict[str, Any] | None = None, **training: Any) -> ATLASConfig:
    config = tiny_config()
    chosen = config.training.model_copy(update={"start": "warm", **training})
    own = config.moe.model_copy(update=moe or {})
    return config.model_copy(update={"training": chosen, "moe": own})


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A home whose only version has just become champion."""
    home = Paths(tmp_path / "home")
    shutil.copytree(registered().home, home.home)
    assert tracking.swap(home, "1", None)
    return home


def _variant(paths: Paths) -> str:
    return str(tracking.resolve(paths, "1").tags["variant"])


def test_a_later_night_starts_from_the_champion_s_trained_weights(paths: Paths) -> None:
    """What gradient descent moves is the champion's; what is fitted stays as it was."""
    variant = _variant(paths)
    parent = warm.parent_of(paths, _config(), NEXT, variant)
    assert parent is not None
    weights = safetensors.torch.load((paths.model(variant) / "model.safetensors").read_bytes())
    assert parent.card == {
        "version": "1",
        "weights": tracking.resolve(paths, "1").tags["weights"],
    }
    model = build_model(_config(), variant=variant)
    fitted = {name: tensor.clone() for name, tensor in model.named_buffers()}
    warm.begin(model, parent, 0, 1)
    assert all(torch.equal(own, weights[name]) for name, own in model.named_parameters())
    assert all(torch.equal(own, fitted[name]) for name, own in model.named_buffers())


@pytest.mark.parametrize(
    ("night", "config", "reason"),
    [
        (AS_OF, _config(), "no champion of this home is of an earlier night than 2026-11-20"),
        (
            AS_OF - pd.Timedelta(days=9),
            _config(),
            "no champion of this home is of an earlier night",
        ),
        (NEXT, _config(ensemble=2), r"version 1 does not fit: members.0\..*got none"),
        (NEXT, _config(moe={"bank": "expert"}), "version 1 has moe.bank dictionary, params ask"),
    ],
)
def test_what_does_not_fit_starts_cold_and_says_why(
    paths: Paths,
    caplog: pytest.LogCaptureFixture,
    night: pd.Timestamp,
    config: ATLASConfig,
    reason: str,
) -> None:
    """A night never starts from weights that saw its test sessions, nor from another network's."""
    variant = _variant(paths)
    assert warm.parent_of(paths, config, night, variant) is None
    assert re.search(f"{variant} starts cold: .*{reason}", caplog.text)


def test_another_variant_and_changed_files_start_cold(
    paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So does a home without a champion; a cold configuration does not even ask."""
    assert warm.parent_of(paths, _config(), NEXT, "cnn") is None
    assert "cnn starts cold: version 1, the champion, is a moe_" in caplog.text
    client = tracking.open_registry(paths)
    client.set_model_version_tag(tracking.MODEL, "1", tracking.MANIFEST, "0" * 64)
    assert warm.parent_of(paths, _config(), NEXT, _variant(paths)) is None
    assert "was tampered with" in caplog.text
    empty = Paths(tmp_path / "empty")
    assert warm.parent_of(empty, _config(), NEXT, "cnn") is None
    assert "this home has no champion yet" in caplog.text
    assert not empty.home.exists()


def test_a_night_run_again_starts_from_the_same_version(paths: Paths) -> None:
    """Where tonight's version has taken the office, the one before it is the parent still."""
    client = tracking.open_registry(paths)
    own = client.get_model_version(tracking.MODEL, "1")
    tags = {**own.tags, "as_of": str(NEXT.date())}
    client.create_model_version(tracking.MODEL, source=own.source, tags=tags)
    before = warm.parent_of(paths, _config(), NEXT, _variant(paths))
    assert tracking.swap(paths, "2", "1")
    history.note(paths, "2", "1", how="promoted", as_of=str(NEXT.date()), reason="better")
    after = warm.parent_of(paths, _config(), NEXT, _variant(paths))
    later = warm.parent_of(paths, _config(), NEXT + pd.Timedelta(days=1), _variant(paths))
    assert before is not None
    assert after is not None
    assert later is not None
    assert (before.version, after.version, later.version) == ("1", "1", "2")


def test_the_stage_starts_warm_to_the_same_bits_and_tells_from_where(paths: Paths) -> None:
    """Key, summary, card and the version's tags name the parent; two runs give the same bytes."""
    variant, weights = _variant(paths), "model.safetensors"
    client = tracking.open_registry(paths)
    client.set_model_version_tag(tracking.MODEL, "1", "as_of", "2026-11-19")  # as if of then
    config = _config()
    markets = {name: config.markets[name] for name in ("options_skew", "equity_daily")}
    config = config.model_copy(update={"markets": markets})  # one market less fits as well
    cold = (paths.model(variant) / weights).read_bytes()
    found = []
    for _ in range(2):
        summary = train.run(paths, config, as_of=AS_OF, variant=variant)
        assert (summary["start"], summary["skipped"]) == ("version 1", False)
        assert train.run(paths, config, as_of=AS_OF, variant=variant)["skipped"]
        found.append((paths.model(variant) / weights).read_bytes())
        (paths.model(variant) / weights).unlink()
    assert found[0] == found[1] != cold
    (paths.model(variant) / weights).write_bytes(found[0])
    card = read_json(paths.model(variant) / "config.json")
    tags = register._tags(paths, config, AS_OF, variant)
    assert card["parent"]["version"] == tags["parent_version"] == "1"
    assert card["parent"]["weights"] == tags["parent_weights"]
    assert tags["tuning"] == "none"


def test_a_version_that_is_laid_into_a_home_is_the_parent(paths: Paths, tmp_path: Path) -> None:
    """A reproduction's home has no registry: what it lays counts, to the same card and weights."""
    variant = _variant(paths)
    expected = warm.parent_of(paths, _config(), NEXT, variant)
    assert expected is not None
    empty = Paths(tmp_path / "reproduced")
    files = tracking.files_of(paths, tracking.resolve(paths, "1")) / "artifacts"
    warm.lay(empty, "1", files)
    found = warm.parent_of(empty, _config(), AS_OF, variant)
    assert found is not None
    assert found.card == expected.card
    assert all(torch.equal(found.weights[name], own) for name, own in expected.weights.items())
