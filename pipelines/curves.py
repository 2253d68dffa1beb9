"""Turn a training's history into curves for MLflow: losses and expert load, a point an epoch."""

import math
from collections.abc import Iterable

from mlflow.entities import Metric

from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["metrics"]

_CURVES = ("loss", "accuracy", "validation_loss", "validation_log_loss", "validation_accuracy")


def metrics(paths: Paths, variants: Iterable[str], now: int) -> list[Metric]:
    """Return `curve/<variant>/<figure>` and `load/<variant>/<expert>`, step being the epoch.

    The second member of an ensemble is called `<variant>-2`, and so on.

    Args:
        paths: the home; a variant without a history is passed over.
        variants: trained tonight.
        now: milliseconds, the time given to every point.
    """
    found = []
    for variant in variants:
        folder = paths.model(variant)
        if not (folder / "history.json").is_file():
            continue
        moe = read_json(folder / "config.json")["config"]["moe"]
        experts = moe["experts"] if moe["enabled"] else ["equity_daily"]
        for epoch in read_json(folder / "history.json"):
            place = epoch["member"]
            name_of = variant if place == 1 else f"{variant}-{place}"
            points = {f"curve/{name_of}/{name}": epoch[name] for name in _CURVES}
            if variant.startswith("moe"):
                loads = zip(experts, epoch["load"], strict=True)
                points |= {f"load/{name_of}/{expert}": share for expert, share in loads}
            step = int(epoch["epoch"])
            found += [Metric(k, float(v), now, step) for k, v in points.items() if _finite(v)]
    return found


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
