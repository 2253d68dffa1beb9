"""The policy `refresh`, through the whole promote stage: a retrain replaces, unless shown worse.

Who says what is laid down as a finished night would leave it, so that no model has to be asked.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.config import ATLASConfig
from pipelines import history, pair, promote, register, shadow, tracking
from pipelines.files import write_json, write_parquet
from pipelines.paths import Paths
from tests.registered import tiny_config

MARKET = "equity_daily"
NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
TODAY = 20_777  # days since 1970-01-01
LOADS = {"chart": {"equity_daily": 0.9, "futures_trend": 0.1}}


def settings(policy: str) -> ATLASConfig:
    """Return a configuration with this policy."""
    config = tiny_config()
    promotion = config.promotion.model_copy(update={"policy": policy})
    return config.model_copy(update={"promotion": promotion})


def rows(gain: float) -> pd.DataFrame:
    """Sixty sessions of ten rows; version 2 is nearer to what happened by `gain`, honestly so."""
    rng = np.random.default_rng(1)
    session = np.repeat(np.arange(TODAY - 60, TODAY), 10)
    p = rng.uniform(0.3, 0.7, session.size)
    near = np.clip(p, 0.02, 0.98)
    far = np.clip(0.5 + (p - 0.5) * (1 - 4 * abs(gain)), 0.02, 0.98)
    return pd.DataFrame(
        {
            "market": MARKET,
            "symbol": "S",
            "timestamp": np.arange(session.size),
            "session": session,
            "y": (rng.random(session.size) < p).astype(float),
            "champion": far if gain >= 0 else near,
            "challenger": near if gain >= 0 else 1 - near,
            "said_champion": True,
            "said_challenger": True,
        }
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A home whose champion is version 1; version 2 is its retrain of tonight."""
    home = Paths(tmp_path_factory.mktemp("refresh"))
    client = tracking.open_registry(home)
    for number, day in (("1", "2026-11-19"), ("2", "2026-11-20")):
        tags = {"as_of": day, "settings": "s", "variant": "moe_mlp", "code": "c", "key": number}
        tags["first_test"] = json.dumps({MARKET: TODAY - 60})
        with tracking.night_run(client, f"night {day}", number, tags) as run:
            pass
        source = home.mlflow_artifacts.as_uri()
        client.create_model_version(tracking.MODEL, source, run_id=run.info.run_id, tags=tags)
    assert tracking.swap(home, "1", None)
    night = {"as_of": "2026-11-20", "candidate": "moe_mlp", "candidate_version": "2", "key": "2"}
    write_json(register.registration(home), {**night, "run_id": run.info.run_id})
    return home


@pytest.fixture
def paths(template: Paths, tmp_path: Path) -> Paths:
    """A copy of that home, to decide in."""
    shutil.copytree(template.home, tmp_path / "home")
    return Paths(tmp_path / "home")


def judged(home: Paths, gain: float) -> None:
    """Leave the pair's state and log as a night would that had judged these sessions."""
    found = rows(gain)
    state = pair.opened("1", "2", [MARKET], settings("refresh").promotion)
    loads = {"champion": LOADS, "challenger": LOADS}
    pair.save(home, pair.add(state, "2026-11-20", found, loads))
    said = found[pair.KEYS].assign(
        probability=found["challenger"], volatility=0.1, expert_ids="a", abstain=False, reason=""
    )
    shadow.keep(home, "2026-11-20", found, [("challenger", "2", said)])
    base = found[[*pair.KEYS, "session", "y"]]
    base = base.assign(model="base_rate", split="test", probability=0.5)
    write_parquet(home.benchmark / "predictions.parquet", base)


def test_a_retrain_that_is_not_shown_worse_takes_office(paths: Paths) -> None:
    """A gain too small for a proof is enough; the old champion is kept to go back to."""
    judged(paths, gain=0.05)
    told = promote.run(paths, settings("refresh"), as_of=NIGHT)
    assert told["promoted"]
    assert told["champion_version"] == "2"
    assert "not shown worse" in told["reason"]
    assert told["figures"]["evidence"] < 20
    assert history.champions(paths)[-1]["how"] == "refreshed"
    held = tracking.alias(paths, tracking.PREVIOUS)
    assert held is not None
    assert str(held.version) == "1"


def test_under_proof_the_same_retrain_only_challenges(paths: Paths) -> None:
    """What `refresh` lets in at once has to prove itself under `proof`."""
    judged(paths, gain=0.05)
    told = promote.run(paths, settings("proof"), as_of=NIGHT)
    assert not told["promoted"]
    assert (told["champion_version"], told["challenger_version"]) == ("1", "2")
    assert "not proven" in told["reason"]


def test_a_retrain_that_is_shown_worse_does_not_take_office(paths: Paths) -> None:
    """Evidence of 20 against it keeps the champion, and the figures say so."""
    judged(paths, gain=-0.2)
    told = promote.run(paths, settings("refresh"), as_of=NIGHT)
    assert not told["promoted"]
    assert told["champion_version"] == "1"
    state = pair.load(paths, "1", "2")
    assert state is not None
    assert pair.evidence_of(state, reverse=True) >= 20


@pytest.mark.parametrize("tag", ["settings", "variant", "code"])
def test_another_kind_of_model_is_no_retrain(paths: Paths, tag: str) -> None:
    """With other settings, another variant or other code it needs proof, whatever the policy."""
    judged(paths, gain=0.05)
    tracking.open_registry(paths).set_model_version_tag(tracking.MODEL, "2", tag, "another")
    told = promote.run(paths, settings("refresh"), as_of=NIGHT)
    assert not told["promoted"]
    assert "not proven" in told["reason"]
