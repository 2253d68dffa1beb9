"""The table compares models on the same rows, market by market, and says what it cannot know."""

import numpy as np
import pandas as pd
import pytest

from atlas.benchmark import (
    COLUMNS,
    HEADINGS,
    POOLED,
    SEED_FIGURES,
    TableSettings,
    assemble,
    mean_log_loss,
    text_rows,
)
from atlas.errors import ModelError
from atlas.metrics import directional_accuracy, lift, log_loss

SETTINGS = TableSettings(resamples=200)


def _rows(market, n, *, seed, truth=True, sharp=1.0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.2, 0.8, n)
    day = np.arange(n) // 5
    return pd.DataFrame(
        {
            "market": market,
            "symbol": "S",
            "timestamp": pd.date_range("2026-01-01", periods=n, freq="h", tz="UTC"),
            "session": day,
            "y": (rng.random(n) < p).astype(float),
            "probability": 0.5 + sharp * (p - 0.5),
            "p": p if truth else np.nan,
        }
    )


def _models():
    sim = _rows("crypto_1min", 300, seed=1)
    real = _rows("mine", 100, seed=2, truth=False)
    both = pd.concat([sim, real], ignore_index=True)
    flat = both.assign(probability=np.where(both["market"] == "mine", 0.45, 0.55))
    return {"base_rate": flat, "moe_mlp": both}


@pytest.fixture(scope="module")
def table():
    return assemble(_models(), ties={"crypto_1min": 4, "mine": 0}, settings=SETTINGS)


def test_every_market_and_model_has_a_row_with_its_scores(table):
    """Figures are those of the metrics on the market's rows, inside their intervals."""
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 6
    row = table.set_index(["market", "model"]).loc[("crypto_1min", "moe_mlp")]
    rows = _rows("crypto_1min", 300, seed=1)
    assert (row["n"], row["ties"]) == (300, 4)
    assert row["accuracy"] == pytest.approx(directional_accuracy(rows["y"], rows["probability"]))
    assert row["log_loss"] == pytest.approx(log_loss(rows["y"], rows["probability"]))
    assert row["lift"] == pytest.approx(lift(rows["p"], rows["probability"])) == 1.0
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert row["log_loss_low"] < row["log_loss"] < row["log_loss_high"]


def test_the_base_rate_stands_beside_every_model(table):
    """It is the accuracy of the model called base_rate, on the same rows."""
    for _, rows in table.groupby("market"):
        base = rows.loc[rows["model"] == "base_rate", "accuracy"].item()
        assert (rows["base_rate"] == base).all()


def test_lift_and_the_seeds_figure_are_missing_where_there_is_none(table):
    """A market without known probabilities has no lift, one the seed never named no figure."""
    indexed = table.set_index(["market", "model"])
    assert np.isnan(indexed.loc[("mine", "moe_mlp"), "lift"])
    assert np.isnan(indexed.loc[("mine", "moe_mlp"), "seed_figure"])
    assert indexed.loc[("crypto_1min", "moe_mlp"), "seed_figure"] == 0.635
    assert len(SEED_FIGURES) == 5


def test_means_are_over_markets_never_over_rows(table):
    """Three hundred rows of one market and a hundred of another weigh the same."""
    indexed = table.set_index(["market", "model"])
    for name in ("accuracy", "log_loss", "base_rate"):
        parts = [indexed.loc[(market, "moe_mlp"), name] for market in ("crypto_1min", "mine")]
        assert indexed.loc[(POOLED, "moe_mlp"), name] == pytest.approx(np.mean(parts))
    assert indexed.loc[(POOLED, "moe_mlp"), "n"] == 400
    loss = indexed.loc[(POOLED, "moe_mlp"), "log_loss"]
    assert mean_log_loss(_models()["moe_mlp"]) == pytest.approx(loss)


def test_a_market_that_a_model_leaves_out_is_not_in_the_mean():
    """Means compare models on the markets that all of them have."""
    models = _models()
    models["moe_mlp"] = models["moe_mlp"][models["moe_mlp"]["market"] == "mine"]
    table = assemble(models, ties={"crypto_1min": 0, "mine": 0}, settings=SETTINGS)
    pooled = table[table["market"] == POOLED]
    assert (pooled["n"] == 100).all()
    assert len(table) == 5


def test_models_on_other_rows_are_refused():
    """One row less, or one row of another time, is another question."""
    models = _models()
    for other in (
        models["moe_mlp"].iloc[1:],
        models["moe_mlp"].assign(timestamp=models["moe_mlp"]["timestamp"] + pd.Timedelta("1h")),
    ):
        with pytest.raises(ModelError, match=r"crypto_1min: expected moe_mlp .* rows of base_rate"):
            assemble({**models, "moe_mlp": other}, ties={"crypto_1min": 0, "mine": 0})


def test_rows_may_come_in_any_order():
    """Shuffled predictions give the same table."""
    models = _models()
    shuffled = {name: frame.sample(frac=1, random_state=1) for name, frame in models.items()}
    ties = {"crypto_1min": 0, "mine": 0}
    one, other = (assemble(given, ties=ties, settings=SETTINGS) for given in (models, shuffled))
    pd.testing.assert_frame_equal(one, other)


def test_text_has_a_cell_for_each_heading(table):
    """Shares in per cent with half the interval's width; what is missing is blank."""
    cells = text_rows(table, "mine")
    assert [len(row) for row in cells] == [len(HEADINGS)] * 2
    assert cells[0][:2] == ["mine", "base_rate"]
    assert cells[1][-2:] == ["", ""]
    assert cells[1][0].startswith("n ")
    assert "±" in cells[1][2]
    assert text_rows(table, "crypto_1min")[1][-2:] == ["1.000", "63.5"]
