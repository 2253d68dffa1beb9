"""The long table: figures are means over seeds, shares are relative to the ceilings."""

import numpy as np
import pandas as pd
import pytest

from atlas.errors import ModelError
from atlas.evaluation import POOLED
from atlas.metrics import gain, hits, lift, log_losses
from atlas.scorecard import ScoreSettings, paired_tests, rival_of, scorecard

SETTINGS = ScoreSettings(resamples=200, blocks={"m": 1.0, "n": 1.0}, lags={"m": 0, "n": 0})


def _rows(probability: np.ndarray, p: np.ndarray, market: str = "m") -> pd.DataFrame:
    rng = np.random.default_rng(5)
    size = probability.size
    return pd.DataFrame(
        {
            "market": market,
            "symbol": np.arange(size) // 50,
            "timestamp": pd.Timestamp("2026-01-01", tz="UTC")
            + pd.to_timedelta(np.arange(size), "h"),
            "session": np.arange(size) // 50,
            "y": (rng.random(size) < p).astype(float),
            "p": p,
            "returned": 0.01 * np.where(rng.random(size) < p, 1, -1),
            "spread": 0.001,
            "probability": probability,
        }
    )


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    return np.random.default_rng(1).uniform(0.2, 0.8, 4_000)


def _models(p: np.ndarray) -> dict[str, list[pd.DataFrame]]:
    rng = np.random.default_rng(2)
    noisy = [np.clip(p + rng.normal(0, 0.1, p.size), 0.02, 0.98) for _ in range(2)]
    return {
        "base_rate": [_rows(np.full(p.size, 0.51), p)],
        "good": [_rows(q, p) for q in noisy],
        "informed": [_rows(np.clip(0.5 + 0.8 * (p - 0.5), 0, 1), p)],
        "bayes": [_rows(p, p)],
    }


def test_figures_are_means_over_seeds(known: np.ndarray) -> None:
    """No seed is picked: accuracy and log-loss are those of both seeds on the same rows."""
    models = _models(known)
    table = scorecard(models, {}, settings=SETTINGS).set_index(["market", "model"])
    y = models["good"][0]["y"].to_numpy()
    said = [frame["probability"].to_numpy() for frame in models["good"]]
    row = table.loc[("m", "good")]
    assert row["accuracy"] == pytest.approx(np.mean([hits(y, q).mean() for q in said]))
    assert row["log_loss"] == pytest.approx(np.mean([log_losses(y, q).mean() for q in said]))
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert row["seeds"] == 2


def test_shares_are_of_the_informed_ceiling(known: np.ndarray) -> None:
    """The ceiling's own share is 1, and Bayes has all the lift there is."""
    table = scorecard(_models(known), {}, settings=SETTINGS).set_index(["market", "model"])
    assert table.loc[("m", "informed"), "informed_lift"] == pytest.approx(1)
    assert table.loc[("m", "informed"), "informed_gain"] == pytest.approx(1)
    assert table.loc[("m", "bayes"), "lift"] == pytest.approx(1)
    said = _models(known)["good"][0]["probability"].to_numpy()
    ceiling = _models(known)["informed"][0]["probability"].to_numpy()
    own = table.loc[("m", "good")]
    assert own["informed_lift"] == pytest.approx(lift(known, said) / lift(known, ceiling))
    assert own["informed_gain"] == pytest.approx(gain(known, said, ceiling))
    assert 0 < own["informed_gain_error"] < 0.05


def test_the_mean_is_over_markets_and_never_over_rows(known: np.ndarray) -> None:
    """A market with a tenth of the rows weighs as much as the other."""
    small = known[:400]
    good = pd.concat([_rows(known, known), _rows(np.full(400, 0.5), small, "n")])
    base = pd.concat([_rows(np.full(4_000, 0.5), known), _rows(np.full(400, 0.5), small, "n")])
    table = scorecard({"base_rate": [base], "good": [good]}, {}, settings=SETTINGS)
    own = table[table["model"] == "good"].set_index("market")["accuracy"]
    assert own["n"] == 0.5
    assert own[POOLED] == pytest.approx((own["m"] + own["n"]) / 2)


def test_the_surest_rows_are_chosen_by_a_threshold_of_validation(known: np.ndarray) -> None:
    """A test set that is surer than validation was calls more rows than the share asked for."""
    models = _models(known)
    shy = {name: [f.assign(probability=0.5 + (f["probability"] - 0.5) / 2) for f in frames]
           for name, frames in models.items()}  # fmt: skip
    table = scorecard(models, shy, settings=SETTINGS).set_index(["market", "model"])
    assert table.loc[("m", "good"), "coverage_surest"] > 0.2
    assert table.loc[("m", "good"), "accuracy_surest"] > table.loc[("m", "good"), "accuracy"]
    assert np.isnan(scorecard(models, {}, settings=SETTINGS)["accuracy_surest"]).all()


def test_break_even_is_net_of_half_the_spread(known: np.ndarray) -> None:
    """Always calling up earns the mean return less half the spread."""
    rows = _rows(np.full(known.size, 0.6), known)
    table = scorecard({"base_rate": [rows]}, {}, settings=SETTINGS)
    assert table["break_even"].iloc[0] == pytest.approx(rows["returned"].mean() - 0.0005)


def test_the_rival_is_best_on_validation(known: np.ndarray) -> None:
    """The least log-loss as a mean over markets; a name without rows is passed over."""
    assert rival_of(_models(known), ["base_rate", "absent", "good"]) == "good"
    with pytest.raises(ModelError, match="expected validation rows of one of absent"):
        rival_of(_models(known), ["absent"])


def test_a_better_model_is_told_apart_on_the_same_rows(known: np.ndarray) -> None:
    """The difference is negative and sure, and the market's rows are those of both."""
    found = paired_tests(_models(known), "bayes", "base_rate", settings=SETTINGS)
    own = found.set_index("market").loc["m"]
    assert own["loss_difference"] < 0
    assert own["dm_p"] < 1e-6
    assert own["n"] == known.size
