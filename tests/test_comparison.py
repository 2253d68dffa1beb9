"""Models are compared on the same rows, all seeds in, and by market."""

import numpy as np
import pandas as pd
import pytest

from atlas.benchmark import POOLED
from atlas.comparison import COMPARISON_COLUMNS, compare, over_seeds
from atlas.errors import ModelError
from atlas.metrics import hits, log_losses
from atlas.significance import diebold_mariano, holm, session_means


def _rows(sharp, *, seed=0, noise=0.0, sizes=(("one", 60), ("other", 200))):
    """Predictions that know a share `sharp` of the law, with noise of the model's seed."""
    law, own, parts = np.random.default_rng(1), np.random.default_rng(seed + 9), []
    for market, sessions in sizes:
        p = law.uniform(0.3, 0.7, sessions * 4)
        logit = sharp * (p - 0.5) * 4 + noise * own.standard_normal(p.size)
        parts.append(
            pd.DataFrame(
                {
                    "market": market,
                    "symbol": np.tile(list("ABCD"), sessions),
                    "timestamp": np.repeat(pd.date_range("2026-01-01", periods=sessions), 4),
                    "session": np.repeat(np.arange(sessions), 4),
                    "y": (law.random(p.size) < p).astype(float),
                    "probability": 1 / (1 + np.exp(-logit)),
                    "p": p,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_the_better_model_is_found_and_the_figures_are_those_of_the_tests():
    """A row a market and one for their mean; Holm counts the markets alone."""
    knowing, ignorant = _rows(1.0), _rows(-0.5)
    table = compare([knowing], [ignorant], resamples=200)
    assert list(table.columns) == list(COMPARISON_COLUMNS)
    assert list(table["market"]) == ["one", "other", POOLED]
    assert (table["loss_high"] < 0).all()
    assert (table["accuracy_difference"] > 0).all()
    own = knowing["market"] == "other"
    y, q = knowing.loc[own, "y"].to_numpy(), knowing.loc[own, "probability"].to_numpy()
    worse = ignorant.loc[own, "probability"].to_numpy()
    days = knowing.loc[own, "session"].to_numpy()
    _, expected = session_means(log_losses(y, q) - log_losses(y, worse), days)
    row = table.iloc[1]
    assert row["loss_difference"] == pytest.approx(expected.mean())
    assert row["dm_p"] == pytest.approx(diebold_mariano(expected, lag=5).p_value)
    difference = hits(y, q) - hits(y, worse)
    assert row["accuracy_difference"] == pytest.approx(difference.mean())
    np.testing.assert_allclose(table["dm_p_holm"][:2], holm(table["dm_p"].to_numpy()[:2]))
    assert np.isnan(table["dm_p_holm"][2])


def test_the_mean_is_over_markets_not_rows():
    """200 sessions weigh as much as 60."""
    table = compare([_rows(1.0)], [_rows(-0.5)], resamples=100)
    for column in ("loss_difference", "accuracy_difference"):
        assert table[column][2] == pytest.approx(table[column][:2].mean())
    assert table["n"].tolist() == [240, 800, 1040]


def test_a_lucky_seed_counts_no_more_than_the_others():
    """Losses are means over seeds: three seeds of noise, in any order, give one figure."""
    seeds = [_rows(1.0, seed=s, noise=1.0) for s in range(3)]
    found = over_seeds(seeds)
    alone = [over_seeds([frame]) for frame in seeds]
    np.testing.assert_allclose(found["loss"], np.mean([one["loss"] for one in alone], axis=0))
    np.testing.assert_allclose(found["hit"], np.mean([one["hit"] for one in alone], axis=0))
    best = min(one["loss"].mean() for one in alone)
    assert found["loss"].mean() > best
    tables = [compare(order, [_rows(0.0)], resamples=50) for order in (seeds, seeds[::-1])]
    pd.testing.assert_frame_equal(tables[0].round(12), tables[1].round(12))


def test_known_probabilities_score_without_the_labels_noise():
    """Against p the same difference is known far better than against what happened."""
    a, b = _rows(1.0), _rows(0.5)
    widths = [
        (table["loss_high"] - table["loss_low"])[2]
        for table in (compare([a], [b], target=target, resamples=50) for target in ("y", "p"))
    ]
    assert widths[1] < widths[0] / 2
    missing = a.assign(p=np.nan)
    with pytest.raises(ModelError, match="expected p of every row"):
        compare([missing], [b], target="p")


def test_rows_may_come_in_any_order_but_not_from_another_cut():
    """Shuffled rows give the same table; a row less, or another seed's cut, is refused."""
    a, b = _rows(1.0), _rows(0.0)
    shuffled = b.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        compare([a], [b], resamples=50), compare([a], [shuffled], resamples=50)
    )
    with pytest.raises(ModelError, match="the same rows of both models; got 1040 and 1039"):
        compare([a], [b.iloc[1:]])
    with pytest.raises(ModelError, match="seeds of one model"):
        compare([a, a.iloc[1:]], [b])
    with pytest.raises(ModelError, match="at least one seed"):
        compare([], [b])
