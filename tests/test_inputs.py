"""A model is shown what was known at the window's end, in the stated units."""

import dataclasses

import numpy as np
import pytest

from atlas.inputs import HAR, SKIP, SKIP_SURFACE, TABLE_MARKET, gather, table
from atlas.windows import IV_FLOOR
from tests.panels import panel_of, walk

ENDS = np.array([70, 99, 163, 199])
SHAPES = {
    "chart": {"image": (4, 4, 32, 64), "series": (4, 5, 64), "skip": (4, 9), "har": (4, 3)},
    "surface": {"image": (4, 2, 3, 9, 64), "series": (4, 5, 64), "skip": (4, 9), "har": (4, 3)},
}


def _panel(kind):
    panel = walk(kind, symbols=2, bars=100, seed=1)
    rng = np.random.default_rng(2)
    fingerprint = rng.random(panel.fingerprint.shape).astype(np.float32)
    return dataclasses.replace(panel, fingerprint=fingerprint)


@pytest.mark.parametrize("kind", ["intraday", "daily", "surface"])
def test_inputs_have_the_stated_shapes_and_are_finite(kind):
    """Everything but the raw fingerprint is float32 without NaN."""
    panel = _panel(kind)
    inputs = gather(panel, ENDS, market_index=3)
    for name, shape in SHAPES[panel.modality].items():
        field = getattr(inputs, name)
        assert (field.shape, field.dtype) == (shape, np.float32)
        assert np.isfinite(field).all()
    np.testing.assert_array_equal(inputs.fingerprint, panel.fingerprint[ENDS])
    np.testing.assert_array_equal(inputs.market, [3, 3, 3, 3])
    np.testing.assert_array_equal(inputs.rule, [2, 2, 2, 2])
    np.testing.assert_allclose(inputs.log_timeframe, np.log(panel.timeframe.seconds), rtol=1e-6)


@pytest.mark.parametrize("kind", ["intraday", "daily", "surface"])
def test_the_future_does_not_show_in_the_inputs(kind):
    """Poisoning every bar, fingerprint and verdict after t changes no input at t."""
    panel, t = _panel(kind), 80
    values, fingerprint, rule = panel.values.copy(), panel.fingerprint.copy(), panel.rule.copy()
    after = np.s_[t + 1 :] if kind == "surface" else np.s_[:, t + 1 :]
    values[after], fingerprint[t + 1 :], rule[t + 1 :] = 1e6, np.nan, 5
    poisoned = dataclasses.replace(panel, values=values, fingerprint=fingerprint, rule=rule)
    end = np.array([t])
    clean, other = gather(panel, end, market_index=0), gather(poisoned, end, market_index=0)
    for name in clean._fields:
        np.testing.assert_array_equal(getattr(clean, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("kind", ["intraday", "daily", "surface"])
def test_the_past_before_the_window_does_not_show_either(kind):
    """A live tail of 64 bars gives the inputs of the whole history."""
    panel, t = _panel(kind), 80
    values = panel.values.copy()
    before = np.s_[: t - 63] if kind == "surface" else np.s_[:, : t - 63]
    values[before] = 1e6
    end = np.array([t])
    whole = gather(panel, end, market_index=0)
    tail = gather(dataclasses.replace(panel, values=values), end, market_index=0)
    for name in whole._fields:
        np.testing.assert_array_equal(getattr(whole, name), getattr(tail, name), err_msg=name)


def test_moves_are_in_standard_deviations_newest_first():
    """Returns ±1 % in turn, the last one 3 %."""
    returns = np.tile([0.01, -0.01], 32)[:63]
    returns[-1] = 0.03
    panel = panel_of(100 * np.exp(np.concatenate([[0.0], np.cumsum(returns)])))
    skip = gather(panel, np.array([63]), market_index=0).skip[0]
    np.testing.assert_allclose(skip[:5], returns[:-6:-1] / returns.std(), rtol=1e-5)
    assert SKIP[0] == "move_1"


def test_clock_and_calendar_go_round():
    """12:00 UTC is half a day; 1970-01-01 was a Thursday, 1970-01-05 a Monday."""
    panel = panel_of(np.linspace(1, 2, 24 * 8), timeframe="1h", per_session=24)
    inputs = gather(panel, np.array([24 * 3 + 12, 24 * 4 + 6]), market_index=0)
    columns = dict(zip(SKIP, inputs.skip.T, strict=True))
    np.testing.assert_allclose(columns["time_cos"], [-1, 0], atol=1e-6)
    np.testing.assert_allclose(columns["time_sin"], [0, 1], atol=1e-6)
    np.testing.assert_allclose(columns["week_cos"][1], 1, atol=1e-6)
    np.testing.assert_allclose(columns["week_sin"][0], np.sin(12 * np.pi / 7), atol=1e-6)


def test_past_variance_is_a_mean_over_the_stated_bars():
    """Daily bars with high and low ±1 % of one price: Garman and Klass of a single bar."""
    panel = panel_of(np.full(64, 100.0))
    har = gather(panel, np.array([63]), market_index=0).har[0]
    assert HAR == (5, 20, 63)
    np.testing.assert_allclose(har, np.log(0.5 * np.log(1.01 / 0.99) ** 2), rtol=1e-5)


def test_the_volatility_ratio_compares_the_window_with_vol30():
    """Daily returns of ±2 % against a vol30 of 1 %: log 2; unknown vol30 gives 0."""
    close = 100 * np.exp(np.tile([0.0, 0.02], 32))
    known = gather(panel_of(close, vol30=0.01), np.array([63]), market_index=0)
    np.testing.assert_allclose(known.vol_ratio, np.log(2), rtol=1e-5)
    unknown = gather(panel_of(close, vol30=np.nan), np.array([63]), market_index=0)
    assert unknown.vol_ratio[0] == 0


def test_a_surface_shows_z_scores_and_the_level_of_its_measure():
    """Skew .02 but for one .01 and a last .03: z-score, last change in sds, level in tenths."""
    grid = np.full((64, 3, 9), 0.3)
    grid[:, 0, 2] += 0.02
    grid[10, 0, 2] -= 0.01
    grid[-1, 0, 2] += 0.01
    panel = panel_of(grid, modality="surface")
    inputs = gather(panel, np.array([63]), market_index=0, measure="skew")
    skew = np.full(64, 0.02)
    skew[[10, -1]] = 0.01, 0.03
    columns = dict(zip(SKIP_SURFACE, inputs.skip[0], strict=True))
    assert columns["measure_z"] == pytest.approx((0.03 - skew.mean()) / skew.std(), rel=1e-4)
    assert columns["move_1"] == pytest.approx(0.01 / skew.std(), rel=1e-4)
    assert columns["move_2"] == pytest.approx(0, abs=1e-6)
    assert columns["measure_level"] == pytest.approx(0.3, rel=1e-4)
    assert inputs.series[0, 1, -1] == pytest.approx(columns["measure_z"], rel=1e-5)
    np.testing.assert_array_equal(inputs.series[0, 0], 0)  # at the money never moved
    np.testing.assert_allclose(inputs.har[0], np.log(IV_FLOOR), rtol=1e-6)


def test_missing_quotes_leave_zeros_not_holes():
    """A surface without its second tenor, and one snapshot without any quote."""
    panel = walk("surface", symbols=1, bars=64, seed=3)
    values = panel.values.copy()
    values[:, 1] = np.nan
    values[40] = np.nan
    inputs = gather(dataclasses.replace(panel, values=values), np.array([63]), market_index=0)
    assert all(np.isfinite(x).all() for x in (inputs.series, inputs.skip, inputs.har))
    np.testing.assert_array_equal(inputs.series[0, 3:], 0)
    assert inputs.series[0, 1, 40] == 0
    assert abs(inputs.series[0, 1]).sum() > 1


def test_a_missing_volume_is_no_missing_window():
    """Contracts without volume keep their prices."""
    panel = walk("daily", symbols=1, bars=64, seed=3)
    values = panel.values.copy()
    values[4] = np.nan
    inputs = gather(dataclasses.replace(panel, values=values), np.array([63]), market_index=0)
    assert np.isfinite(inputs.series).all()
    assert np.abs(inputs.skip[0, :5]).sum() > 0


@pytest.mark.parametrize("kind", ["daily", "surface"])
def test_the_flat_table_holds_every_number_once(kind):
    """The market leads; series, skip, fingerprint, past variance follow, NaN kept as missing."""
    panel = _panel(kind)
    fingerprint = panel.fingerprint.copy()
    fingerprint[:, 4] = np.nan
    panel = dataclasses.replace(panel, fingerprint=fingerprint)
    inputs = gather(panel, ENDS, market_index=3)
    rows = table(inputs)
    grid = 27 if kind == "surface" else 0
    assert rows.shape == (4, 1 + 320 + 9 + 11 + 3 + 2 + grid)
    assert rows.dtype == np.float32
    assert (rows[:, TABLE_MARKET] == 3).all()
    assert np.isnan(rows).sum() == 4
    for field in (inputs.series.reshape(4, -1), inputs.skip, inputs.har):
        assert np.isin(field, rows).all()
