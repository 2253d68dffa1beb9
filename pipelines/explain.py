"""One page about a night: what ran, on which data, and why it was or was not promoted.

Everything comes from the registry (the night's runs, versions and decisions), so a night long past
is told as well as the last one. A night whose stages failed has no run; the page of such a night is
an error that lists the nights there are.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from atlas.benchmark import POOLED
from atlas.errors import ModelError
from pipelines import tracking
from pipelines.paths import Paths

__all__ = ["page"]

_SHORT = 12  # characters of a digest that tell it apart


def page(paths: Paths, night: str) -> list[str]:
    """Return the lines of a night's page.

    Args:
        night: an ISO date, or `last`.

    Raises:
        ModelError: no candidate was registered in that night.
    """
    client = tracking.open_registry(paths)
    versions = client.search_model_versions(f"name = '{tracking.MODEL}'")
    nights = sorted({version.tags["as_of"] for version in versions if "as_of" in version.tags})
    wanted = nights[-1] if night == "last" and nights else night
    own = [version for version in versions if version.tags.get("as_of") == wanted]
    if not own:
        known = ", ".join(nights[-10:]) or "none"
        raise ModelError(
            f"night {wanted}: no candidate was registered; nights with one: {known}. A night that "
            "stopped earlier left its reason in its log"
        )
    lines = [f"Night {wanted}"]
    for version in sorted(own, key=lambda one: int(one.version)):
        run = client.get_run(str(version.run_id))
        lines += ["", *_about(paths, run, version)]
    return lines


def _about(paths: Paths, run: Run, version: ModelVersion) -> list[str]:
    tags = version.tags
    began = pd.Timestamp(run.info.start_time, unit="ms", tz="UTC")
    losses = {
        name.removeprefix("validation_log_loss/"): value
        for name, value in run.data.metrics.items()
        if name.startswith("validation_log_loss/")
    }
    ranked = ", ".join(f"{name} {loss:.5f}" for name, loss in sorted(losses.items()))
    dirty = ", with changes that are not committed" if tags.get("git_dirty") == "true" else ""
    lines = [
        f"Version {version.version}, {tags['variant']}: best on validation ({ranked})",
        f"  registered {began:%Y-%m-%d %H:%M} UTC, run {run.info.run_id}",
        f"  data       {tags['data_version']}, source {tags['source']}",
        f"  code       commit {tags['git_commit'][:_SHORT]}{dirty}; digest {tags['code'][:_SHORT]}",
        f"  params     digest {tags['params'][:_SHORT]}; weights digest {tags['weights'][:_SHORT]}",
    ]
    lines += _table(run)
    return lines + _decision(tracking.told(tracking.open_registry(paths), version))


def _table(run: Run) -> list[str]:
    """Return the accuracy and log-loss of each model as means over markets, best first."""
    found = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/benchmark.json")
    table = pd.DataFrame(found["data"], columns=found["columns"])
    rows = table[table["market"] != POOLED].groupby("model")[["accuracy", "log_loss"]].mean()
    counts = table[table["market"] != POOLED].groupby("market")["n"].max()
    said = ", ".join(f"{market} {int(n)}" for market, n in counts.items())
    lines = [f"  test rows  {said}", "  results    mean over markets: accuracy, log-loss"]
    for model, row in rows.sort_values("log_loss").iterrows():
        lines.append(f"    {model!s:<12} {row['accuracy']:.4f}  {row['log_loss']:.5f}")
    return lines


def _decision(told: dict[str, Any] | None) -> list[str]:
    if told is None:
        return ["  decision   none: the night ended before promote did"]
    verdict = "promoted" if told["promoted"] else "not promoted"
    holder = told.get("champion_version")
    lines = [f"  decision   {verdict}; champion: {f'version {holder}' if holder else 'none'}"]
    lines.append(f"  why        {told['reason']}")
    slope = told["figures"].get("recalibration_slope") or {}
    if slope.get("value") is not None:
        lines.append(
            f"  slope      {slope['value']:.2f} [{slope['low']:.2f}, {slope['high']:.2f}], "
            "1 is honest"
        )
    for market, own in told["figures"].get("markets", {}).items():
        pairs = ", ".join(f"{name} {value:.6g}" for name, value in own.items())
        lines.append(f"    {market:<14} {pairs}")
    return lines
