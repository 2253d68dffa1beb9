"""One night: which home, which source, which as_of, and the order of the stages.

A night is its `as_of`, a midnight in UTC. On the simulated home it is `simulated.as_of` unless
another date is given; an archive's night is its latest last bar, and never a later one; that of
live sources is the last midnight. The night last begun stands in artifacts/night.json, so that a
stage run alone goes on with it.
"""

import datetime as dt
import importlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from atlas.config import LIVE_SOURCES, ATLASConfig
from atlas.errors import AtlasError, ConfigError, DataError, GateError, HomeError
from pipelines import claim, diary, home
from pipelines.files import read_json
from pipelines.paths import PROJECT, Paths

__all__ = [
    "VARIANTS",
    "Night",
    "alone",
    "commit_outputs",
    "night_as_of",
    "open_night",
    "prepare",
    "read_config",
    "run_all",
    "stage",
]

VARIANTS = ("cnn", "moe_rule", "moe_mlp")
AHEAD_DAYS = 3_653  # ten years of nights past simulated.as_of; a typing error asks for more
_BY_MARKET = ("validate", "fingerprint")
log = logging.getLogger(__name__)
Say = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Night:
    """Everything a stage is handed."""

    paths: Paths
    config: ATLASConfig
    as_of: pd.Timestamp
    folder: Path | None


class _Unambiguous(yaml.SafeLoader):
    """YAML in which a key stands once: of two, one would be dropped without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing a key that stands twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"key {min(twice)!r} stands twice in the mapping of line {line}")
        return super().construct_mapping(node, deep)


def read_config(params: Path, *, source: str | None = None) -> ATLASConfig:
    """Read params.yaml and check it.

    Raises:
        ConfigError: naming the file or the key.
    """
    try:
        values = yaml.load(params.read_text(encoding="utf-8"), _Unambiguous)  # noqa: S506, a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{params}: cannot be read: {error}; give --params FILE") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{params}: is not sound YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{params}: expected a mapping of keys, got {type(values).__name__}")
    config = ATLASConfig.parse({**values, "source": source} if source else values)
    if config.moe.gate not in ("rule", "mlp"):
        raise ConfigError(
            f"{params}: moe.gate: expected rule or mlp, whose candidates a night trains; got "
            f"{config.moe.gate!r}, an ablation that `atlas.build_model` builds"
        )
    return config


def open_night(
    home_dir: Path | None,
    params: Path | None,
    *,
    source: str | None = None,
    folder: Path | None = None,
    as_of: str | None = None,
    begins: bool = True,
    binds: bool = True,
    trains: bool = False,
    asks: bool = False,
) -> Night:
    """Check the input and give the night, writing nothing but the home's binding.

    Args:
        home_dir: the home; by default the project if all markets are simulated, else
            var/home-<source>, so that real bars never enter the project's data.dvc.
        params: params.yaml; by default the project's.
        source: of markets without one of their own; by default the home's binding, else params.
        folder: the archive, for the source `files`.
        as_of: an ISO date; see the module's head for the default.
        begins: whether a night begins here: an archive is then read through and checked. If not,
            the default is the night that was begun last.
        binds: whether to bind the home; a dry run leaves nothing behind.
        trains: whether the night is to go as far as training, which takes enough history.
        asks: whether the home is only asked about its past: there must have been one, and nothing
            is written.

    Raises:
        AtlasError: naming what is wrong with the input.
    """
    params = params or PROJECT / "params.yaml"
    if folder is not None and source is None:
        source = "files" if "files" not in read_config(params).sources() else None
    if home_dir is None:
        home_dir = _usual_home(read_config(params, source=source))
    paths = Paths(home_dir.expanduser().resolve())
    bound = home.binding(paths)
    if asks and bound is None:
        raise HomeError(_never_begun(paths))
    chosen = source or (bound.source if bound else None)
    config = read_config(params, source=chosen)
    if folder is not None and "files" not in config.sources():
        raise ConfigError(f"a folder of bars is for the source 'files', not for {config.source!r}")
    folder = folder.expanduser().resolve() if folder else (bound.folder if bound else None)
    if "files" in config.sources() and folder is None:
        raise ConfigError("the source 'files' needs a folder: give --data DIR (make: DATA=DIR)")
    if bound and (bound.source, bound.folder) != (config.source, folder):
        home.bind(paths, config.source, folder)  # raises, naming both
    if not begins and as_of is None and paths.night.is_file():
        as_of = str(read_json(paths.night)["as_of"])
    night = night_as_of(config, folder, as_of, begins=begins)
    if trains:
        _require_training(config, folder, night)
    try:
        if binds and not asks:
            home.bind(paths, config.source, folder)
    except OSError as error:
        raise HomeError(f"home {paths.home}: cannot be written: {error}") from None
    return Night(paths, config, night, folder)


def _never_begun(paths: Paths) -> str:
    return (
        f"home {paths.home}: expected a home in which a night has begun, with var/home.json; "
        "there is none: correct --home, or run a night there first"
    )


def _require_training(config: ATLASConfig, folder: Path | None, night: pd.Timestamp) -> None:
    from pipelines import reach  # heavy, as a source is

    reach.require(config, folder, night)
    reach.require_models(config)


def night_as_of(
    config: ATLASConfig, folder: Path | None, as_of: str | None, *, begins: bool = True
) -> pd.Timestamp:
    """Return the night's midnight in UTC; an archive is checked on the way if a night `begins`."""
    try:
        wanted = pd.Timestamp(dt.date.fromisoformat(as_of), tz="UTC") if as_of else None
    except ValueError:
        raise ConfigError(f"as_of {as_of!r}: expected a date such as 2026-11-20") from None
    if "files" in config.sources() and begins:
        _check_archive(config, folder)
    if config.source == "simulated":
        return _simulated_as_of(config, wanted)
    if config.source in LIVE_SOURCES:
        return _live_as_of(wanted)
    if wanted is not None and not begins:
        return wanted
    from pipelines.sources import files

    assert folder is not None
    end = files.archive_as_of(folder, config)
    return min(wanted, end) if wanted is not None else end


def _usual_home(config: ATLASConfig) -> Path:
    if config.sources() <= {"simulated"}:
        return PROJECT
    mixed = config.source == "simulated"  # some markets only
    return PROJECT / "var" / f"home-{'mixed' if mixed else config.source}"


def _check_archive(config: ATLASConfig, folder: Path | None) -> None:
    from pipelines.sources import files

    assert folder is not None
    files.check(folder, config)
    files.check_rows(folder, config)


def _live_as_of(wanted: pd.Timestamp | None) -> pd.Timestamp:
    """Return the night, which has come: no live source knows bars of the future."""
    last = pd.Timestamp(dt.datetime.now(dt.UTC)).floor("D")
    if wanted is not None and wanted > last:
        raise ConfigError(
            f"as_of {wanted.date()}: expected a night that has come, not after {last.date()}"
        )
    return wanted if wanted is not None else last


def _simulated_as_of(config: ATLASConfig, wanted: pd.Timestamp | None) -> pd.Timestamp:
    """Return the night, which lies within the simulated histories or not long after them."""
    usual = pd.Timestamp(config.simulated.as_of, tz="UTC")
    if wanted is None:
        return usual
    name, size = min(config.simulated.markets.items(), key=lambda item: item[1].sessions)
    first = usual - pd.Timedelta(days=size.sessions)
    last = usual + pd.Timedelta(days=AHEAD_DAYS)
    if not first < wanted <= last:
        raise ConfigError(
            f"as_of {wanted.date().isoformat()}: expected a date after {first.date()}, where the "
            f"simulated {name} begins, and not after {last.date()}"
        )
    return wanted


@contextmanager
def alone(paths: Paths, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the home: no other night, by hand or by a scheduler, runs in it meanwhile.

    Args:
        wait_s: how long to wait for another night by hand, seconds.

    Raises:
        HomeError: another night has it; it says which.
    """
    with home.night_lock(paths, wait_s=wait_s):
        claim.refuse(paths)
        yield


def run_all(night: Night, say: Say) -> dict[str, Any]:
    """Run every stage of a night in this process, one night at a time for a home.

    A market that fails its gate does not stop the others from being validated; if it is required,
    nothing is trained after that.

    Raises:
        AtlasError: the first reason why the night cannot go on.
    """
    with alone(night.paths):
        diary.begin_night(night.paths, str(night.as_of.date()))
        prepare(night, say)
        for variant in VARIANTS:
            say(f"train {variant}", stage("train", night, variant=variant))
        say("benchmark", stage("benchmark", night))
        commit_outputs(night)
        say("register", stage("register", night))
        result = stage("promote", night)
        say("promote", result)
        return result


def prepare(night: Night, say: Say) -> None:
    """Bring the night's bars as far as their fingerprints; the caller holds the home.

    Raises:
        AtlasError: a required market cannot be had or failed its gate.
    """
    markets = list(night.config.markets)
    failed = [error for market in markets if (error := _ingest(night, market, say))]
    if failed:
        raise failed[0]
    say("snapshot", stage("snapshot", night))
    failed = [error for market in markets if (error := _gate(night, market, say))]
    if failed:
        raise GateError("\n".join(str(error) for error in failed))


def stage(name: str, night: Night, **extra: Any) -> dict[str, Any]:
    """Run one stage by its name, and tell the home's diary of it."""
    part = str(extra.get("market") or extra.get("variant") or "")
    with diary.told(night.paths, str(night.as_of.date()), name, part) as telling:
        if name == "ingest":
            extra["folder"] = night.folder
        module = importlib.import_module(f"pipelines.{name}")
        summary: dict[str, Any] = module.run(night.paths, night.config, as_of=night.as_of, **extra)
        telling.kept = bool(summary.get("skipped"))
    return summary


def commit_outputs(night: Night) -> bool:
    """Record in dvc.lock what the night wrote, so that `dvc repro` has nothing left to do.

    A market that was left out has no outputs and is passed over. Only the project's home has a
    dvc.yaml; elsewhere nothing is done. Returns whether it ran.
    """
    paths = night.paths
    if not (paths.home / "dvc.yaml").is_file():
        return False
    present = [market for market in night.config.markets if paths.fingerprints(market).is_file()]
    stages = ["truth", *(f"{name}@{market}" for name in _BY_MARKET for market in present)]
    stages += [*(f"train@{variant}" for variant in VARIANTS), "benchmark"]
    command = [sys.executable, "-m", "dvc", "commit", "-f", "-q", *stages]
    done = subprocess.run(command, cwd=paths.home, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HomeError(f"dvc commit failed: {done.stderr.strip()[-500:]}")
    return True


def _ingest(night: Night, market: str, say: Say) -> AtlasError | None:
    try:
        say(f"ingest {market}", stage("ingest", night, market=market))
    except DataError as error:
        return _left_out(night, market, error)
    return None


def _gate(night: Night, market: str, say: Say) -> AtlasError | None:
    try:
        say(f"validate {market}", stage("validate", night, market=market))
        say(f"fingerprint {market}", stage("fingerprint", night, market=market))
    except DataError as error:
        return _left_out(night, market, error)
    return None


def _left_out(night: Night, market: str, error: AtlasError) -> AtlasError | None:
    """Return the error if the night needs this market; else say that it goes on without."""
    if night.config.markets[market].required:
        return error
    log.warning("%s is left out of this night: %s", market, error)
    return None
