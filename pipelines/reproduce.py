"""Train a registered version again, from its own commit, data and parameters; compare the bytes.

- Registering leaves reproduction.json with the run: the night's parameters in their order, tuned
  settings, pre-trained kernels, the environment, and the digests of what the night wrote for the
  version. Its own digest stands in the version's tags.
- The code comes from git (`git archive`, which leaves no trace in the repository) and must have the
  digest that the version was trained with, so a version of uncommitted code is refused. The data
  come from DVC's remote by the data.dvc that the version carries.
- Stages run as that commit's own programs in a folder of their own, and skip what they have done,
  so a reproduction that was killed goes on. It is removed when all is the same, and left for
  inspection when it is not.
"""

import configparser
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from atlas.config import ATLASConfig
from atlas.errors import HomeError, ModelError
from pipelines import environment, home, launch, pretrained, stamps, tracking, tuned, warm
from pipelines.files import digest, read_json, write_bytes, write_json
from pipelines.paths import PROJECT, Paths

__all__ = ["RECORD", "Finding", "record", "run"]

RECORD = "reproduction.json"
_CODE = ("atlas", "pipelines", "requirements.lock")  # what stamps.code_digest covers, and runs
_OF_MODEL = (
    "config.json",
    "history.json",
    "metrics.json",
    "model.safetensors",
    "predictions.parquet",
)


class Finding(NamedTuple):
    """One thing that was compared: a file by its digest, or a metric by its value."""

    name: str
    recorded: Any
    found: Any

    @property
    def is_same(self) -> bool:
        """Whether the reproduction has the very same."""
        return bool(self.recorded == self.found)


def record(paths: Paths, config: ATLASConfig, variant: str) -> bytes:
    """Return reproduction.json of a night's candidate, before it is registered."""
    settled = tuned.resolved(paths, config)
    chosen = tuned.artifacts(paths).get(settled.tuning)
    kernels = read_json(paths.model(variant) / "config.json")["config"]["pretraining"]
    named = {"tuning": settled.tuning, "pretraining": kernels}
    found = {
        "params": {**config.model_dump(mode="json"), **named},
        "tuned": chosen,
        "pretrained": pretrained.packed(paths, kernels),
        "environment": environment.recorded(config.training.threads),
        "digests": _digests(paths, variant),
        "metrics": _metrics(paths, variant),
    }
    return json.dumps(found, indent=2, allow_nan=False).encode()  # markets keep their order


def run(paths: Paths, version: str, *, work: Path) -> tuple[list[Finding], list[str]]:
    """Reproduce a version; return what was compared, and how this environment differs.

    Args:
        paths: the home with the registry, whose DVC configuration names the remote.
        version: its number or an alias.
        work: a folder to do it in; kept if something differs.

    Raises:
        ModelError: the version carries no record or one that was changed, its commit is unknown
            here, or the commit is not the code that trained it, or a stage failed.
        HomeError: the data cannot be pulled.
    """
    held = tracking.resolve(paths, version)
    known = _record_of(paths, held)
    folder = work / f"{held.version}-{held.tags['key'][:12]}"
    code, there = folder / "code", Paths(folder / "home")
    _check_out(held, code)
    _prepare(paths, there, held, known)
    _pull(there)
    params = folder / "params.json"  # JSON is YAML
    write_bytes(params, json.dumps(known["params"], indent=2).encode())
    for stage in _stages(held, known):
        _run_stage(code, there, params, held, stage, known["params"]["training"]["threads"])
    variant = held.tags["variant"]
    findings = _compared(known["digests"], _digests(there, variant))
    findings += _compared(known["metrics"], _metrics(there, variant))
    here = environment.recorded(known["params"]["training"]["threads"])
    if all(finding.is_same for finding in findings):
        shutil.rmtree(folder)
    return findings, environment.differences(known["environment"], here)


def _record_of(paths: Paths, held: ModelVersion) -> dict[str, Any]:
    wanted = held.tags.get(tracking.REPRODUCTION)
    if wanted is None:
        raise ModelError(
            f"version {held.version} was registered by an ATLAS that kept no {RECORD}: it can be "
            f"asked, but not reproduced; its commit is {held.tags.get('git_commit', 'unknown')}"
        )
    client = tracking.open_registry(paths)
    address = f"{client.get_run(str(held.run_id)).info.artifact_uri}/{RECORD}"
    content = Path(mlflow.artifacts.download_artifacts(artifact_uri=address)).read_bytes()
    came = hashlib.sha256(content).hexdigest()
    if came != wanted:
        raise ModelError(
            f"{RECORD} of version {held.version} was changed: expected digest {wanted}, got {came}"
        )
    found: dict[str, Any] = json.loads(content)
    return found


def _check_out(held: ModelVersion, code: Path) -> None:
    """Put the version's commit at `code`, and make sure that it is what trained the version."""
    commit = held.tags["git_commit"]
    if not code.is_dir():
        scratch = code.with_name("code.part")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(_archive(held, commit))) as archive:
            archive.extractall(scratch, filter="data")
        scratch.rename(code)
    came = stamps.code_digest_of(code)
    if came != held.tags["code"]:
        shutil.rmtree(code)
        raise ModelError(
            f"version {held.version}: expected commit {commit} to hold the code with digest "
            f"{held.tags['code'][:12]}, got {came[:12]}: it was trained with changes that were "
            f"never committed (dirty: {held.tags['git_dirty']}), so nobody can train it again"
        )


def _archive(held: ModelVersion, commit: str) -> bytes:
    command = ["git", "-C", str(PROJECT), "archive", "--format=tar", commit, "--", *_CODE]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        raise ModelError("git: expected the program on the PATH, got none: install it") from None
    if done.returncode != 0:
        raise ModelError(
            f"version {held.version}: commit {commit} is unknown to this repository: fetch it "
            f"(`git fetch --all`) or run this in a clone that has it: "
            f"{done.stderr.decode().strip()}"
        )
    return done.stdout


def _prepare(paths: Paths, there: Paths, held: ModelVersion, known: dict[str, Any]) -> None:
    """Lay data.dvc, the remote, the binding, tuned settings and kernels into a new home."""
    if not held.tags["data_dvc"]:
        raise ModelError(f"version {held.version} carries no data.dvc: no snapshot was taken")
    write_bytes(there.data_dvc, held.tags["data_dvc"].encode())
    settings = configparser.ConfigParser(interpolation=None)
    places = (paths.home / ".dvc" / "config", paths.home / ".dvc" / "config.local")
    settings.read(places)
    for section in settings.sections():
        url = settings.get(section, "url", fallback=None)
        if url is not None and "://" not in url:
            settings[section]["url"] = str((paths.home / ".dvc" / url).resolve())
    if not settings.has_section("core"):
        raise HomeError(f"{paths.home / '.dvc'}: expected DVC's configuration with a remote")
    settings["core"]["no_scm"] = "True"
    (there.home / ".dvc").mkdir(exist_ok=True, parents=True)
    config = there.home / ".dvc" / "config"
    with os.fdopen(os.open(config, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        settings.write(file)  # it may hold a password, as config.local does
    bound = home.binding(paths)
    folder = str(bound.folder) if bound and bound.folder else None
    write_json(there.binding, {"source": held.tags["source"], "folder": folder})
    _lay_parent(paths, there, held)
    if known["tuned"]:
        write_json(there.tuning / f"{known['tuned']['id']}.json", known["tuned"])
    if known.get("pretrained"):  # versions of before kernels could be pre-trained have none
        pretrained.unpack(there, known["pretrained"])


def _lay_parent(paths: Paths, there: Paths, held: ModelVersion) -> None:
    """Lay the version that a warm start began from into the new home, if there was one."""
    parent = held.tags.get("parent_version", "none")
    if parent == "none":
        return
    try:
        files = tracking.files_of(paths, tracking.resolve(paths, parent)) / "artifacts"
        came = digest(files / "model.safetensors")
    except (ModelError, OSError) as error:
        raise ModelError(
            f"version {held.version} was trained from the weights of version {parent}, which "
            f"cannot be had: {error}"
        ) from None
    if came != held.tags["parent_weights"]:
        raise ModelError(
            f"version {held.version} was trained from version {parent} with the weights "
            f"{held.tags['parent_weights'][:12]}; that version now has {came[:12]}"
        )
    warm.lay(there, parent, files)


def _pull(there: Paths) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "pull", "data.dvc"],
        cwd=there.home,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise HomeError(f"dvc pull failed: {' '.join(said) or done.stderr.strip()[-1000:]}")


def _stages(held: ModelVersion, known: dict[str, Any]) -> list[list[str]]:
    """Return the commands that lead from bars to the version."""
    params, names = known["params"], known["digests"]
    markets = [name for name in params["markets"] if f"fingerprints/{name}.parquet" in names]
    of_all: list[list[str]] = [[]] if len(markets) == len(params["markets"]) else []
    chosen = of_all or [["--market", market] for market in markets]
    stages = [["truth"]]
    stages += [[stage, *which] for stage in ("validate", "fingerprint") for which in chosen]
    return [*stages, ["train", "--variant", held.tags["variant"]]]


def _run_stage(
    code: Path, there: Paths, params: Path, held: ModelVersion, stage: list[str], threads: int
) -> None:
    command = [sys.executable, "-m", "pipelines", *stage, "--home", str(there.home)]
    command += ["--params", str(params), "--as-of", held.tags["as_of"]]
    seen = {**launch.child_environment(threads), "PYTHONPATH": str(code)}
    deque(launch.stream(command, seen, f"reproduce: {' '.join(stage)}", folder=code), 0)


def _digests(paths: Paths, variant: str) -> dict[str, str]:
    """Return the digests of what the version stands on, by place within artifacts/."""
    files = [paths.model(variant) / name for name in _OF_MODEL]
    for folder in ("fingerprints", "quarantine", "truth"):
        files += sorted((paths.artifacts / folder).glob("*.parquet"))
    return {str(p.relative_to(paths.artifacts)): digest(p) for p in files if p.is_file()}


def _metrics(paths: Paths, variant: str) -> dict[str, float]:
    path = paths.model(variant) / "metrics.json"
    flat = pd.json_normalize(read_json(path)).iloc[0].to_dict() if path.is_file() else {}
    return {str(n): float(v) for n, v in flat.items() if isinstance(v, (int, float)) and v == v}


def _compared(then: dict[str, Any], now: dict[str, Any]) -> list[Finding]:
    return [Finding(name, then.get(name), now.get(name)) for name in sorted(set(then) | set(now))]
