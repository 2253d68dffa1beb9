"""The volatility table: QLIKE and R² by hand, and a test that tells a better forecast apart."""

import numpy as np
import pandas as pd
import pytest

from atlas.errors import ModelError
from atlas.evaluation import POOLED
from atlas.volatility_table import volatility_table, volatility_tests


def _rows(error: float, seed: int = 0, missing: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(9)
    actual = rng.normal(-9, 1, 2_000)
    said = actual + error * np.random.default_rng(seed + 10).standard_normal(2_000)
    said[:missing] = np.nan
    return pd.DataFrame(
        {
            "market": np.repeat(["m", "n"], 1_000),
            "symbol": "S",
            "timestamp": np.arange(2_000),
            "session": np.arange(2_000) // 10,
            "log_rv": actual,
            "log_rv_predicted": said,
            "log_variance_predicted": said + 0.02,
        }
    )


def test_figures_are_qlike_and_r2_over_seeds() -> None:
    """Two seeds are averaged; rows that one model cannot forecast count for none."""
    rows = {"a": [_rows(0.1), _rows(0.1, 1)], "b": [_rows(0.5, missing=100)]}
    table = volatility_table(rows).set_index(["market", "model"])
    assert table.loc[("m", "a"), "n"] == 900
    for column, of in (("qlike", "log_variance"), ("qlike_as_said", "log_rv")):
        losses = []
        for frame in rows["a"]:
            own = frame[frame["market"] == "m"].iloc[100:]
            d = own["log_rv"] - own[f"{of}_predicted"]
            losses.append((np.exp(d) - d - 1).mean())
        assert table.loc[("m", "a"), column] == pytest.approx(np.mean(losses))
    assert table.loc[("m", "a"), "r2"] == pytest.approx(0.99, abs=0.005)
    means = table.xs("a", level="model")["qlike"]
    assert means[POOLED] == pytest.approx((means["m"] + means["n"]) / 2)


def test_a_better_forecast_is_told_apart_and_an_equal_one_is_not() -> None:
    """Below 0 the first model is better; Holm is over markets and leaves the mean out."""
    rows = {"a": [_rows(0.1)], "b": [_rows(0.5)], "c": [_rows(0.1, 3)]}
    found = volatility_tests(rows, "a", ["b", "c", "absent"]).set_index(["against", "market"])
    assert found.loc[("b", "m"), "qlike_difference"] < 0
    assert found.loc[("b", POOLED), "dm_p"] < 1e-6
    assert found.loc[("c", POOLED), "dm_p"] > 0.01
    assert np.isnan(found.loc[("b", POOLED), "dm_p_holm"])
    with pytest.raises(ModelError, match="expected forecasts of z"):
        volatility_tests(rows, "z", ["a"])
