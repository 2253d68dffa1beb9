"""Paired tests agree with their references, and reject a true null as often as they say."""

import numpy as np
import pytest
import statsmodels.api as sm
from arch.bootstrap import StationaryBootstrap
from scipy.stats import t
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from atlas.errors import DataError
from atlas.evaluation import session_draws, stationary_counts
from atlas.significance import (
    diebold_mariano,
    diebold_mariano_pooled,
    hac_lag,
    hac_variance,
    holm,
    mcnemar_sessions,
    session_means,
)


def _series(n=120, seed=1, persistence=0.4, mean=0.1):
    noise = np.random.default_rng(seed).standard_normal(n + 20)
    for i in range(1, noise.size):
        noise[i] += persistence * noise[i - 1]
    return noise[20:] + mean


@pytest.mark.parametrize(
    ("kernel", "theirs"), [("bartlett", "bartlett"), ("rectangular", "uniform")]
)
@pytest.mark.parametrize("lag", [0, 2, 5])
def test_the_variance_of_the_mean_is_that_of_statsmodels(kernel, theirs, lag):
    """A regression on a constant with HAC errors has the same standard error."""
    x = _series()
    options = {"maxlags": lag, "kernel": theirs, "use_correction": False}
    fit = sm.OLS(x, np.ones(x.size)).fit(cov_type="HAC", cov_kwds=options)
    assert hac_variance(x, lag, kernel) == pytest.approx(fit.bse[0] ** 2, rel=1e-10)


@pytest.mark.parametrize("lag", [0, 1, 5])
def test_the_small_sample_correction_is_harveys_for_the_kernel_he_used(lag):
    """Rectangular weights: variance / ((n + 1 − 2h + h(h − 1)/n) / n), h = lag + 1."""
    x, n, h = _series(n=40, persistence=0.2), 40, lag + 1
    factor = (n + 1 - 2 * h + h * (h - 1) / n) / n
    found = diebold_mariano(x, lag=lag, kernel="rectangular")
    assert found.error**2 == pytest.approx(hac_variance(x, lag, "rectangular") / factor)
    assert found.statistic == pytest.approx(x.mean() / found.error)


def test_without_lags_it_is_students_test():
    """Lag 0 leaves the ordinary one-sample t test, n − 1 degrees of freedom and all."""
    x = _series(n=30, persistence=0.0)
    found = diebold_mariano(x, lag=0)
    statistic = x.mean() / (x.std(ddof=1) / np.sqrt(30))
    assert found.dof == pytest.approx(29)
    assert found.statistic == pytest.approx(statistic)
    assert found.p_value == pytest.approx(2 * t.sf(abs(statistic), 29))
    low, high = found.interval()
    assert (low > 0) == (found.p_value < 0.05 and statistic > 0)
    assert (low + high) / 2 == pytest.approx(x.mean())


def test_five_lags_cost_degrees_of_freedom():
    """Of 20 sessions with five lags, far fewer than 19 are left."""
    assert 3 < diebold_mariano(_series(n=20), lag=5).dof < 9


def test_a_negative_rectangular_variance_gives_way_to_bartletts():
    """A series that alternates has a negative sum of covariances; the test stays a test."""
    x = np.tile([1.0, -1], 20) + 0.01 * np.arange(40)
    assert hac_variance(x, 1, "rectangular") < 0
    assert 0 < diebold_mariano(x, lag=1, kernel="rectangular").p_value <= 1


@pytest.mark.parametrize("differences", [[0.3], [0.2, 0.2, 0.2], [0.0, 0.0]])
def test_what_has_no_spread_proves_nothing(differences):
    """One session, or the very same difference in each: p is 1 and no interval excludes 0."""
    found = diebold_mariano(np.array(differences), lag=5)
    assert found.p_value == 1
    low, high = found.interval()
    assert low <= 0 <= high


def test_rows_are_averaged_within_sessions_first():
    """Repeating a session's rows a hundred times changes nothing; sessions come in order."""
    values, days = np.array([4.0, 1, 3]), np.array([9, 2, 9])
    found, means = session_means(values, days)
    np.testing.assert_array_equal(found, [2, 9])
    np.testing.assert_array_equal(means, [1, 3.5])
    _, again = session_means(np.repeat(values, 100), np.repeat(days, 100))
    np.testing.assert_array_equal(again, means)


def test_the_lag_is_a_week_or_the_horizon():
    """Fifteen minutes of a day are a week's lag; twenty days are twenty."""
    assert [hac_lag(15, 1440), hac_lag(20, 1), hac_lag(500, 78)] == [5, 20, 7]


def _null(rng, sessions, persistence=0.0, rows=8):
    """Rows that share their session's shock: what two equally good models differ by."""
    shocks = rng.standard_normal(sessions + 30)
    for day in range(1, shocks.size):
        shocks[day] += persistence * shocks[day - 1]
    values = np.repeat(shocks[30:], rows) + rng.standard_normal(sessions * rows)
    return values, np.repeat(np.arange(sessions), rows)


@pytest.mark.parametrize("sessions", [20, 60, 250])
def test_a_true_null_is_rejected_as_often_as_claimed(sessions):
    """400 pairs at 5 %, ± 3 SE: .017 to .083; rows taken for independent reject half of them."""
    rng, rejected, by_rows = np.random.default_rng(21), 0, 0
    for _ in range(400):
        values, days = _null(rng, sessions)
        rejected += diebold_mariano(session_means(values, days)[1], lag=5).p_value < 0.05
        by_rows += diebold_mariano(values[:200], lag=0).p_value < 0.05
    assert 0.05 - 3 * 0.0109 <= rejected / 400 <= 0.05 + 3 * 0.0109
    assert by_rows / 400 > 0.3


def test_mcnemar_of_sessions_has_its_size_too():
    """300 pairs of equal models whose rows rise and fall together, 60 sessions."""
    rng, rejected = np.random.default_rng(22), 0
    for seed in range(300):
        values, days = _null(rng, 60)
        right = (values > 0.5).astype(float), (values < -0.5).astype(float)
        rejected += mcnemar_sessions(*right, days, resamples=200, seed=seed).p_value < 0.05
    assert 0.05 - 3 * 0.0126 <= rejected / 300 <= 0.05 + 3 * 0.0126


def test_mcnemar_of_rows_apart_is_mcnemars():
    """Each row a session of its own, blocks of one: near the reference's p."""
    rng = np.random.default_rng(23)
    a = (rng.random(4_000) < 0.55).astype(float)
    b = (rng.random(4_000) < 0.53).astype(float)
    found = mcnemar_sessions(a, b, np.arange(4_000), block=1.0)
    counts = [[int((a * b).sum()), found.only_a], [found.only_b, int(((1 - a) * (1 - b)).sum())]]
    reference = mcnemar(np.array(counts), exact=False, correction=False)
    assert found.value == pytest.approx((found.only_a - found.only_b) / 4_000)
    assert found.p_value == pytest.approx(reference.pvalue, abs=0.02)
    assert 0.01 < found.p_value < 0.6


def test_mcnemar_of_equal_calls_is_no_difference():
    """No discordant row: p is 1. One session alone proves nothing either."""
    right = np.array([1.0, 0, 1, 1])
    assert mcnemar_sessions(right, right, np.arange(4)) == (0, 0, 0, 1)
    assert mcnemar_sessions(right, 1 - right, np.zeros(4, np.int64)).p_value == 1


def test_holm_is_that_of_statsmodels():
    """Random p-values, ties among them; a market without a test is passed over."""
    p = np.random.default_rng(24).random(12).round(1) / 4
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    with_hole = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(holm(with_hole), [0.02, np.nan, 0.04])
    assert holm(np.zeros(0)).size == 0


def test_pooling_adds_independent_errors_and_weighs_markets_equally():
    """Far apart in time, two markets' errors add in quadrature; 30 sessions weigh as 200."""
    few, many = _series(30, seed=3, persistence=0), _series(200, seed=4, persistence=0, mean=0.5)
    markets = [(np.arange(30), few), (np.arange(1_000, 1_200), many)]
    found = diebold_mariano_pooled(markets, [5, 5])
    alone = [diebold_mariano(few, lag=5), diebold_mariano(many, lag=5)]
    assert found.value == pytest.approx((few.mean() + many.mean()) / 2)
    together = np.hypot(alone[0].error, alone[1].error) / 2
    assert found.error == pytest.approx(together, rel=0.15)
    assert min(one.dof for one in alone) < found.dof
    assert found.sessions == 230


def test_markets_that_move_together_are_not_independent():
    """The same differences in two markets are worth one market; opposite ones no more than two."""
    x, days = _series(200, seed=5, persistence=0), np.arange(200)
    one = diebold_mariano(x, lag=5)
    twice = diebold_mariano_pooled([(days, x), (days, x)], [5, 5])
    apart = diebold_mariano_pooled([(days, x), (days, -x)], [5, 5])
    assert twice.error == pytest.approx(one.error, rel=0.05)
    assert apart.error == pytest.approx(one.error / np.sqrt(2))


def test_the_pooled_test_has_its_size():
    """400 pairs over three markets, of which two share their shocks, on the same 40 days."""
    rng, rejected, days = np.random.default_rng(25), 0, np.arange(40)
    for _ in range(400):
        shared = rng.standard_normal(40)
        own = [0.7 * shared + rng.standard_normal(40) for _ in range(2)]
        markets = [(days, x) for x in (*own, rng.standard_normal(40))]
        rejected += diebold_mariano_pooled(markets, [5, 5, 5]).p_value < 0.05
    assert 0.017 <= rejected / 400 <= 0.083


def test_one_silent_market_leaves_the_pool_unsure():
    """A market of a single session gives the mean over markets an error without end."""
    found = diebold_mariano_pooled([(np.arange(1), np.ones(1)), (np.arange(9), _series(9))], [5, 5])
    assert (found.p_value, found.error) == (1, np.inf)


@pytest.mark.parametrize("x", [np.zeros(0), np.array([1.0, np.nan])])
def test_what_cannot_be_compared_is_refused(x):
    """Nothing, and a missing loss, are errors that say what to do."""
    with pytest.raises(DataError, match="score both models on the same rows"):
        diebold_mariano(x, lag=5)
    with pytest.raises(DataError, match="score both models on the same rows"):
        mcnemar_sessions(x, x, np.arange(x.size))


def test_resampled_means_spread_as_archs_stationary_bootstrap():
    """The same series and mean block: both bootstraps' standard deviations agree within 5 %."""
    x = _series(n=150, seed=6)
    reference = StationaryBootstrap(10, x, seed=np.random.default_rng(7))
    theirs = reference.apply(lambda values: values.mean(), 6_000).std()
    rng = np.random.default_rng(8)
    counts = stationary_counts(150, block=10.0, resamples=6_000, rng=rng)
    assert (counts @ x / 150).std() == pytest.approx(theirs, rel=0.05)
    draws = session_draws(x, np.arange(150), block=10.0, resamples=6_000)
    assert draws.resampled.std() > theirs  # widened for what few blocks lose
