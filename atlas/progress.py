"""What a training reports while it runs, and what it ends with: plain numbers."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["EpochResult", "Meter", "Progress", "TrainingResult"]

MEMORY = 0.95  # of the running figures: about the last twenty steps


class Progress(NamedTuple):
    """One finished step, from 1; running loss and accuracy; the experts' shares of load (E,)."""

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float
    load: tuple[float, ...]


class EpochResult(NamedTuple):
    """One epoch: mean training figures, and validation's means over markets.

    `validation_loss` is what early stopping watches: log-loss plus the weighted squared error of
    log RV, in units of each market's spread.
    """

    epoch: int
    step: int
    loss: float
    accuracy: float
    load: tuple[float, ...]
    validation_loss: float
    validation_log_loss: float
    validation_accuracy: float
    validation_squared_error: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished training; the model itself holds the weights of its best epoch.

    `history` has one entry per epoch; `markets` holds for each market what calibration found on
    its validation windows.
    """

    steps: int
    best_epoch: int
    history: tuple[EpochResult, ...]
    markets: dict[str, dict[str, Any]]


class Meter:
    """Means of an epoch's figures, and running ones for whoever watches."""

    def __init__(self) -> None:
        self._steps = 0
        self._sum = np.zeros(2)
        self._running = np.zeros(2)
        self._load = np.zeros(0)
        self._running_load = np.zeros(0)

    def add(self, loss: float, hits: float, load: npt.NDArray[np.integer]) -> None:
        """Take in one step.

        Args:
            loss: of the step.
            hits: share of its known directions that were called rightly, NaN for none.
            load: examples routed to each expert (E,).
        """
        share = load / max(float(load.sum()), 1.0)
        if not self._steps:
            self._load, self._running_load = np.zeros_like(share), np.zeros_like(share)
        figures = np.array([loss, 0.5 if math.isnan(hits) else hits])
        self._steps += 1
        self._sum += figures
        self._load += share
        self._running = MEMORY * self._running + (1 - MEMORY) * figures
        self._running_load = MEMORY * self._running_load + (1 - MEMORY) * share

    def running(self) -> tuple[float, float, tuple[float, ...]]:
        """Return loss, accuracy and load of about the last twenty steps."""
        known = 1 - MEMORY**self._steps
        loss, accuracy = self._running / known
        return float(loss), float(accuracy), tuple((self._running_load / known).tolist())

    def mean(self) -> tuple[float, float, tuple[float, ...]]:
        """Return loss, accuracy and load of all steps."""
        loss, accuracy = self._sum / max(self._steps, 1)
        return float(loss), float(accuracy), tuple((self._load / max(self._steps, 1)).tolist())
