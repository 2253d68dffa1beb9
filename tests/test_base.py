"""The base: logistic regression, and HAR-X by least squares under a ridge."""

import numpy as np
import pytest

from atlas.base import fit_har, fit_harx, fit_logistic, install_base, training_rows
from atlas.moe import build_model
from atlas.prediction import raw_predictions
from atlas.volatility import Har, HarX
from tests.toys import toy_config, toy_data


def test_logistic_regression_recovers_the_law_and_each_market_s_intercept() -> None:
    """Two markets of unequal size with one slope and two base rates."""
    rng = np.random.default_rng(0)
    features, directions = [], []
    for rows, intercept in ((30_000, 0.4), (3_000, -0.8)):
        x = rng.standard_normal((rows, 2))
        p = 1 / (1 + np.exp(-(intercept + x @ [1.0, -0.5])))
        y = (rng.random(rows) < p).astype(np.float64)
        y[::11] = np.nan
        features.append(x)
        directions.append(y)
    intercepts, weights = fit_logistic(features, directions)
    assert intercepts == pytest.approx([0.4, -0.8], abs=0.12)
    assert weights == pytest.approx([1.0, -0.5], abs=0.08)


def test_logistic_regression_stands_a_market_without_labels_and_a_one_sided_one() -> None:
    """No known direction gives intercept 0; only ups give a large finite one."""
    features = [np.zeros((40, 1)), np.zeros((40, 1))]
    intercepts, weights = fit_logistic(features, [np.full(40, np.nan), np.ones(40)])
    assert intercepts[0] == 0
    assert 3 < intercepts[1] < 50
    assert np.isfinite(weights).all()


def test_har_is_ordinary_least_squares() -> None:
    """A linear law is found exactly; NaN rows are left out."""
    rng = np.random.default_rng(1)
    har = rng.standard_normal((200, 3))
    log_rv = -9 + har @ [0.3, 0.4, 0.2]
    log_rv[::9] = np.nan
    assert fit_har(har, log_rv) == pytest.approx([-9, 0.3, 0.4, 0.2])


def test_har_of_too_few_rows_is_the_mean() -> None:
    """Ten rows cannot carry four numbers."""
    assert fit_har(np.ones((10, 3)), np.full(10, -9.0)) == pytest.approx([-9, 0, 0, 0])
    assert fit_har(np.ones((10, 3)), np.full(10, np.nan)) == pytest.approx([0, 0, 0, 0])


def test_harx_is_har_and_what_stands_beside_it() -> None:
    """The ridge is that of rows of 0 laid under the centred ones, one a feature."""
    rng = np.random.default_rng(1)
    har, features = rng.standard_normal((900, 3)), rng.standard_normal((900, 4))
    log_rv = -9 + har @ [0.3, 0.4, 0.2] + features @ [0.5, 0, 0, -0.3] + rng.standard_normal(900)
    past, beside = fit_harx(har, features, log_rv)
    x = np.column_stack([har, features])
    under = np.diag([0.0, 0, 0, *[np.sqrt(0.03 * 900 + 500)] * 4])
    rows = np.vstack([x - x.mean(0), under])
    y = np.append(log_rv - log_rv.mean(), np.zeros(7))
    slopes = np.linalg.lstsq(rows, y, rcond=None)[0]
    assert [*past[1:], *beside] == pytest.approx(slopes.tolist(), abs=1e-6)
    assert past[0] == pytest.approx(log_rv.mean() - x.mean(0) @ slopes, abs=1e-6)


def test_harx_leaves_out_what_is_unknown_and_bears_equal_columns() -> None:
    """A NaN in either drops its row; HAR's slopes are shared by columns that are the same."""
    rng = np.random.default_rng(1)
    har, features = rng.standard_normal((400, 3)), rng.standard_normal((400, 2))
    har[:, 2] = har[:, 1]
    log_rv = -9 + har @ [0.3, 0.4, 0.2]
    expected = fit_harx(har[20:], features[20:], log_rv[20:])
    har[:10, 0], log_rv[10:20] = np.nan, np.nan
    past, beside = fit_harx(har, features, log_rv)
    assert past == pytest.approx(expected[0])
    assert past == pytest.approx([-9, 0.3, 0.3, 0.3], abs=1e-4)
    assert beside == pytest.approx([0, 0], abs=1e-6)


def test_harx_of_a_short_history_hardly_leaves_har() -> None:
    """Eighty rows of noise say little about four features, and eleven nothing."""
    rng = np.random.default_rng(1)
    har, features = rng.standard_normal((80, 3)), rng.standard_normal((80, 4))
    log_rv = -9 + har @ [0.3, 0.4, 0.2] + rng.standard_normal(80)
    past, beside = fit_harx(har, features, log_rv)
    assert np.abs(beside).max() < 0.05
    assert past == pytest.approx(fit_har(har, log_rv), abs=0.05)
    few = fit_harx(har[:11], features[:11], log_rv[:11])
    assert few[0] == pytest.approx(fit_har(har[:11], log_rv[:11]))
    assert few[1].tolist() == [0] * 4


def test_a_network_gets_the_base_that_stands_in_the_tables() -> None:
    """Installed, its base says of every market's test rows what the rival HAR-X says of them."""
    data = toy_data(bars=600)
    model = build_model(toy_config(), variant="cnn")
    install_base(model, data)
    rival = HarX().fit(data)
    for market, own in data.items():
        ends = own.split.test
        found = raw_predictions(model, data[market], ends, market_index=model.markets.index(market))
        np.testing.assert_allclose(found.base_log_rv, rival.predict(market, ends), atol=1e-4)
    charts = {"toy_charts": data["toy_charts"]}  # the toy surfaces' volatility is always the same
    ends = charts["toy_charts"].split.test
    apart = rival.predict("toy_charts", ends) - Har().fit(charts).predict("toy_charts", ends)
    assert np.abs(apart).max() > 1e-3


def test_training_rows_are_training_rows_alone() -> None:
    """Rows are those of the training windows, spread over all of them, at most the limit."""
    data = toy_data(bars=300)
    rows = training_rows(data, limit=100)
    for market, own in data.items():
        assert rows[market].skip.shape[0] == 100
        chosen = own.split.train[np.linspace(0, len(own.split.train) - 1, 100).astype(int)]
        assert np.array_equal(rows[market].direction, own.labels.direction[chosen])
        assert np.isfinite(rows[market].har).all()
