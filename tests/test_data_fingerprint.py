"""The fingerprint: its columns, causality, live tails, null calibration and bad input."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas import nulls, stats
from atlas.bars import Timeframe
from atlas.calendars import bar_opens, session_days, sessions
from atlas.data_fingerprint import (
    BRIDGE,
    FINGERPRINT_COLUMNS,
    FINGERPRINT_FLAGS,
    LOOKBACK,
    VOL_SESSIONS,
    fingerprint,
    fingerprint_surfaces,
    fingerprint_symbols,
    session_sums,
)
from atlas.errors import BarsError, ConfigError, DataError, SurfacesError


def bars_at(index: pd.DatetimeIndex, seed: int = 1, scale: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = len(index)
    close = 100.0 * np.exp(np.cumsum(scale * rng.standard_normal(n)))
    opened = np.concatenate([[100.0], close[:-1]])
    frame = {
        "open": opened,
        "high": np.maximum(opened, close) * (1 + 0.4 * scale * rng.random(n)),
        "low": np.minimum(opened, close) * (1 - 0.4 * scale * rng.random(n)),
        "close": close,
        "volume": np.exp(8 + 0.4 * rng.standard_normal(n)),
        "bid": close * 0.9999,
        "ask": close * (1.0001 + 0.0001 * rng.random(n)),
    }
    return pd.DataFrame(frame, index=index.rename("timestamp"))


def daily(n: int, seed: int = 1, scale: float = 0.01) -> pd.DataFrame:
    index = pd.date_range("2010-01-01", periods=n, freq="D", tz="UTC", unit="us")
    return bars_at(index, seed, scale)


def intraday(days: int, seed: int = 1) -> pd.DataFrame:
    start = pd.Timestamp("2026-01-05")
    dates = sessions("XNYS", start, start + pd.Timedelta(days=2 * days + 10))[:days]
    return bars_at(bar_opens("XNYS", Timeframe.parse("5min"), dates), seed, 0.001)


def same_bits(ours: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(ours, expected, check_exact=True, check_freq=False)


def test_one_row_a_bar_with_the_columns_of_the_design() -> None:
    """The frame has the bars' index, float32 statistics in order, and two flags."""
    bars = daily(400)
    table = fingerprint(bars)
    assert list(table.columns) == [*FINGERPRINT_COLUMNS, *FINGERPRINT_FLAGS]
    assert (table.dtypes.iloc[: len(FINGERPRINT_COLUMNS)] == np.float32).all()
    assert (table.dtypes.iloc[len(FINGERPRINT_COLUMNS) :] == np.bool_).all()
    pd.testing.assert_index_equal(table.index, bars.index, exact=False)
    assert table["skew_iv"].isna().all()
    assert table.drop(columns="skew_iv").iloc[-1].notna().all()


def test_columns_are_the_statistics_of_their_names() -> None:
    """Each column is the function of atlas.stats, across the seams between blocks too."""
    bars = daily(9_000)
    table = fingerprint(bars)
    z = stats.zscore
    for name, expected in (
        ("vol30", stats.realised_vol(bars["close"])),
        ("trend_r2", stats.linreg_r2(bars["close"])),
        ("hurst", stats.hurst_exp(bars["close"])),
        ("spread", stats.tick_spread(bars)),
        ("volume_z", z(np.log(bars["volume"]))),
        ("turnover_z", z(np.log(bars["volume"] * bars["close"]))),
        ("atr", stats.average_true_range(bars) / bars["close"]),
        ("kurtosis", stats.kurtosis(np.log(bars["close"]).diff())),
    ):
        full = slice(30 if name == "vol30" else 0, None)
        np.testing.assert_allclose(table[name][full], expected[full], rtol=3e-7, err_msg=name)


def test_intraday_vol30_reads_the_thirty_sessions_before_its_own() -> None:
    """Each bar has the root mean of 30 completed sessions' sums, overnight returns included."""
    bars = intraday(45)
    table = fingerprint(bars, "5min", calendar="XNYS")
    days = session_days(bars.index, "XNYS", Timeframe.parse("5min"))
    returns = np.log(bars["close"]).diff().to_numpy()
    names = np.unique(days)
    sums = np.array([(returns[days == day] ** 2).sum() for day in names])
    assert np.isnan(sums[0]), "the first session lacks its overnight return, so it does not count"
    for k in (1, 2, 5, 31, 44):
        rows = table[days == names[k]]
        known = sums[max(0, k - VOL_SESSIONS) : k]
        known = known[np.isfinite(known)]
        expected = np.sqrt(known.mean()) if known.size else np.nan
        np.testing.assert_allclose(rows["vol30"], expected, rtol=1e-6)
        assert (rows["vol30_short"] == (known.size < VOL_SESSIONS)).all()


def test_a_long_history_has_the_sessions_of_every_bar() -> None:
    """Past a block, where not every bar's session is looked up, vol30 is that of its calendar."""
    bars = intraday(165)
    bars = bars.drop(bars.index[[70, 71, 5_000, *range(6_000, 6_400), 9_000]])
    table = fingerprint(bars, "5min", calendar="XNYS")
    days = session_days(bars.index, "XNYS", Timeframe.parse("5min"))
    sums = session_sums(bars, "5min", calendar="XNYS")
    assert len(bars) > 12_288
    for day in np.unique(days)[1:]:
        known = sums[sums.index < day].tail(VOL_SESSIONS).dropna()
        expected = np.sqrt(known.mean()) if len(known) else np.nan
        np.testing.assert_allclose(table["vol30"][days == day], expected, rtol=1e-6)


def test_weekly_vol30_is_per_day() -> None:
    """A week's variance is spread over its five sessions, or seven days where nothing closes."""
    bars = daily(40)
    weekly = bars.set_axis(pd.date_range("2010-01-04", periods=40, freq="7D", tz="UTC"))
    whole = fingerprint(bars)["vol30"].to_numpy()
    five = fingerprint(weekly, "1w", calendar="XNYS")["vol30"].to_numpy()
    seven = fingerprint(weekly, "1w", calendar="24/7")["vol30"].to_numpy()
    np.testing.assert_allclose(five * np.sqrt(5), whole, rtol=1e-6)
    np.testing.assert_allclose(seven * np.sqrt(7), whole, rtol=1e-6)


@pytest.mark.parametrize(("timeframe", "calendar"), [("1d", "24/7"), ("5min", "XNYS")])
@pytest.mark.parametrize("length", [LOOKBACK, 300, 1_000])
def test_a_live_tail_has_the_bits_of_the_batch(timeframe: str, calendar: str, length: int) -> None:
    """257 bars and the session sums give the last row of a long history, bit for bit."""
    bars = daily(6_000) if timeframe == "1d" else intraday(80)
    whole = fingerprint(bars, timeframe, calendar=calendar)
    sums = session_sums(bars.iloc[:-1], timeframe, calendar=calendar)
    tail = fingerprint(bars.iloc[-length:], timeframe, calendar=calendar, session_sums=sums)
    same_bits(tail.iloc[-1:], whole.iloc[-1:])
    full = slice(-(length - LOOKBACK + 1), None)
    same_bits(tail.iloc[full], whole.iloc[full])


@pytest.mark.parametrize(("timeframe", "calendar"), [("1d", "24/7"), ("5min", "XNYS")])
@pytest.mark.parametrize("last", [0, 29, 300, 4_095, 4_096, 4_500])
def test_poisoning_the_future_changes_nothing(timeframe: str, calendar: str, last: int) -> None:
    """Whatever comes after bar t, rows up to t keep their bits."""
    bars = daily(5_000) if timeframe == "1d" else intraday(65).iloc[:5_000]
    whole = fingerprint(bars, timeframe, calendar=calendar)
    for poison in (np.nan, 1_000.0):
        future = bars.copy()
        future.iloc[last + 1 :] *= poison
        poisoned = fingerprint(future, timeframe, calendar=calendar)
        same_bits(poisoned.iloc[: last + 1], whole.iloc[: last + 1])
        shortened = fingerprint(bars.iloc[: last + 1], timeframe, calendar=calendar)
        same_bits(shortened, whole.iloc[: last + 1])


def test_one_missing_bar_spoils_no_later_row() -> None:
    """After a bar of NaN, every column recovers to the bits it would have had."""
    bars = daily(1_500)
    whole = fingerprint(bars)
    holed = bars.copy()
    holed.iloc[500] = np.nan
    table = fingerprint(holed)
    same_bits(table.iloc[:500], whole.iloc[:500])
    same_bits(table.iloc[500 + 258 :], whole.iloc[500 + 258 :])
    assert table["vol30"].iloc[500:].notna().all(), "vol30 takes the sessions that there are"
    assert table["vol30_short"].iloc[500:531].all()
    assert not table["vol30_short"].iloc[532:].any()


def garch_t(
    n: int, seed: int, alpha: float = 0.12, beta: float = 0.8, df: float = 3.5
) -> np.ndarray:
    """Draw returns of a GARCH(1, 1) walk with Student-t innovations, sign by a fair coin."""
    rng = np.random.default_rng(seed)
    shock = rng.standard_t(df, n) / np.sqrt(df / (df - 2))
    out, h = np.empty(n), 1.0
    for t in range(n):
        out[t] = np.sqrt(h) * shock[t]
        h = min(1 - alpha - beta + alpha * out[t] ** 2 + beta * h, 25.0)
    return out


@pytest.mark.parametrize("law", ["gaussian", "garch"])
def test_null_columns_exceed_95_percent_on_at_most_5_percent_of_walks(law: str) -> None:
    """On Gaussian and GARCH-t walks the nulls' upper tail is at most nominal, + 3 SE."""
    n = 1_000_000 if law == "gaussian" else 400_000
    returns = np.random.default_rng(2).standard_normal(n) if law == "gaussian" else garch_t(n, 3)
    bars = pd.DataFrame(
        {"close": np.exp(1e-3 * np.cumsum(returns))},
        index=pd.date_range("2000-01-01", periods=n, freq="min", tz="UTC", unit="us"),
    )
    table = fingerprint(
        bars.assign(open=bars["close"], high=bars["close"], low=bars["close"]), "1min"
    )
    for name, step in (("trend_r2_null", 30), ("hurst_null", 256)):
        values = table[name].iloc[256::step].to_numpy()  # windows that share no return
        share = (values > 0.95).mean()
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / values.size), name
        assert share >= 0.03, f"{name}: a null that never fires is of no use"
        assert np.median(values) == pytest.approx(0.5, abs=0.06), name


def test_the_stored_trend_table_agrees_with_a_fresh_simulation() -> None:
    """60,000 new walks have the stored distribution, within Kolmogorov's 99.9 % distance."""
    fresh = nulls.simulate_trend(60_000, seed=99)
    assert np.abs(fresh - nulls.TREND_TABLE).max() < 1.95 / np.sqrt(60_000)
    assert (np.diff(nulls.TREND_TABLE) >= 0).all()
    found = nulls.trend_null(np.array([0.0, 0.6, 0.8, 1.0, np.nan]))
    np.testing.assert_allclose(found[:4], [0.0, 0.64, 0.85, 1.0], atol=0.01)
    assert np.isnan(found[4])


def test_the_ratio_null_is_the_normal_distribution() -> None:
    """Φ from the table is scipy's within 1e-6, saturates at its ends, and passes NaN on."""
    z = np.array([-40.0, -6.0, -1.6449, 0.0, 0.5, 1.96, 6.0, np.inf, np.nan])
    found = nulls.ratio_null(z, np.ones(z.size))
    np.testing.assert_allclose(found[:-1], scipy.stats.norm.cdf(z[:-1]), rtol=0, atol=1e-6)
    assert np.isnan(found[-1])


def test_no_bit_has_changed() -> None:
    """Fingerprints of old homes rest on these bits; the inputs are rounded, as exp is not exact."""
    tables = [
        fingerprint(daily(1_500, 8).round(6)),
        fingerprint(daily(1_500, 9).round(6).drop(columns=["bid", "ask"])),
        fingerprint(intraday(20).round(6), "5min", calendar="XNYS"),
    ]
    values = np.concatenate([table.to_numpy(np.float32) for table in tables])
    content = np.where(np.isnan(values), np.float32(-9.0), values).tobytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "0def68396eeec1a4"


def test_prices_are_adjusted_and_turnover_is_not() -> None:
    """A split recorded by adj_close is no move; turnover takes the price that was paid."""
    bars = daily(400)
    split = bars.copy()
    split.loc[split.index[:200], ["open", "high", "low", "close"]] *= 2
    split.loc[split.index[:200], "volume"] /= 2
    split["adj_close"] = bars["close"]
    plain, ours = fingerprint(bars), fingerprint(split)
    for name in ("vol30", "trend_r2", "hurst", "atr", "kurtosis", "turnover_z"):
        np.testing.assert_allclose(ours[name], plain[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_missing_quotes_and_volume_are_said_to_be_missing() -> None:
    """Without quotes the spread is an estimate and flagged; without volume its scores are NaN."""
    bars = daily(400)
    assert not fingerprint(bars)["spread_estimated"].any()
    bare = fingerprint(bars.drop(columns=["bid", "ask", "volume"]))
    assert bare["spread_estimated"].iloc[30:].all()
    assert bare["spread"].iloc[30:].notna().all()
    assert bare[["volume_z", "turnover_z"]].isna().all(axis=None)
    partly = bars.copy()
    partly.loc[partly.index[200], "bid"] = np.nan
    flags = fingerprint(partly)["spread_estimated"]
    assert flags.iloc[200:230].all()
    assert flags.sum() == 30
    silent = bars.copy()
    silent.loc[silent.index[200], "volume"] = 0.0
    z = fingerprint(silent)["volume_z"]
    assert z.iloc[200:230].isna().all()
    assert z.iloc[230:].notna().all()


def test_degenerate_bars_have_a_stated_answer() -> None:
    """No bars, one bar, and a constant price give NaN or 0, no error and no warning."""
    bars = daily(400)
    assert fingerprint(bars.iloc[:0]).empty
    assert fingerprint(bars.iloc[:1]).drop(columns=list(FINGERPRINT_FLAGS)).isna().all(axis=None)
    constant = bars.assign(open=5.0, high=5.0, low=5.0, close=5.0, volume=7.0)
    row = fingerprint(constant.drop(columns=["bid", "ask"])).iloc[-1]
    assert row[["vol30", "atr", "spread"]].tolist() == [0, 0, 0]
    nothing = ["trend_r2", "trend_r2_null", "hurst", "hurst_null", "kurtosis", "volume_z"]
    assert row[nothing].isna().all()
    for scale in (1e-9, 1e9):
        columns = ["open", "high", "low", "close", "bid", "ask"]
        scaled = bars.assign(**{name: bars[name] * scale for name in columns})
        np.testing.assert_allclose(
            fingerprint(scaled)[list(FINGERPRINT_COLUMNS)],
            fingerprint(bars)[list(FINGERPRINT_COLUMNS)],
            rtol=2e-5,
        )


def test_surfaces_are_fingerprinted_by_their_atm_iv() -> None:
    """The nearest tenor's at-the-money iv stands for a price; quantities of trade are NaN."""
    rng = np.random.default_rng(4)
    index = pd.date_range("2020-01-01", periods=400, freq="D", tz="UTC", unit="us")
    grid = 0.3 * np.exp(0.05 * np.cumsum(rng.standard_normal((400, 3, 9)), axis=0))
    table = fingerprint_surfaces(index, grid)
    atm = grid[:, 0, 4]
    bars = pd.DataFrame({"open": atm, "high": atm, "low": atm, "close": atm}, index=index)
    shared = [
        "vol30",
        "vol30_short",
        "trend_r2",
        "trend_r2_null",
        "hurst",
        "hurst_null",
        "kurtosis",
    ]
    same_bits(
        table[shared].rename_axis("timestamp"), fingerprint(bars)[shared].rename_axis("timestamp")
    )
    np.testing.assert_allclose(
        table["skew_iv"], grid[:, 0, 2] - grid[:, 0, 6], rtol=1e-6, atol=1e-8
    )
    assert table[["spread", "volume_z", "turnover_z", "atr"]].isna().all(axis=None)
    with pytest.raises(SurfacesError, match="one surface a timestamp"):
        fingerprint_surfaces(index[:-1], grid)


@pytest.mark.parametrize("hole", [1, BRIDGE, BRIDGE + 1])
def test_short_holes_of_the_money_are_bridged(hole: int) -> None:
    """Up to five snapshots without the quote read as no move; a longer hole is a hole."""
    rng = np.random.default_rng(5)
    index = pd.date_range("2020-01-01", periods=700, freq="D", tz="UTC", unit="us")
    grid = 0.3 * np.exp(0.05 * np.cumsum(rng.standard_normal((700, 3, 9)), axis=0))
    holed = grid.copy()
    holed[300 : 300 + hole, 0, 4] = [np.nan, 0.0, -1.0, np.inf, np.nan, np.nan][:hole]
    table = fingerprint_surfaces(index, holed)
    carried = grid.copy()
    carried[300 : 300 + hole, 0, 4] = grid[299, 0, 4]
    if hole <= BRIDGE:
        same_bits(table, fingerprint_surfaces(index, carried))
    else:
        same_bits(table.iloc[:305], fingerprint_surfaces(index, carried).iloc[:305])
        assert table["trend_r2"].iloc[305:335].isna().all()
        assert table["hurst"].iloc[562:].notna().all()
    same_bits(table.iloc[:300], fingerprint_surfaces(index[:300], holed[:300]))
    leading = fingerprint_surfaces(index, np.where(np.arange(700)[:, None, None] < 3, np.nan, grid))
    assert leading["trend_r2"].iloc[:32].isna().all(), "nothing is carried from before the first"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.sampled_from(["1d", "1min"]))
def test_any_bars_have_bounded_causal_statistics(seed: int, n: int, timeframe: str) -> None:
    """Whatever the prices, gaps and holes: bounds hold, and rows know nothing of later bars."""
    rng = np.random.default_rng(seed)
    bars = daily(n, seed, scale=float(rng.choice([1e-6, 1e-2, 1.0])))
    bars *= float(rng.choice([1e-9, 1.0, 1e9]))
    for name in bars.columns:
        hits = rng.random(n) < 0.01
        bars.loc[hits, name] = rng.choice([np.nan, np.inf, 0.0, -1.0, 1e300], hits.sum())
    table = fingerprint(bars, timeframe)
    unit = table[["trend_r2", "trend_r2_null", "hurst", "hurst_null"]]
    assert ((unit >= 0) & (unit <= 1) | unit.isna()).all(axis=None)
    for name in ("volume_z", "turnover_z"):
        assert not (table[name].abs() > np.sqrt(29) * 1.00001).any()
    assert not (table["vol30"] < 0).any()
    assert not (table["kurtosis"] < 0.999).any()
    cut = int(rng.integers(0, n))
    same_bits(fingerprint(bars.iloc[:cut], timeframe), table.iloc[:cut])


def test_bad_input_is_named() -> None:
    """A missing column and timestamps out of order are errors that say what to do."""
    bars = daily(40)
    with pytest.raises(BarsError, match="'high' is missing"):
        fingerprint(bars.drop(columns="high"))
    for wrong in (bars.iloc[::-1], bars.iloc[[0, 1, 1, 2]]):
        with pytest.raises(DataError, match=r"ascending order.*row \d+ .*sort the bars"):
            fingerprint(wrong)
    for wrong in (bars.to_numpy(), bars["close"], None):
        with pytest.raises(BarsError, match="expected a pandas DataFrame with the columns"):
            fingerprint(wrong)
    with pytest.raises(BarsError, match="'close' comes more than once"):
        fingerprint(pd.concat([bars, bars[["close"]]], axis=1))
    with pytest.raises(BarsError, match="'close': expected numbers; got datetime64"):
        fingerprint(bars.assign(close=bars.index))
    with pytest.raises(ConfigError, match="timeframe 60: expected a number and one of"):
        fingerprint(bars, 60)  # type: ignore[arg-type]
    by_date = pd.Series([1.0], index=pd.to_datetime(["2009-12-31"]))
    for sums in (by_date, {1: 2.0}):
        with pytest.raises(DataError, match="Series by whole days since 1970"):
            fingerprint(bars, session_sums=sums)
    for sums in (pd.Series([-1.0], index=[1]), pd.Series([1.0, 2.0], index=[1, 1])):
        with pytest.raises(DataError, match="a negative one or a session twice"):
            fingerprint(bars, session_sums=sums)
    with pytest.raises(DataError, match=r"by a symbol's place, 0 to 0; got \[4\]"):
        fingerprint_symbols(bars, np.array([0, 40]), session_sums={4: by_date})


def test_minutes_taken_for_days_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The default timeframe is a day: bars that come faster are said to, others are not."""
    fingerprint(daily(40))
    fingerprint(intraday(1), "5min", calendar="XNYS")
    assert not caplog.messages
    fingerprint(intraday(1))
    assert "bars of 1d were expected, but they come every 300 s" in caplog.messages[0]
