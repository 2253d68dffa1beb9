"""How good the best of many looks by luck alone, and what is left of a figure after that.

Whoever tries N models on one test span and shows the best shows the largest of N draws. With no
skill at all its normal score would still be about `expected_maximum(N)`. Trials on one span are
alike, so N counts too many and the correction is, if anything, too strict.
"""

import numpy as np
from scipy.stats import norm

from atlas.errors import DataError

__all__ = ["deflated_p", "deflated_probability", "expected_maximum", "normal_score"]

_P_FLOOR = 1e-300  # the normal score of a p-value of 0 is not infinite


def expected_maximum(trials: int) -> float:
    """Return about how large the largest of `trials` standard normal draws is on average.

    (1 − γ)·Φ⁻¹(1 − 1/N) + γ·Φ⁻¹(1 − 1/(N·e)), γ Euler's constant (Bailey and López de Prado,
    2014); 0 for one trial.

    Raises:
        DataError: there is no trial.

    >>> round(expected_maximum(100), 2)
    2.53
    """
    if trials < 1:
        raise DataError(f"expected at least one trial, the model itself; got {trials}")
    if trials == 1:
        return 0.0
    ends = norm.ppf([1 - 1 / trials, 1 - 1 / (trials * np.e)])
    return float((1 - np.euler_gamma) * ends[0] + np.euler_gamma * ends[1])


def normal_score(value: float, p_value: float) -> float:
    """Return the normal score of a two-sided test: above 0 where `value`, a loss, is below 0.

    It keeps the test's own degrees of freedom: of few sessions a large t is no large score.

    >>> round(normal_score(-0.01, 0.05), 2)
    1.96
    """
    score = float(norm.isf(max(p_value, _P_FLOOR) / 2))
    return score if value < 0 else -score


def deflated_probability(score: float, trials: int) -> float:
    """Return Φ(score − expected maximum): how sure skill is, for the best of `trials`.

    The deflated Sharpe ratio (Bailey and López de Prado, 2014) of a normal score, whose spread
    over skill-less trials is 1. Above .95 is taken for skill.

    >>> round(deflated_probability(2.0, 1), 3), round(deflated_probability(2.0, 100), 3)
    (0.977, 0.298)
    """
    return float(norm.cdf(score - expected_maximum(trials)))


def deflated_p(p_value: float, trials: int) -> float:
    """Return the chance that the least of `trials` p-values is as small (Šidák, 1967).

    >>> round(deflated_p(0.01, 10), 4)
    0.0956
    """
    if trials < 1:
        raise DataError(f"expected at least one trial, the model itself; got {trials}")
    return float(-np.expm1(trials * np.log1p(-min(p_value, 1 - 1e-16))))
