"""Evidence that grows night by night and may be looked at every night: an e-process of bets.

- A session's mean loss difference, clipped to a bound, is a bet with a known worst case. Staking a
  fixed share λ of one's money on "the challenger is better" every session gives Π(1 + λ·x); the
  mean over several λ is the money of someone who could not decide. If the challenger is not better
  (the mean of x is ≤ 0 given the past), that money is a nonnegative supermartingale: it ever
  reaches 20 with a chance of at most 1/20 (Ville, 1939). So one may stop at any night.
- The bets and their mixture are those of Waudby-Smith and Ramdas (2024), "Estimating means of
  bounded random variables by betting", §4; comparing forecasters so is Henzi and Ziegel (2022)
  and Choe and Ramdas (2023).
- The unit of a bet is small where the differences of past sessions were small. It uses the past
  alone, so the bet stays fair; without it a bound wide enough for every pair would make the
  stakes of an intraday pair, whose session means hardly differ, too small to ever prove anything.
- Clipping is what makes the proof hold without an assumption about tails; the price is that it is
  about clipped differences. Whoever decides looks at the plain mean too (`pipelines.promote`).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["STAKES", "WARM_UP", "WIDTHS", "evidence", "log_evidence", "units"]

Floats = NDArray[np.float64]
STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)  # of one's money; 1 could lose all of it in a session
WIDTHS = 4.0  # root mean squares of past sessions in a unit: few sessions are clipped
WARM_UP = 10  # sessions before the past says how large a difference is usual


def units(gains: Floats, bound: float) -> Floats:
    """Return what counts as 1 in each session's bet, (T,): min(bound, 4 · RMS of the past).

    Args:
        gains: how much less the challenger lost in each session (T,), nats, in order of time.
        bound: the largest difference that counts, nats; the unit of the first ten sessions.
    """
    clipped = np.clip(np.asarray(gains, np.float64), -bound, bound)
    before = np.arange(clipped.size)
    squares = np.concatenate([[0.0], np.cumsum(clipped**2)])[:-1]
    usual = WIDTHS * np.sqrt(squares / np.maximum(before, 1))
    return np.where(before < WARM_UP, bound, np.minimum(usual, bound))


def log_evidence(gains: Floats, *, bound: float) -> Floats:
    """Return the log of the e-process after each session, (T,).

    Args:
        gains: as `units`; not finite is refused by the caller, who made them.
        bound: as `units`, above 0.

    Example:
        Ten sessions at the bound: log(mean of (1 + λ)^10) = log(79.3), a proof.
    """
    gains = np.asarray(gains, np.float64)
    if gains.size == 0:
        return np.zeros(0)
    unit = units(gains, bound)
    x = np.divide(gains, unit, out=np.zeros_like(gains), where=unit > 0)  # alike so far: no bet
    x = np.clip(x, -1, 1)
    money = np.cumsum(np.log1p(np.outer(x, STAKES)), axis=0)  # (T, λ)
    return np.asarray(np.logaddexp.reduce(money, axis=1) - np.log(len(STAKES)))


def evidence(gains: Floats, *, bound: float) -> float:
    """Return the e-process after the last session; 1 before the first.

    At e ≥ 20 "the challenger is not better" is refused at the level of 5 %, whenever one looks.
    Values are capped at 10^12.
    """
    path = log_evidence(gains, bound=bound)
    return float(np.exp(min(path[-1], np.log(1e12)))) if path.size else 1.0
