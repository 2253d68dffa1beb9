"""Shares of the ceilings: hand-computed, their errors sized by simulation, bugs refused."""

import numpy as np
import pytest

from atlas.errors import DataError, ModelError
from atlas.shares import (
    Share,
    Shares,
    Windows,
    check_shares,
    model_shares,
    paired_gain,
    too_easy,
)


def _market(seed: int, *, paths: int = 40, skill: float = 0.6, each: int = 50) -> Windows:
    """Paths of two laws, told apart by luck; the model knows `skill` of the informed logit."""
    rng = np.random.default_rng(seed)
    path = np.repeat(np.arange(paths), each)
    logit = rng.standard_normal(paths * each)
    level = np.repeat(rng.uniform(0.3, 1.7, paths), each)  # a path's law is strong or weak
    p = 1 / (1 + np.exp(-level * logit))
    noise = rng.standard_normal(paths * each)
    q = 1 / (1 + np.exp(-(skill * logit + (1 - skill) * noise)))
    return Windows(p, q, 1 / (1 + np.exp(-logit)), path)


def test_shares_are_ratios_of_sums_averaged_over_markets() -> None:
    """By hand: two windows right of three by lift, half the gain where q is halfway."""
    p, path = np.array([0.8, 0.6, 0.3]), np.array([0, 1, 1])
    rows = Windows(p, np.array([0.9, 0.4, 0.4]), p, path)
    found = model_shares({"one": rows, "two": rows._replace(q=p)})
    assert found.bayes_lift.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.informed_lift.value == pytest.approx((2 / 3 + 1) / 2)
    loss = -(p * np.log(rows.q) + (1 - p) * np.log(1 - rows.q)).mean()
    best = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    half = np.log(2)
    assert found.bayes_gain.value == pytest.approx(((half - loss) / (half - best) + 1) / 2)


def test_the_standard_error_is_that_of_new_paths() -> None:
    """Over fresh draws of all paths, shares spread as one draw's error says."""
    draws = [model_shares({"m": _market(seed)}, resamples=300) for seed in range(60)]
    for field in ("bayes_lift", "informed_gain"):
        values = [getattr(one, field).value for one in draws]
        errors = [getattr(one, field).error for one in draws]
        assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_more_than_can_be_known_is_a_bug() -> None:
    """Whoever knows p passes the informed ceiling and is refused, unless told the law."""
    rows = _market(1)
    cheat = model_shares({"m": rows._replace(q=rows.p)})
    assert cheat.bayes_lift == Share(1.0, 0.0)
    with pytest.raises(ModelError, match="cnn: expected informed_gain of at most 1 \\+ 3"):
        check_shares("cnn", cheat)
    check_shares("moe_oracle", cheat, is_told=True)
    check_shares("moe_mlp", model_shares({"m": rows}))
    with pytest.raises(ModelError, match="moe_oracle: expected bayes_lift"):
        check_shares("moe_oracle", Shares(*[Share(1.1, 0.02)] * 4), is_told=True)


def test_a_difference_is_paired_by_path() -> None:
    """The better model is ahead with a small p; equal models are not."""
    good, poor = {"m": _market(2, skill=0.9)}, {"m": _market(2, skill=0.5)}
    ahead, p_value = paired_gain(good, poor)
    assert ahead.value > 0.03
    assert p_value < 0.01
    none, same = paired_gain(good, good)
    assert none.value == 0
    assert same == 1
    with pytest.raises(DataError, match="on the same windows"):
        paired_gain(good, {"m": _market(3)})


def test_too_easy_a_simulation_is_said() -> None:
    """Each limit of SIMULATION by its name; within them nothing is said."""
    fine = {"moe_random": 0.8, "moe_uniform": 0.7, "cnn_fingerprint": 0.9, "moe_mlp": 0.99}
    assert not too_easy(0.85, fine)
    said = too_easy(0.96, fine | {"moe_random": 0.81, "cnn_fingerprint": 0.93})
    assert [line.split(":")[0] for line in said] == [
        "law named by fingerprint and timeframe",
        "moe_random",
        "cnn_fingerprint",
    ]


def test_one_path_tells_nothing() -> None:
    """It has no spread to judge by."""
    with pytest.raises(DataError, match="m: expected windows of at least two paths"):
        model_shares({"m": _market(1, paths=1)})
