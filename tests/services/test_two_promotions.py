"""Two promotions at once, each a process: one wins, the other says to whom it lost."""

import os
from pathlib import Path
from typing import Any

import pytest

from atlas.config import ATLASConfig
from pipelines import office, promote, register, tracking
from pipelines.files import read_json
from pipelines.paths import Paths
from tests.registered import AS_OF, copy_home, tiny_config, write_base_rate

pytestmark = pytest.mark.services  # each version that is asked first compiles its own code


def _settings(resamples: int) -> ATLASConfig:
    config = tiny_config()
    promotion = config.promotion.model_copy(update={"resamples": resamples})
    return config.model_copy(update={"promotion": promotion})


def _sharing(registry: Paths, folder: Path) -> Paths:
    """A home of another machine, which has the night's files but asks the same registry."""
    paths = copy_home(folder)
    write_base_rate(paths, probability=0.98)
    (paths.var / "mlflow").symlink_to(registry.var / "mlflow")
    return paths


def _promote(paths: Paths, config: ATLASConfig, door: int) -> None:
    """Promote, telling when the decision is made and only the alias is to be moved."""
    swap = tracking.swap

    def told(*given: Any) -> bool:
        os.write(door, b".")
        return swap(*given)

    tracking.swap = told
    promote.run(paths, config, as_of=AS_OF)


def _forked(paths: Paths, config: ATLASConfig, door: int) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _promote(paths, config, door)
            status = 0
        finally:
            os._exit(status)
    return child


def test_of_two_promotions_one_wins_and_the_other_says_why(tmp_path: Path) -> None:
    """Both have judged that theirs should be the first champion before either moves the alias."""
    registry = Paths(tmp_path / "registry")
    (registry.var / "mlflow").mkdir(parents=True)
    homes = [_sharing(registry, tmp_path / name) for name in ("one", "two")]
    settings = [_settings(201), _settings(202)]  # other params, hence two versions
    for paths, config in zip(homes, settings, strict=True):
        register.run(paths, config, as_of=AS_OF)
    ready, door = os.pipe()
    with office.alone(registry):
        both = zip(homes, settings, strict=True)
        children = [_forked(paths, config, door) for paths, config in both]
        assert os.read(ready, 1) + os.read(ready, 1) == b".."
        assert tracking.champion(registry) is None
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    told = [read_json(paths.artifacts / "promotion.json") for paths in homes]
    won, lost = sorted(told, key=lambda decision: not decision["promoted"])
    winner = str(tracking.resolve(registry).version)
    assert won["candidate_version"] == won["champion_version"] == lost["champion_version"] == winner
    assert not lost["promoted"]
    assert lost["reason"] == (
        f"version {lost['candidate_version']} was to be the first champion, but another promotion "
        f"was faster: version {winner} is champion now; the next night compares anew"
    )
    run = tracking.open_registry(registry).get_model_version(
        tracking.MODEL, lost["candidate_version"]
    )
    assert run.tags["promotion_reason"] == lost["reason"]
