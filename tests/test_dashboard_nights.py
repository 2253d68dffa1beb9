"""What the diary of nights holds, and what the overview makes of it."""

import datetime as dt
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atlas.config import ATLASConfig
from atlas.errors import ConfigError, HomeError
from dashboard import nights
from dashboard.nights import BY_MARKET, STAGES, Night, Stage, last_night
from pipelines import claim, diary, tasks
from pipelines.night import VARIANTS, read_config
from pipelines.paths import PROJECT, Paths

AS_OF = "2026-11-20"
RUN = "nightly__2026-11-20"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path)


@pytest.fixture(scope="module")
def config() -> ATLASConfig:
    """The delivered configuration, in which the night can do without low_vol_etf."""
    found = read_config(PROJECT / "params.yaml")
    markets = dict(found.markets)
    markets["low_vol_etf"] = markets["low_vol_etf"].model_copy(update={"required": False})
    return found.model_copy(update={"markets": markets})


def tell(paths: Paths, stage: str, part: str = "", *, kept: bool = False) -> None:
    with diary.told(paths, AS_OF, stage, part) as telling:
        telling.kept = kept


def fail(paths: Paths, stage: str, reason: str, part: str = "") -> None:
    with pytest.raises(ConfigError), diary.told(paths, AS_OF, stage, part):
        raise ConfigError(reason)


def kill(paths: Paths, stage: str, part: str = "") -> None:
    """Begin a stage in a process that is killed in it."""
    code = (
        "import os, signal, sys; from pathlib import Path; from pipelines import diary\n"
        "from pipelines.paths import Paths\n"
        f"with diary.told(Paths(Path({str(paths.home)!r})), {AS_OF!r}, {stage!r}, {part!r}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert done.returncode == -9


def parts_of(stage: str, config: ATLASConfig) -> tuple[str, ...]:
    if stage in BY_MARKET:
        return tuple(config.markets)
    return VARIANTS if stage == "train" else ("",)


def up_to(paths: Paths, config: ATLASConfig, end: str | None) -> None:
    """Tell every stage before `end`, or all of them."""
    for stage in STAGES[: STAGES.index(end) if end else None]:
        for part in parts_of(stage, config):
            tell(paths, stage, part)


def ended(paths: Paths) -> None:
    """Make the diary that of a process that is gone."""
    path = paths.var / "nights.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [line | {"created": 0.0} if line["stage"] == diary.NIGHT else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))


def stage_of(night: Night, name: str) -> Stage:
    return next(stage for stage in night.stages if stage.name == name)


def test_a_whole_night_is_done(paths: Paths, config: ATLASConfig) -> None:
    """Every stage has its time; work that was not due again is told as such."""
    before = dt.datetime.now(dt.UTC)
    diary.begin_night(paths, AS_OF)
    up_to(paths, config, "promote")
    assert last_night(paths, config).state == "running"
    tell(paths, "promote", kept=True)
    ended(paths)
    night = last_night(paths, config)
    assert (night.as_of, night.run, night.state) == (AS_OF, "", "done")
    assert [stage.name for stage in night.stages] == list(STAGES)
    assert [stage.state for stage in night.stages] == ["done"] * 7 + ["kept"]
    assert all(stage.begun and stage.begun >= before for stage in night.stages)
    assert night.seconds == pytest.approx(sum(stage.seconds or 0 for stage in night.stages))
    more = {**config.markets, "new": config.markets["equity_daily"]}
    assert last_night(paths, config.model_copy(update={"markets": more})).state == "done"


def test_a_stage_that_was_tried_again_says_what_was_wrong_before(
    paths: Paths, config: ATLASConfig
) -> None:
    """Failed once or killed once and done then: the stage is done, and both tries are told."""
    diary.begin_night(paths, AS_OF)
    up_to(paths, config, "train")
    kill(paths, "train", "moe_mlp")
    for variant in VARIANTS:
        tell(paths, "train", variant)
    fail(paths, "benchmark", "the disk was full")
    tell(paths, "benchmark")
    night = last_night(paths, config)
    train, benchmark = stage_of(night, "train"), stage_of(night, "benchmark")
    assert (train.state, train.faults) == ("done", ())
    assert train.again == (f"moe_mlp: took 2 tries; before the last, {nights.KILLED}",)
    assert (benchmark.state, benchmark.faults) == ("done", ())
    assert benchmark.again == ("took 2 tries; before the last, the disk was full",)


def test_a_failed_night_says_why_and_what_was_not_reached(
    paths: Paths, config: ATLASConfig
) -> None:
    """The reason stands at its stage; what comes after is missing, whatever older nights did."""
    diary.begin_night(paths, AS_OF)
    up_to(paths, config, None)
    diary.begin_night(paths, AS_OF)
    up_to(paths, config, "validate")
    for market in config.markets:
        if market == "equity_daily":
            fail(paths, "validate", "equity_daily: 25.0% of its rows are bad", market)
        else:
            tell(paths, "validate", market)
            tell(paths, "fingerprint", market)
    ended(paths)
    night = last_night(paths, config)
    assert night.state == "failed"
    assert stage_of(night, "validate").faults == ("equity_daily: 25.0% of its rows are bad",)
    states = [stage.state for stage in night.stages]
    assert states == ["done", "done", "failed", *["missing"] * 5]


def test_a_killed_night_is_not_called_done(paths: Paths, config: ATLASConfig) -> None:
    """Killed within a stage, that stage failed; killed between two, the night ended early."""
    diary.begin_night(paths, AS_OF)
    up_to(paths, config, "train")
    ended(paths)
    assert last_night(paths, config).state == "stopped"
    kill(paths, "train", "cnn")
    night = last_night(paths, config)
    assert night.state == "failed"
    assert stage_of(night, "train").faults == (f"cnn: {nights.KILLED}",)


def test_a_market_that_is_left_out_fails_no_night(paths: Paths, config: ATLASConfig) -> None:
    """A market that is not required is named with its reason; later stages go without it."""
    diary.begin_night(paths, AS_OF)
    fail(paths, "ingest", "no bars came", "low_vol_etf")
    for stage in STAGES:
        for part in parts_of(stage, config):
            if part != "low_vol_etf":
                tell(paths, stage, part)
    ended(paths)
    night = last_night(paths, config)
    assert night.state == "done"
    assert stage_of(night, "ingest").left_out == ("low_vol_etf: no bars came",)
    assert stage_of(night, "fingerprint").state == "done"


def test_parts_at_once_count_their_time_once(paths: Paths, config: ATLASConfig) -> None:
    """Two variants that train at the same time take as long as the longer."""
    diary.begin_night(paths, AS_OF)
    with diary.told(paths, AS_OF, "train", "cnn"), diary.told(paths, AS_OF, "train", "moe_mlp"):
        assert stage_of(last_night(paths, config), "train").state == "running"
        time.sleep(0.2)
    seconds = stage_of(last_night(paths, config), "train").seconds
    assert seconds is not None
    assert 0.2 <= seconds < 0.4


def test_a_run_of_airflow_is_under_way_while_it_holds_the_home(
    paths: Paths, config: ATLASConfig
) -> None:
    """Between two tasks no process lives; the claim says that the night goes on."""
    claim.claim(paths, RUN)
    diary.begin_night(paths, AS_OF, RUN)
    up_to(paths, config, "train")
    night = last_night(paths, config)
    assert (night.run, night.state) == (RUN, "running")
    assert stage_of(night, "train").state == "waiting"
    claim.release(paths, RUN)
    assert last_night(paths, config).state == "stopped"


def test_a_night_that_cannot_begin_says_why(
    paths: Paths, config: ATLASConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong params.yaml fails Airflow's first task, and the overview gives its reason."""
    wrong = tmp_path / "params.yaml"
    wrong.write_text("source: nowhere\n")
    monkeypatch.setenv("ATLAS_HOME", str(paths.home))
    monkeypatch.setenv("ATLAS_PARAMS", str(wrong))
    with pytest.raises(ConfigError):
        tasks.begin(RUN, AS_OF, dt.datetime(2026, 11, 20, 2, tzinfo=dt.UTC))
    night = last_night(paths, config)
    assert (night.state, night.stages[0].name) == ("failed", "begin")
    assert "nowhere" in night.stages[0].faults[0]


def test_lines_that_are_none_are_passed_over(paths: Paths, config: ATLASConfig) -> None:
    """A cut last line, or one that is no JSON, costs that line alone; an empty diary says so."""
    with pytest.raises(HomeError, match="make nightly"):
        last_night(paths, config)
    diary.begin_night(paths, AS_OF)
    tell(paths, "snapshot")
    path = paths.var / "nights.jsonl"
    path.write_text(path.read_text() + 'nonsense\n[1]\n{"at": 1e99}\n{"at": 17', encoding="utf-8")
    assert stage_of(last_night(paths, config), "snapshot").state == "done"
