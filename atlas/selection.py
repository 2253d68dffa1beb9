"""What a model is worth when it may stay silent: risk against coverage (Geifman, El-Yaniv, 2017).

- Confidence is |probability − ½|. The curve calls the surest rows first.
- A threshold that is chosen on the rows it is judged on flatters: it is fixed on validation rows
  and then applied as it is. So the coverage that comes out is a result too, and is shown.
- Equal confidences stay together: a model that always says the same covers all or nothing.
"""

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from atlas.errors import DataError
from atlas.metrics import hits

__all__ = [
    "RISK_COLUMNS",
    "Selected",
    "confidence_threshold",
    "risk_coverage",
    "selected_accuracy",
]

Floats = NDArray[np.float64]
RISK_COLUMNS: Final = ("coverage", "threshold", "accuracy")


class Selected(NamedTuple):
    """How a model does on the rows it is sure enough of.

    Attributes:
        accuracy: share of right calls among them, NaN if there is none.
        coverage: their share of all rows.
        n: how many.
    """

    accuracy: float
    coverage: float
    n: int


def confidence_threshold(probability: Floats, coverage: float) -> float:
    """Return the confidence that at most a share `coverage` of validation rows reaches.

    Where many rows are equally sure, it is the least that covers that share: all of them count.

    Args:
        probability: of the validation rows, (B,).
        coverage: in (0, 1].

    Raises:
        DataError: there is no row, or the share is not in (0, 1].

    >>> confidence_threshold(np.array([0.5, 0.6, 0.3, 0.9]), 0.5)
    0.2
    """
    sure = _confidence(probability)
    if sure.size == 0 or not 0 < coverage <= 1:
        raise DataError(
            f"expected at least one validation row and a coverage in (0, 1]; got {sure.size} rows "
            f"and {coverage}: check the market's cut"
        )
    kept = max(int(np.floor(coverage * sure.size + 1e-9)), 1)
    return float(np.sort(sure)[::-1][kept - 1])


def selected_accuracy(y: Floats, probability: Floats, threshold: float) -> Selected:
    """Judge the rows whose confidence reaches a threshold that other rows fixed.

    Args:
        y: 0 or 1, or the known probability, (B,).
        probability: of up, (B,).
        threshold: from `confidence_threshold` on validation rows of the same market and model.
    """
    kept = _confidence(probability) >= threshold
    n = int(kept.sum())
    right = hits(np.asarray(y)[kept], np.asarray(probability)[kept])
    share = n / kept.size if kept.size else float("nan")
    return Selected(float(right.mean()) if n else float("nan"), share, n)


def risk_coverage(y: Floats, probability: Floats, *, points: int = 50) -> pd.DataFrame:
    """Return the accuracy of the surest rows for growing shares of them.

    Every point is a threshold, so equally sure rows enter together and there may be fewer points.

    Returns:
        `RISK_COLUMNS`, coverage ascending to 1; the risk is 1 − accuracy. No rows, no points.
    """
    y, probability = np.asarray(y, np.float64), np.asarray(probability, np.float64)
    order = np.argsort(-_confidence(probability), kind="stable")
    sure, right = _confidence(probability)[order], hits(y, probability)[order]
    ends = np.flatnonzero(np.append(sure[:-1] != sure[1:], True)) if sure.size else order
    wanted = np.searchsorted(ends + 1, sure.size * np.arange(1, points + 1) / points)
    ends = ends[np.unique(wanted.clip(max=max(ends.size - 1, 0)))] if ends.size else ends
    share = np.cumsum(right)[ends] / (ends + 1)
    columns = ((ends + 1) / max(sure.size, 1), sure[ends], share)
    return pd.DataFrame(dict(zip(RISK_COLUMNS, columns, strict=True)))


def _confidence(probability: Floats) -> Floats:
    # rounded: .9 − .5 and .5 − .1 differ in the last bit and mean the same
    return np.asarray(np.round(np.abs(np.asarray(probability, np.float64) - 0.5), 12))
