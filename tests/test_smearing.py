"""Smearing: the log of the expected variance, found by hand, by theory, and on validation alone."""

import numpy as np
import pandas as pd
import pytest

from atlas.errors import ModelError
from atlas.metrics import qlike
from atlas.smearing import MIN_ROWS, smeared, smearing


def _rows(seed: int = 0, spread: float = 0.8, count: int = 40_000) -> pd.DataFrame:
    """Return rows of two markets whose log variance is known but for normal noise."""
    rng = np.random.default_rng(seed)
    said = rng.normal(-9, 1, count)
    half = count // 2
    return pd.DataFrame(
        {
            "market": np.repeat(["m", "n"], half),
            "split": np.tile(np.repeat(["validation", "test"], half // 2), 2),
            "log_rv": said + spread * rng.standard_normal(count),
            "log_rv_predicted": said,
        }
    )


def test_normal_errors_are_smeared_by_half_their_variance() -> None:
    """A log-normal's mean is e^(μ + σ²/2); its QLIKE falls from e^(σ²/2) − 1 to σ²/2."""
    rows = smeared(_rows())
    shift = (rows["log_variance_predicted"] - rows["log_rv_predicted"]).groupby(rows["market"])
    assert (shift.max() - shift.min()).to_numpy() == pytest.approx(0, abs=1e-9)
    assert shift.first().to_numpy() == pytest.approx(0.32, abs=0.03)
    test = rows[rows["split"] == "test"]
    actual, before, after = (
        test[name].to_numpy() for name in ("log_rv", "log_rv_predicted", "log_variance_predicted")
    )
    assert qlike(actual, before) == pytest.approx(np.exp(0.32) - 1, abs=0.02)
    assert qlike(actual, after) == pytest.approx(0.32, abs=0.02)


def test_no_other_shift_has_less_qlike() -> None:
    """Of heavy-tailed errors too, on the rows that it is made of."""
    rng = np.random.default_rng(1)
    actual = rng.standard_t(5, 500)
    best = smearing(actual, np.zeros(500))
    losses = [qlike(actual, np.full(500, best + step)) for step in (-0.01, 0.0, 0.01)]
    assert min(losses) == losses[1]


def test_test_rows_and_other_markets_change_nothing() -> None:
    """What became of the tested windows is not looked at; a market stands for itself."""
    rows = _rows(2)
    before = smeared(rows)["log_variance_predicted"]
    changed = rows.copy()
    changed.loc[changed["split"] == "test", "log_rv"] += 5
    changed.loc[changed["market"] == "n", "log_rv"] += 5
    after = smeared(changed)["log_variance_predicted"]
    of_m = rows["market"] == "m"
    pd.testing.assert_series_equal(after[of_m], before[of_m])
    assert (after[~of_m] > before[~of_m] + 4).all()


def test_unknown_rows_are_left_out_and_too_few_change_nothing() -> None:
    """NaN is no residual; one row short of the least there is no shift."""
    actual = np.concatenate([np.full(MIN_ROWS, 1.0), [np.nan]])
    assert smearing(actual, np.zeros(MIN_ROWS + 1)) == pytest.approx(1.0)
    assert smearing(actual[1:], np.zeros(MIN_ROWS)) == 0.0
    rows = _rows(3)
    few = rows[(rows["split"] == "test") | (rows["market"] == "n")]
    of_m = smeared(few)[lambda rows: rows["market"] == "m"]
    pd.testing.assert_series_equal(
        of_m["log_variance_predicted"], of_m["log_rv_predicted"], check_names=False
    )
    with pytest.raises(ModelError, match="expected forecasts of validation rows"):
        smeared(rows[rows["split"] == "test"])
