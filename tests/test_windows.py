"""Labels look where they say, and cuts let nothing across."""

import dataclasses

import numpy as np
import pytest

from atlas import charts
from atlas.baselines import ReversalRule
from atlas.cuts import cut, cut_at
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.errors import ConfigError, DataError
from atlas.evaluation import session_interval
from atlas.metrics import hits
from atlas.windows import IV_FLOOR, VARIANCE_FLOOR, WINDOW, Labels, MarketData, label, moves
from tests.panels import panel_of, walk

NAN = float("nan")
CLOSES = np.array([10.0, 11, 10, 10, 12, 13, 9, 9.5])


def test_the_window_is_the_charts_and_vol30_is_the_first_column():
    """Constants that layers keep apart agree."""
    assert charts.WINDOW == WINDOW
    assert FINGERPRINT_COLUMNS[0] == "vol30"


def test_direction_is_the_sign_of_the_next_move_and_ties_are_counted():
    """A rise is 1, a fall 0, no move is dropped and counted, the last bar has no label."""
    labels = label(panel_of(CLOSES))
    np.testing.assert_array_equal(labels.direction, [1, 0, NAN, 1, 1, 0, 1, NAN])
    assert labels.ties == 1
    np.testing.assert_array_equal(np.flatnonzero(labels.tied), [2])


def test_direction_spans_the_horizon_after_the_skip():
    """Horizon 2 and skip 1 compare the close three bars on with the next one."""
    labels = label(panel_of(CLOSES), horizon=2, skip=1, volatility_horizon=1)
    np.testing.assert_array_equal(labels.direction, [0, 1, 1, 0, 0, NAN, NAN, NAN])
    np.testing.assert_array_equal(labels.last, [3, 4, 5, 6, 7, 6, 7, 7])


def test_the_last_bar_read_is_that_of_the_longer_target():
    """Purging by the direction's horizon alone would let the volatility target across."""
    labels = label(panel_of(CLOSES), volatility_horizon=3)
    np.testing.assert_array_equal(labels.last, [3, 4, 5, 6, 7, 6, 7, 7])


def test_a_missing_quote_is_no_label_and_no_tie():
    """A price that is missing or not positive leaves the labels that read it unknown."""
    closes = CLOSES.copy()
    closes[[3, 5]] = NAN, 0.0
    labels = label(panel_of(closes), volatility_horizon=1)
    np.testing.assert_array_equal(labels.direction, [1, 0, NAN, NAN, NAN, NAN, 1, NAN])
    assert labels.ties == 0


def test_labels_never_reach_into_the_next_symbol():
    """Symbols lie end to end, and each one's last bars have no label."""
    labels = label(panel_of(CLOSES, symbols=2), horizon=2, volatility_horizon=3)
    assert np.isnan(labels.direction[[2, 3, 6, 7]]).all()
    assert np.isnan(labels.log_rv[[1, 2, 3, 5, 6, 7]]).all()
    assert np.isfinite(labels.log_rv[[0, 4]]).all()
    assert (labels.last < np.repeat([4, 8], 4)).all()


@pytest.mark.parametrize(("has_close", "labelled"), [(True, [0, 1, 4, 5]), (False, range(6))])
def test_an_intraday_horizon_ends_with_its_session_where_there_is_a_close(has_close, labelled):
    """Sessions of four bars, horizon 2: a market that closes keeps labels within a session."""
    panel = panel_of(CLOSES, timeframe="5min", per_session=4, has_close=has_close)
    labels = label(panel, horizon=2, volatility_horizon=2)
    known = np.isfinite(labels.direction) | labels.tied
    np.testing.assert_array_equal(np.flatnonzero(known), labelled)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(labels.log_rv)), labelled)


def test_intraday_variance_is_the_sum_of_squared_log_returns():
    """Two returns after bar 0: 10 → 11 → 10."""
    panel = panel_of(CLOSES, timeframe="5min", per_session=8)
    found = label(panel, volatility_horizon=2).log_rv
    assert found[0] == pytest.approx(np.log(2 * np.log(1.1) ** 2), rel=1e-6)
    assert found[2] == pytest.approx(np.log(np.log(1.2) ** 2), rel=1e-6)


def test_daily_variance_is_garman_and_klass_of_the_next_bars():
    """The formula, written out, over bars 1 and 2; bar 0 does not enter."""
    bars = np.array([[10.0, 10, 11], [11.0, 12, 12], [9.0, 9, 10], [10.0, 11, 10], [1.0, 1, 1]])
    terms = [
        0.5 * np.log(12 / 9) ** 2 - (2 * np.log(2) - 1) * np.log(11 / 10) ** 2,
        0.5 * np.log(12 / 10) ** 2 - (2 * np.log(2) - 1) * np.log(10 / 11) ** 2,
    ]
    found = label(panel_of(bars), volatility_horizon=2).log_rv
    np.testing.assert_allclose(found, [np.log(sum(terms)), NAN, NAN], rtol=1e-6)


def test_surface_variance_is_the_sum_of_changes_of_at_the_money_iv():
    """At the money .20 → .23 → .22 changes by .04 in all."""
    grid = np.full((3, 3, 9), 0.3)
    grid[:, 0, 4] = [0.20, 0.23, 0.22]
    panel = panel_of(grid, modality="surface")
    found = label(panel, kind="surface_change", volatility_horizon=2).log_rv
    np.testing.assert_allclose(found, [np.log(0.04), NAN, NAN], rtol=1e-6)


def test_a_silent_stretch_has_the_floor_as_its_variance():
    """Constant quotes give the log of the stated floor, never minus infinity."""
    still = panel_of(np.full(9, 5.0), timeframe="5min", per_session=9)
    assert label(still, volatility_horizon=3).log_rv[0] == pytest.approx(np.log(VARIANCE_FLOOR))
    flat = panel_of(np.full((9, 3, 9), 0.2), modality="surface")
    labels = label(flat, kind="surface_change", volatility_horizon=3)
    assert labels.log_rv[0] == pytest.approx(np.log(IV_FLOOR))
    assert labels.ties == 8  # the rounding of sums of equal quotes is no move


def test_surface_change_asks_for_the_measure():
    """A put that rises alone lifts skew and butterfly; a call that rises lifts one of the two."""
    grid = np.full((3, 3, 9), 0.3)
    grid[1:, 0, 2] += 0.01  # put
    grid[2:, 0, 6] += 0.01  # call
    panel = panel_of(grid, modality="surface")
    for measure, expected in (("skew", [1, 0, NAN]), ("butterfly", [1, 1, NAN])):
        labels = label(panel, kind="surface_change", measure=measure, volatility_horizon=1)
        np.testing.assert_array_equal(labels.direction, expected)


def test_relative_direction_is_against_the_median_of_scaled_returns():
    """Three symbols rise; the middle one is the median, a tie; scale by vol30 can swap ranks."""
    closes = np.array([100.0, 101, 100, 102, 100, 104])
    labels = label(panel_of(closes, symbols=3), kind="relative_direction")
    np.testing.assert_array_equal(labels.direction[::2], [0, NAN, 1])
    panel = panel_of(closes, symbols=3)
    vol30 = np.repeat([0.01, 0.05, 0.02], 2).astype(np.float32)
    panel = dataclasses.replace(panel, fingerprint=np.tile(vol30[:, None], 11))
    labels = label(panel, kind="relative_direction")
    # 1/.01 = 100, 2/.05 = 40, 4/.02 = 196 (in logs nearly): the first is the median now
    np.testing.assert_array_equal(labels.direction[::2], [NAN, 0, 1])


@pytest.mark.parametrize(
    ("modality", "kind"),
    [("chart", "surface_change")]
    + [("surface", kind) for kind in ("direction", "relative_direction")],
)
def test_a_label_that_does_not_fit_the_market_is_refused(modality, kind):
    """Surfaces have no close, charts no skew."""
    values = np.full((5, 3, 9), 0.3) if modality == "surface" else np.ones(5)
    with pytest.raises(ConfigError, match=f"market: .*got '{kind}'"):
        label(panel_of(values, modality=modality), kind=kind)


def test_labels_do_not_change_with_what_comes_after_them():
    """Bars after a label's last bar are free to change."""
    panel = walk("intraday", symbols=2, bars=400, seed=3)
    labels = label(panel, horizon=6, volatility_horizon=12)
    poisoned = panel.values.copy()
    poisoned[:, 300:400] *= 7
    other = label(dataclasses.replace(panel, values=poisoned), horizon=6, volatility_horizon=12)
    kept = np.flatnonzero(labels.last[:400] < 300)
    assert kept.size > 200
    np.testing.assert_array_equal(labels.direction[kept], other.direction[kept])
    np.testing.assert_allclose(labels.log_rv[kept], other.log_rv[kept], rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "bars", "horizon", "volatility", "sessions"),
    [("crypto", 1440 * 8, 15, 60, (3, 2)), ("daily", 400, 2, 5, (40, 30))],
)
def test_no_row_before_a_cut_reads_a_bar_near_it(kind, bars, horizon, volatility, sessions):
    """Train and validation rows end, embargo included, before the next part's first session."""
    test, validation = sessions
    panel = walk(kind, symbols=2, bars=bars, seed=1)
    labels = label(panel, horizon=horizon, volatility_horizon=volatility)
    split = cut(panel, labels, test=test, validation=validation, horizon=horizon)
    days = np.unique(panel.session)
    embargo = max(horizon, volatility)
    first_validation, first_test = days[-test - validation], days[-test]
    assert (panel.session[labels.last[split.train] + embargo] < first_validation).all()
    assert (panel.session[labels.last[split.validation] + embargo] < first_test).all()
    assert (panel.session[split.validation] >= first_validation).all()
    assert (panel.session[split.test] >= first_test).all()
    newest = labels.last[split.train[-1]] + embargo + 1
    assert panel.session[newest] == first_validation  # and not a row more is given up


def test_every_row_has_a_window_of_its_own_symbol():
    """The first 63 bars of a symbol end no window, though a test window reaches across a cut."""
    panel = walk("daily", symbols=3, bars=200, seed=1)
    split = cut(panel, label(panel), test=20, validation=20, horizon=1)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert panel.index[rows].min() == WINDOW - 1
    assert (rows - (WINDOW - 1) >= panel.first[rows]).all()


def test_the_test_grid_is_fixed_before_labels_are_seen():
    """Losing labels removes their rows and moves no other: no 'next valid label'."""
    panel = walk("crypto", symbols=2, bars=1440 * 6, seed=2)
    labels = label(panel, horizon=15, volatility_horizon=60)
    split = cut(panel, labels, test=2, validation=1, horizon=15)
    assert (panel.index[split.test] % 15 == 0).all()
    assert (panel.index[split.validation] % 15 == 0).all()
    holes = np.random.default_rng(0).random(labels.direction.size) < 0.3
    fewer = dataclasses.replace(labels, direction=np.where(holes, np.nan, labels.direction))
    thinned = cut(panel, fewer, test=2, validation=1, horizon=15)
    np.testing.assert_array_equal(thinned.test, split.test[~holes[split.test]])


def test_a_test_row_needs_no_volatility_target():
    """The newest rows, whose variance is not over yet, are scored for direction."""
    panel = walk("daily", symbols=1, bars=200, seed=1)
    labels = label(panel, volatility_horizon=5)
    split = cut(panel, labels, test=20, validation=20, horizon=1)
    assert split.test[-1] == 198
    assert np.isnan(labels.log_rv[split.test[-4:]]).all()


def test_ties_on_the_test_grid_are_counted():
    """Three still days among the newest ones are three ties."""
    closes = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(size=200)) / 100)
    closes[191:194] = closes[190]
    split = cut(panel_of(closes), label(panel_of(closes)), test=20, validation=20, horizon=1)
    assert split.test_ties == 3
    assert not {190, 191, 192} & set(split.test.tolist())


def test_labels_made_by_hand_can_be_cut():
    """Labels without a mask of ties count none."""
    panel = walk("daily", symbols=1, bars=200, seed=1)
    given = label(panel)
    labels = Labels(given.direction, given.log_rv, given.last, 0)
    assert cut(panel, labels, test=20, validation=20, horizon=1).test_ties == 0


def test_too_few_sessions_to_cut_are_refused():
    """The message names the market and both numbers."""
    panel = walk("daily", symbols=1, bars=100, seed=1)
    with pytest.raises(DataError, match=r"market: expected more than 80 \+ 20 sessions.*got 100"):
        cut(panel, label(panel), test=80, validation=20, horizon=1)


def _reversal(panel, test, **asked):
    labels = label(panel, **asked)
    horizon = asked.get("horizon", 1)
    split = cut(panel, labels, test=test, validation=10, horizon=horizon)
    data = MarketData(panel, labels, split)
    rule = ReversalRule().fit({"market": data})
    right = hits(labels.direction[split.test], rule.predict("market", split.test))
    return session_interval(right, panel.session[split.test], confidence=0.999)


@pytest.mark.parametrize(
    ("kind", "bars", "asked"),
    [
        ("crypto", 1440 * 34, {"horizon": 15}),
        ("intraday", 78 * 100, {"horizon": 6}),
        ("daily", 2000, {}),
        ("daily", 2000, {"kind": "relative_direction"}),
        ("surface", 2000, {"kind": "surface_change", "skip": 1}),
    ],
)
def test_a_random_walk_scores_a_half_through_the_whole_path(kind, bars, asked):
    """Labels, cut, grid and rule leave nothing to find in a market without anything to find."""
    test = bars // 1440 - 14 if kind == "crypto" else bars // 78 - 40 if kind == "intraday" else 800
    interval = _reversal(walk(kind, symbols=8, bars=bars, seed=11), test, **asked)
    assert interval.low <= 0.5 <= interval.high
    assert interval.high - interval.low < 0.1  # narrow enough for a leak to stand out


def test_noise_in_todays_quote_looks_like_skill_until_a_bar_is_skipped():
    """On iid noise the reversal rule gets two thirds at skip 0 and a half at skip 1."""
    noise = walk("surface", symbols=40, bars=600, seed=5, iid=True)
    ask = {"kind": "surface_change", "measure": "butterfly"}
    near, apart = _reversal(noise, 200, **ask), _reversal(noise, 200, **ask, skip=1)
    assert near.low < 2 / 3 < near.high
    assert near.low > 0.6
    assert apart.low < 0.5 < apart.high


def test_moves_end_at_their_bar():
    """The move of bar t is that from t−h to t, and its symbol's first h bars have none."""
    found = moves(panel_of(CLOSES, symbols=2), kind="direction", measure="skew", horizon=2)
    expected = [NAN, NAN, 0.0, np.log(10 / 11), NAN, NAN, np.log(9 / 12), np.log(9.5 / 13)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_shared_cut_parts_by_date_and_ends_at_the_next():
    """Rows before the date train, rows from it up to the next cut are tested, none is both."""
    panel = walk("daily", symbols=2, bars=400, seed=3)
    labels = label(panel)
    days = np.unique(panel.session)
    split = cut_at(panel, labels, day=int(days[300]), end=int(days[350]), validation=40, horizon=1)
    assert panel.session[split.test].min() == days[300]
    assert panel.session[split.test].max() == days[349]
    assert panel.session[split.validation].min() == days[260]
    assert (labels.last[split.validation] < panel.reached(int(days[300]))[split.validation]).all()
    assert (labels.last[split.train] < panel.reached(int(days[260]))[split.train]).all()


def test_a_market_that_ended_before_the_cut_trains_and_is_not_tested():
    """Its history is known at the cut; one that has not begun by then is refused by name."""
    panel = walk("daily", symbols=1, bars=400, seed=3)
    labels = label(panel)
    after = int(panel.session.max()) + 10
    split = cut_at(panel, labels, day=after, end=after + 100, validation=40, horizon=1)
    assert split.test.size == 0
    assert split.train.size > 200
    with pytest.raises(DataError, match="expected sessions before the cut"):
        cut_at(panel, labels, day=int(panel.session.min()), end=after, validation=4, horizon=1)
