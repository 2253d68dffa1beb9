"""What a scheduler's task calls: one stage of one night in the home that the environment names.

`ATLAS_HOME` and `ATLAS_PARAMS` say where; the home's binding says which source. `begin` checks the
input and claims the home; a stage renews the claim, or fails if it is not theirs; `finish` gives it
back.
Light on purpose: a task loads what its stage needs and nothing else.
"""

import datetime as dt
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from atlas.errors import AtlasError, HomeError
from pipelines import claim, diary, night, notice
from pipelines.files import read_json
from pipelines.home import binding
from pipelines.launch import child_environment, launch, stream
from pipelines.paths import PROJECT, Paths

__all__ = [
    "XCOM_BYTES",
    "alert",
    "begin",
    "brief",
    "finish",
    "is_required",
    "pretrain",
    "run",
    "tune",
    "watch",
]

log = logging.getLogger(__name__)
XCOM_BYTES = 10_240
XCOM_ENTRIES = 40  # of a list or a mapping; a stage's own figures are fewer


def begin(run_id: str, as_of: str | None, moment: dt.datetime) -> dict[str, Any]:
    """Check the input, claim the home and say which night and which markets it is about.

    Args:
        run_id: the scheduler's name of this run.
        as_of: the date asked for, or None for the last midnight before `moment`.
        moment: the end of the run's data interval, or when it was asked for.

    Returns:
        `as_of`, an ISO date, and `markets`.
    """
    wanted, paths = as_of or str(moment.astimezone(dt.UTC).date()), Paths(_home())
    try:
        opened = night.open_night(_home(), _params(), as_of=wanted, trains=True)
    except AtlasError:
        if claim.claimed_by(paths) is None:
            diary.begin_night(paths, wanted, run_id)
            with diary.told(paths, wanted, "begin"):
                raise
        raise
    claim.claim(opened.paths, run_id)
    found = str(opened.as_of.date())
    diary.begin_night(opened.paths, found, run_id)
    log.info("the night of %s in %s, source %s", found, opened.paths.home, opened.config.source)
    return {"as_of": found, "markets": list(opened.config.markets)}


def run(stage: str, run_id: str, as_of: str, **extra: str) -> dict[str, Any]:
    """Run one stage; training is a process of its own, and the benchmark records its outputs.

    Raises:
        HomeError: another night has taken the home meanwhile.
    """
    opened = _opened(as_of)
    claim.claim(opened.paths, run_id)
    if stage == "train":
        summary = launch(opened.paths, opened.config, as_of=opened.as_of, variant=extra["variant"])
    else:
        summary = night.stage(stage, opened, **extra)
    if stage == "benchmark":
        night.commit_outputs(opened)
    log.info("%s: %s", stage, json.dumps(summary, default=str))
    return brief(summary)


def brief(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary that a scheduler's database may keep: at most `XCOM_BYTES` as JSON.

    Lists of symbols grow with the market. Where the whole is too long a collection of more than
    `XCOM_ENTRIES` is told as its size, and if need be every one, and texts are cut; all of it
    stands in the log and in artifacts/.
    """
    for most, letters in ((XCOM_ENTRIES, 2_000), (0, 100)):
        if len(json.dumps(summary, default=str)) <= XCOM_BYTES:
            break
        summary = {name: _cut(value, most, letters) for name, value in summary.items()}
    return summary


def _cut(value: Any, most: int, letters: int) -> Any:
    if isinstance(value, str):
        return value[:letters]
    is_long = isinstance(value, (list, tuple, dict)) and len(value) > most
    return f"{len(value)} entries" if is_long else value


def pretrain() -> dict[str, Any]:
    """Pre-train on the night last begun, in a process that dies with this one.

    Raises:
        ModelError: it failed; its last lines are in the message.
    """
    return _child("pretrain", "pre-training")


def tune(trials: int, timeout_s: int) -> dict[str, Any]:
    """Tune on the night last begun, in a process that dies with this one; say what was found.

    Raises:
        ModelError: the search failed; its last lines are in the message.
    """
    options = ("--trials", str(trials), "--timeout", str(timeout_s))
    return _child("tune", "tuning", *options)


def watch(
    as_of: str | None, moment: dt.datetime, address: str | None = None
) -> tuple[dict[str, Any], list[tuple[str, float]]]:
    """Watch the home; return the monitor's summary and the gauges of its checks.

    Args:
        as_of: the day asked for, or None for the last midnight before `moment`.
        moment: the end of the run's data interval, or when it was asked for.
        address: of the webhook that alarms are told to.

    Raises:
        HomeError: the home has no night yet.
    """
    from pipelines import monitor
    from pipelines.watch import gauges

    opened = _opened(as_of or str(moment.astimezone(dt.UTC).date()))
    found = monitor.run(opened.paths, opened.config, as_of=opened.as_of, address=address)
    document = read_json(monitor.path_of(opened.paths, found["as_of"]))
    return found, list(gauges.gauges(document))


def is_required(market: str, as_of: str) -> bool:
    """Return whether a night fails without this market."""
    return _opened(as_of).config.markets[market].required


def finish(run_id: str, as_of: str) -> dict[str, Any]:
    """Write the night's report and give the home back, whatever became of the night."""
    try:
        return night.stage("report", _opened(as_of))
    finally:
        claim.release(Paths(_home()), run_id)


def alert(text: str, address: str | None = None) -> None:
    """Tell of a task that has failed for good, in the log and to a webhook; see `notice`."""
    notice.send(Paths(_home()), text, address)


def _child(command: str, name: str, *options: str) -> dict[str, Any]:
    """Run a command of the command line in this home; return the last line that it said."""
    paths, params = Paths(_home()), _params()
    words = [sys.executable, "-m", "pipelines", command, "--home", str(paths.home)]
    words += ["--params", str(params), *options]
    config = night.read_config(params)
    lines = list(stream(words, child_environment(config.training.threads), name))
    return {"said": lines[-1] if lines else ""}


def _opened(as_of: str) -> night.Night:
    paths = Paths(_home())
    bound = binding(paths)
    if bound is None:
        raise HomeError(f"{paths.home} is bound to no source; the first task of a night does that")
    config = night.read_config(_params(), source=bound.source)
    return night.Night(paths, config, pd.Timestamp(as_of, tz="UTC"), bound.folder)


def _home() -> Path:
    return Path(os.environ.get("ATLAS_HOME") or PROJECT)


def _params() -> Path:
    return Path(os.environ.get("ATLAS_PARAMS") or PROJECT / "params.yaml")
