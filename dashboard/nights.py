"""The last night, stage by stage, from the home's diary (`pipelines.diary`).

- What ran it does not matter: Airflow's tasks and a night in one process tell the same diary.
- A part that began again was tried again, and what was wrong the first time is told beside it. A
  part without an end, whose process is gone, was killed.
- A market that the night can do without and that failed is left out; the stage is done without it.
"""

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from atlas.config import ATLASConfig
from atlas.errors import HomeError
from pipelines import diary
from pipelines.diary import Line
from pipelines.night import VARIANTS
from pipelines.paths import Paths

__all__ = ["STAGES", "Night", "Stage", "last_night"]

STAGES = (
    "ingest",
    "snapshot",
    "validate",
    "fingerprint",
    "train",
    "benchmark",
    "register",
    "promote",
)
BY_MARKET = ("ingest", "validate", "fingerprint")
KILLED = "it was killed, or the machine went down"


class Stage(NamedTuple):
    """One stage: its state in a word, when it began, how long it was at work, what went wrong.

    `state` is one of done, kept (nothing new to do), failed, running, waiting, missing. `faults`
    are why it failed, `again` what was tried again, `left_out` the markets the night goes without.
    """

    name: str
    state: str
    begun: dt.datetime | None
    seconds: float | None
    faults: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Night(NamedTuple):
    """The last night; `run` names Airflow's run, empty if it was run by hand.

    `state` is one of done, failed, running, stopped (it ended before its last stage).
    """

    as_of: str
    run: str
    state: str
    begun: dt.datetime
    seconds: float | None
    stages: tuple[Stage, ...]


class _Attempt(NamedTuple):
    """One try of a part of a stage: its begin, and its end if it has one."""

    begun: Line
    ended: Line | None

    @property
    def event(self) -> str:
        """Return done, kept, failed, or begun if it has no end."""
        return self.ended.event if self.ended else "begun"

    @property
    def reason(self) -> str:
        """Return why it has not come to a good end."""
        return self.ended.reason if self.ended else KILLED


Tries = dict[tuple[str, str], list[_Attempt]]


def last_night(paths: Paths, config: ATLASConfig) -> Night:
    """Return the night last begun, or the one last worked on stage by stage.

    Raises:
        HomeError: no night was ever begun in this home.
    """
    lines = diary.read(paths)
    if not lines:
        if paths.night.is_file():
            what = "Its last night ran before nights kept a diary; the next one stands here"
        else:
            what = f"No night has been run in {paths.home} yet"
        raise HomeError(f"{what}: run make nightly")
    begins = [k for k, line in enumerate(lines) if line.stage == diary.NIGHT]
    as_of = lines[begins[-1] if begins else -1].as_of
    own = [line for line in lines[begins[-1] if begins else 0 :] if line.as_of == as_of]
    head, tries = own[0], _tries(own)
    under_way = bool(begins) and diary.is_living(paths, head)
    names = ("begin", *STAGES) if any(stage == "begin" for stage, _ in tries) else STAGES
    stages = [_stage(name, tries, paths, config, under_way=under_way) for name in names]
    state = _state(stages, under_way=under_way)
    every = [one for own_tries in tries.values() for one in own_tries]
    seconds = None if state == "running" else _at_work(every)
    return Night(as_of, head.run, state, head.at, seconds, tuple(stages))


def _tries(lines: Sequence[Line]) -> Tries:
    """Return the attempts of every part of every stage, in order of time."""
    found: Tries = {}
    for line in lines:
        if line.stage == diary.NIGHT:
            continue
        own = found.setdefault((line.stage, line.part), [])
        if line.event == "begun":
            own.append(_Attempt(line, None))
        elif own and own[-1].ended is None:
            own[-1] = _Attempt(own[-1].begun, line)
    return {part: own for part, own in found.items() if own}


def _stage(name: str, tries: Tries, paths: Paths, config: ATLASConfig, *, under_way: bool) -> Stage:
    parts = {part: own for (stage, part), own in tries.items() if stage == name}
    last = {part: own[-1] for part, own in parts.items()}
    running = {
        part
        for part, one in last.items()
        if one.ended is None and diary.is_living(paths, one.begun)
    }
    left_out = {part for part in last if _is_left_out(tries, config, name, part)}
    bad = {part for part, one in last.items() if one.event in ("begun", "failed")}
    bad -= left_out | running
    if running:
        state = "running"
    elif bad:
        state = "failed"
    elif not _wanted(name, tries, config) <= set(last):
        state = "missing" if not under_way else "running" if last else "waiting"
    else:
        state = "kept" if {one.event for one in last.values()} == {"kept"} else "done"
    every = [one for own in parts.values() for one in own]
    return Stage(
        name,
        state,
        min((one.begun.at for one in every), default=None),
        _at_work(every) if every and not running else None,
        tuple(_said(part, last[part].reason) for part in last if part in bad),
        tuple(line for part, own in parts.items() if (line := _again(part, own))),
        tuple(_said(part, last[part].reason) for part in last if part in left_out),
    )


def _wanted(name: str, tries: Tries, config: ATLASConfig) -> set[str]:
    """Return the parts that a stage has to have had, without markets left out before it."""
    if name == "train":
        return set(VARIANTS)
    if name not in BY_MARKET:
        return {""}
    if any(stage == "train" for stage, _ in tries):
        return set()  # all markets of that night were through; params.yaml may have others by now
    before = BY_MARKET[: BY_MARKET.index(name)]
    return {
        market
        for market in config.markets
        if not any(_is_left_out(tries, config, stage, market) for stage in before)
    }


def _is_left_out(tries: Tries, config: ATLASConfig, stage: str, market: str) -> bool:
    """Return whether a market that the night can do without failed in a stage."""
    own = tries.get((stage, market))
    if stage not in BY_MARKET or not own or own[-1].event != "failed":
        return False
    return market in config.markets and not config.markets[market].required


def _again(part: str, own: Sequence[_Attempt]) -> str:
    """Say of a part that was tried more than once what was wrong before, else nothing."""
    if len(own) < 2 or own[-2].event not in ("begun", "failed"):
        return ""
    return _said(part, f"took {len(own)} tries; before the last, {own[-2].reason}")


def _said(part: str, reason: str) -> str:
    return f"{part}: {reason}" if part and not reason.startswith(part) else reason


def _at_work(tries: Sequence[_Attempt]) -> float:
    """Return the seconds in which at least one part was at work; killed parts count for nothing."""
    spans = sorted((one.begun.at, one.ended.at) for one in tries if one.ended)
    total, reached = 0.0, None
    for begun, ended in spans:
        begun = begun if reached is None else max(begun, reached)
        if ended > begun:
            total, reached = total + (ended - begun).total_seconds(), ended
    return total


def _state(stages: Sequence[Stage], *, under_way: bool) -> str:
    states = {stage.state for stage in stages}
    if under_way or "running" in states:
        return "running"
    if any(stage.faults for stage in stages):
        return "failed"
    return "done" if states <= {"done", "kept"} else "stopped"
