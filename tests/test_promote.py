"""Promotion: nothing without proof, nothing from the past, and each model by its own code.

One home lives through seven nights; every test looks at one of them.
"""

import json
import os
import signal
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from atlas.config import ATLASConfig, PromotionConfig
from atlas.errors import ModelError
from pipelines import (
    challenge,
    explain,
    history,
    office,
    pair,
    promote,
    proof,
    register,
    shadow,
    tracking,
)
from pipelines.files import read_json
from pipelines.paths import Paths
from tests.registered import AS_OF, copy_home, tiny_config, write_base_rate

CONFIG = tiny_config()
SETTINGS = PromotionConfig(resamples=200)
YESTERDAY = AS_OF - pd.Timedelta(days=1)


class Life:
    """A home and what promotion decided in each of its nights."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.decisions: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.refused = ""
        self.rolled_back: dict[str, Any] = {}

    def night(self, name: str, as_of: pd.Timestamp = AS_OF, *, resamples: int = 200) -> None:
        """Register and promote; other `resamples` are other params, hence another version."""
        config = _config(resamples)
        register.run(self.paths, config, as_of=as_of)
        self.decisions[name] = promote.run(self.paths, config, as_of=as_of)
        self.files[name] = read_json(self.paths.artifacts / "promotion.json")


def _config(resamples: int) -> ATLASConfig:
    promotion = CONFIG.promotion.model_copy(update={"resamples": resamples})
    return CONFIG.model_copy(update={"promotion": promotion})


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    paths = copy_home(tmp_path_factory.mktemp("promoted") / "home")
    life = Life(paths)
    life.night("no better than the base rate", resamples=201)
    write_base_rate(paths, probability=0.98)  # a base rate that is easy to beat
    life.night("first champion")
    life.night("again")
    life.night("past", YESTERDAY)
    life.night("back")
    _answer_badly(paths, life.decisions["first champion"]["champion_version"])
    life.refused = _promote_tampered(life, resamples=202)
    life.night("replaced", resamples=202)
    life.night("undecided", resamples=203)  # the same weights: nothing to choose between them
    (paths.artifacts / "promotion.json").unlink()  # as a kill before the last step leaves it
    life.night("undecided again", resamples=203)
    life.rolled_back = history.rollback(paths)
    tracking.stand_down(paths, "5", "taken out, so that the place is free")
    life.night("rolled back", resamples=202)
    return life


def _answer_badly(paths: Paths, version: str) -> None:
    """Make the code that a version was packed with answer 2 %, whatever it is asked."""
    client = tracking.open_registry(paths)
    source = client.get_model_version(tracking.MODEL, version).source
    folder = paths.mlflow_artifacts / "models" / Path(str(source)).name / "artifacts"
    code = folder / "code" / "atlas" / "serving.py"
    text = code.read_text()
    changed = text.replace('found["probability"].astype(np.float64)', "np.full(len(ends), 0.02)")
    assert changed != text
    code.write_text(changed)
    manifest = folder / "artifacts" / "manifest.json"
    digests = json.loads(manifest.read_text())
    digests["atlas/serving.py"] = sha256(changed.encode()).hexdigest()
    manifest.write_text(json.dumps(digests))
    vouched = sha256(manifest.read_bytes()).hexdigest()
    client.set_model_version_tag(tracking.MODEL, version, tracking.MANIFEST, vouched)


def _promote_tampered(life: Life, *, resamples: int) -> str:
    """Promote a candidate that is better, with a file changed meanwhile; return the error."""
    config = _config(resamples)
    night = register.run(life.paths, config, as_of=AS_OF)
    held = tracking.resolve(life.paths, night["candidate_version"])
    file = tracking.files_of(life.paths, held) / "artifacts" / "config.json"
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    with pytest.raises(ModelError) as refused:
        promote.run(life.paths, config, as_of=AS_OF)
    file.write_bytes(content)
    champion = tracking.resolve(life.paths).version
    return f"champion {champion}: {refused.value}"


def test_without_proof_there_is_no_champion_and_the_night_says_why(life: Life) -> None:
    """A candidate that does not beat the base rate leaves the registry without a champion."""
    decision = life.decisions["no better than the base rate"]
    assert not decision["promoted"]
    assert decision["champion_version"] is None
    assert decision["reason"].startswith("no champion: log-loss")
    assert "the base rate" in decision["reason"]


def test_the_first_champion_beats_the_base_rate(life: Life) -> None:
    """The version that is proven better than the base rate becomes champion."""
    decision = life.decisions["first champion"]
    assert decision["promoted"]
    assert decision["champion_version"] == decision["candidate_version"] == "2"
    assert decision["figures"]["difference_high"] < 0


def test_promotion_json_says_what_was_decided(life: Life) -> None:
    """The file carries the decision of the night, figures and reason included."""
    decision, written = life.decisions["first champion"], life.files["first champion"]
    assert {name: written[name] for name in decision if name != "skipped"} == {
        name: value for name, value in decision.items() if name != "skipped"
    }
    assert written["as_of"] == "2026-11-20"


def test_the_run_and_the_version_carry_the_decision(life: Life) -> None:
    """Tags and an artifact of the run tell why, without the home's files."""
    client = tracking.open_registry(life.paths)
    version = client.get_model_version(tracking.MODEL, "2")
    run = client.get_run(str(version.run_id))
    assert run.data.tags["promoted"] == version.tags["promoted"] == "true"
    assert run.data.tags["promotion_reason"] == life.decisions["first champion"]["reason"]
    assert "promotion.json" in {item.path for item in client.list_artifacts(run.info.run_id)}


def test_the_same_night_is_not_decided_twice(life: Life) -> None:
    """Run again, the night repeats its decision and says that it was skipped."""
    again = life.decisions["again"]
    assert again["skipped"]
    assert again["promoted"]
    assert again["champion_version"] == "2"


def test_a_past_night_never_promotes(life: Life) -> None:
    """A night older than the champion's registers its candidate and leaves the champion."""
    past = life.decisions["past"]
    assert not past["promoted"]
    assert past["candidate_version"] == "3"
    assert past["champion_version"] == "2"
    assert "past night" in past["reason"]


def test_a_night_that_made_the_champion_keeps_its_evidence(life: Life) -> None:
    """After a past night the champion's own night is run again: figures and tags stay."""
    first, back = life.decisions["first champion"], life.decisions["back"]
    client = tracking.open_registry(life.paths)
    run_id = str(client.get_model_version(tracking.MODEL, "2").run_id)
    kept = mlflow.artifacts.load_dict(f"{client.get_run(run_id).info.artifact_uri}/promotion.json")
    assert back == {**first, "skipped": True}
    assert life.files["back"]["figures"] == kept["figures"] == first["figures"] != {}
    assert kept["promoted"]


def test_a_candidate_that_cannot_answer_does_not_become_champion(life: Life) -> None:
    """The better candidate whose file was changed is an error; the old champion stays."""
    assert life.refused.startswith("champion 2: ")
    assert "config.json was tampered with" in life.refused


def test_a_champion_answers_with_the_code_it_was_packed_with(life: Life) -> None:
    """The champion whose packed code says 2 % is beaten; the checkout's code would not say so."""
    decision = life.decisions["replaced"]
    rows = pd.read_parquet(life.paths.model(decision["candidate"]) / "predictions.parquet")
    tests = pair.ready(rows[rows["split"] == "test"], AS_OF)
    says_down = -np.log(np.where(tests["y"] > 0.5, 0.02, 0.98))
    expected = pd.Series(says_down).groupby(tests["market"].to_numpy()).mean().mean()
    assert decision["figures"]["log_loss_champion"] == pytest.approx(expected)
    assert decision["figures"]["silent"] == {"champion": 0, "challenger": 0}
    assert decision["promoted"]


def test_what_is_not_proven_stays_challenger(life: Life) -> None:
    """A candidate no better than the champion takes the free place, and the reason shows e."""
    decision = life.decisions["undecided"]
    assert not decision["promoted"]
    assert (decision["champion_version"], decision["challenger_version"]) == ("4", "5")
    assert decision["figures"]["evidence"] == pytest.approx(1)
    assert "e = 1 of 20 after 1 night" in decision["reason"]
    assert "version 4 stays champion" in decision["reason"]


def test_a_night_run_again_counts_no_session_twice(life: Life) -> None:
    """Without its promotion.json the night is judged again: the same state, nobody asked anew."""
    first, again = life.decisions["undecided"], life.decisions["undecided again"]
    assert not again["skipped"]
    assert again["figures"] == first["figures"]
    state = pair.load(life.paths, "4", "5")
    assert state is not None
    assert state["nights"] == ["2026-11-20"]
    days = [day["session"] for day in state["days"]]
    assert days == sorted(set(days))
    assert all(spent > 0 for spent in state["latency_ms"].values())


def test_what_both_said_is_kept(life: Life) -> None:
    """The shadow log has both versions on the same bars, and each symbol's newest bar."""
    log = shadow.read(life.paths, ["2026-11-20"])
    pairs = log[log["version"].isin(["4", "5"])]
    counts = pairs.groupby("version").size()
    assert counts["4"] == counts["5"] > 0
    assert not log.duplicated(["version", *pair.KEYS]).any()
    unknown = pairs[pairs["y"].isna()]
    assert set(unknown["market"]) == set(CONFIG.markets)


def test_rollback_gives_the_office_back_for_good(life: Life) -> None:
    """The one that was replaced is champion again; the one that lost it never stands again."""
    assert life.rolled_back["champion_version"] == "2"
    assert life.rolled_back["rolled_back"] == "4"
    aliases = tracking.open_registry(life.paths).get_registered_model(tracking.MODEL).aliases
    held = {name: str(version) for name, version in aliases.items()}
    assert held["champion"] == "2"
    assert "previous" not in held
    decision = life.decisions["rolled back"]
    assert decision["champion_version"] == "2"
    assert not decision["promoted"]
    assert decision["reason"] == "no challenger: version 4 was rolled back to version 2"
    with pytest.raises(ModelError, match="nothing to roll back to: version 2"):
        history.rollback(life.paths)


def test_the_history_tells_every_change(life: Life) -> None:
    """Who was champion, in whose place, and how."""
    told = [(one["version"], one["previous"], one["how"]) for one in history.champions(life.paths)]
    assert told == [("2", None, "promoted"), ("4", "2", "promoted"), ("2", "4", "rolled back")]


def test_a_change_that_nobody_told_is_found(life: Life) -> None:
    """A kill after the alias moved leaves a change untold; the next reader tells it."""
    path = life.paths.artifacts / "champions.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept)[:1]))
    tracking.open_registry(life.paths).set_registered_model_alias("atlas-moe", "champion", "5")
    try:
        last = history.champions(life.paths)[-1]
        assert (last["version"], last["previous"], last["how"]) == ("5", "2", "found")
    finally:
        tracking.open_registry(life.paths).set_registered_model_alias("atlas-moe", "champion", "2")
        path.write_text(kept)


def test_a_page_tells_a_night(life: Life) -> None:
    """Every version of the night, its data and code, and why it was or was not promoted."""
    text = "\n".join(explain.page(life.paths, "2026-11-20"))
    for version in ("1", "2", "4", "5"):
        assert f"Version {version}, " in text
    assert "data       0123abcd.dir, source simulated" in text
    assert life.decisions["undecided again"]["reason"] in text
    assert explain.page(life.paths, "last") == explain.page(life.paths, "2026-11-20")
    with pytest.raises(ModelError, match=r"2020-01-01.*nights with one: 2026-11-19, 2026-11-20"):
        explain.page(life.paths, "2020-01-01")


def test_a_night_without_a_registration_cannot_promote(life: Life) -> None:
    """Promoting another night than the registered one names both and what to run."""
    with pytest.raises(ModelError, match=r"candidate of 2026-11-21, got the one of 2026-11-20"):
        promote.run(life.paths, CONFIG, as_of=AS_OF + pd.Timedelta(days=1))


def test_sessions_that_the_champion_trained_on_are_left_out() -> None:
    """Only rows from the champion's first test session on count; unknown markets do not."""
    rows = pd.DataFrame({"market": ["a", "a", "b", "c"], "session": [9, 10, 10, 10]})
    kept = challenge.unseen(rows, {"a": 10, "b": 11})
    assert kept[["market", "session"]].to_numpy().tolist() == [["a", 10]]


def _rows(gain: float, *, seed: int = 1, sessions: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.random(sessions * 8) < 0.5
    right = np.where(y, 0.5 + gain, 0.5 - gain)
    noise = rng.normal(0, 0.05, y.size)
    return pd.DataFrame(
        {
            "market": "m",
            "session": np.repeat(np.arange(sessions), 8),
            "y": y.astype(float),
            "probability": np.clip(right + noise, 0.01, 0.99),
            "rival": 0.5,
        }
    )


def test_a_clear_gain_is_proof_and_none_is_not() -> None:
    """The interval excludes 0 for a real gain, and holds it for noise or for a loss."""
    assert proof.judge(_rows(0.1), "the base rate", SETTINGS).better
    assert not proof.judge(_rows(0.0), "the base rate", SETTINGS).better
    assert not proof.judge(_rows(-0.1), "the base rate", SETTINGS).better


def test_markets_weigh_equally_whatever_their_rows() -> None:
    """Ten times the rows in a market that gains do not outweigh one that loses as much more."""
    many = pd.concat([_rows(0.1, seed=s) for s in range(10)]).assign(market="many")
    few = _rows(-0.3, seed=99).assign(market="few")
    verdict = proof.judge(pd.concat([many, few]), "the base rate", SETTINGS)
    assert verdict.figures["difference"] > 0
    assert not verdict.better


def test_a_gain_that_comes_in_long_runs_needs_longer_blocks() -> None:
    """Blocks of a week take runs of 60 sessions for many proofs; long blocks do not."""
    runs = [_rows(0.12 if place % 3 else -0.12, seed=place, sessions=60) for place in range(9)]
    rows = pd.concat([part.assign(session=part["session"] + 60 * i) for i, part in enumerate(runs)])
    short = proof.judge(rows, "the base rate", SETTINGS)
    long = proof.judge(rows, "the base rate", SETTINGS, {"m": 80.0})
    assert short.figures["difference"] == long.figures["difference"]
    assert long.figures["difference_high"] > short.figures["difference_high"] + 0.005


def test_blocks_are_twice_the_horizon_in_sessions() -> None:
    """20 daily bars, with rows every fifth day, take 8 such days; 6 bars of 78 take a week."""
    config = CONFIG.model_copy(update={"source": "files"})
    daily = config.markets["equity_daily"]
    long = daily.model_copy(update={"label": daily.label.model_copy(update={"horizon": 20})})
    config = config.model_copy(update={"markets": {**config.markets, "equity_daily": long}})
    rows = pd.DataFrame(
        {
            "market": ["equity_daily"] * 12 + ["equity_5min"] * 26,
            "symbol": [*"abcd" * 3, *"s" * 26],
            "session": [*np.arange(12) * 5, *np.repeat([0, 1], 13)],
        }
    )
    assert proof.block_lengths(rows, config) == {"equity_daily": 8.0, "equity_5min": 5.0}


def test_a_kill_leaves_the_old_or_the_new_champion(life: Life) -> None:
    """Killed at any instant of a swap, one of the two is champion, and its files are whole."""
    client = tracking.open_registry(life.paths)
    client.set_registered_model_alias(tracking.MODEL, tracking.CHAMPION, "2")
    wait = np.random.default_rng(3).uniform(0, 0.08, 5)
    for seconds in wait:
        child = os.fork()
        if child == 0:  # swaps the two until it is killed
            while True:
                old = str(tracking.resolve(life.paths).version)
                tracking.swap(life.paths, "4" if old == "2" else "2", old)
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        held = tracking.resolve(life.paths)
        assert str(held.version) in ("2", "4")
        challenge.check(life.paths, str(held.version))
    assert tracking.swap(life.paths, "4", str(tracking.resolve(life.paths).version))


def test_of_two_changes_at_once_one_is_made(life: Life) -> None:
    """Two processes that know the same champion wait for the office; the second is too late."""
    held = str(tracking.resolve(life.paths).version)
    children = []
    with office.alone(life.paths):
        for version in ("2", "5"):
            child = os.fork()
            if child == 0:
                os._exit(0 if tracking.swap(life.paths, version, held) else 3)
            children.append(child)
        time.sleep(0.3)
        assert str(tracking.resolve(life.paths).version) == held
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert sorted(map(os.waitstatus_to_exitcode, statuses)) == [0, 3]
    winner = ("2", "5")[[os.waitstatus_to_exitcode(status) for status in statuses].index(0)]
    assert str(tracking.resolve(life.paths).version) == winner
