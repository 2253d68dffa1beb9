"""Rules say the same to NumPy and to Great Expectations; measures find what they are named for."""

import numpy as np
import pandas as pd
import pytest

from atlas.measures import (
    bad_bars,
    bad_quotes,
    bar_measures,
    bar_warnings,
    quote_warnings,
    robust_z,
)
from atlas.row_rules import BAR_RULES, SESSION_RULES, SURFACE_RULES, Rule, broken_by
from pipelines.suite import broken

DAY = 86_400_000_000
RULES = {rule.name: rule for rule in (*SESSION_RULES, *SURFACE_RULES)}


def bars(n: int = 60, **columns: object) -> pd.DataFrame:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 0.01, n)))
    frame = pd.DataFrame(
        {"open": close, "high": 1.01 * close, "low": 0.99 * close, "close": close, "volume": 5.0},
        index=pd.date_range("2024-01-01", periods=n, tz="UTC", unit="us", name="timestamp"),
    )
    return frame.assign(**columns)


def arrays(frame: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return frame.index.asi8, {name: frame[name].to_numpy() for name in frame}


def breaks(rule: str, columns: dict[str, np.ndarray]) -> list[int]:
    return np.flatnonzero(broken_by(columns, RULES[rule])).tolist()


def test_numpy_and_great_expectations_agree_on_every_rule() -> None:
    """The suite is the rules in other words: on values at and around every limit, and on NaN."""
    rules = [*SESSION_RULES, *SURFACE_RULES]
    names = sorted(set().union(*(rule.columns for rule in rules)) - {"timestamp"})
    limits = [value for rule in rules for value in (rule.low, rule.high) if value < 1e9]
    values = np.unique([*limits, *(1.01 * np.array(limits)), -1.0, 0.5])
    pool = np.concatenate([values, [np.nan, np.inf, -np.inf]])
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({name: rng.choice(pool, 400) for name in names})
    judged = {rule.name: rule for rule in rules if rule.name != "timestamp_present"}
    found = broken(frame, judged.values(), "m")
    assert set(found) == set(judged)
    columns = {name: frame[name].to_numpy() for name in names}
    for name, rule in judged.items():
        assert (found[name] == broken_by(columns, rule)).all(), name
        assert found[name].any()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("high", np.inf),
        ("close", np.nan),
        ("low", 0.0),
        ("volume", -1.0),
        ("adj_close", 0.0),
        ("ask", -1.0),
        ("close", 1e4),
        ("low", 1e-3),
    ],
)
def test_a_bad_value_makes_its_bar_bad_and_no_other(column: str, value: float) -> None:
    """What validation quarantines, readers of archives and serving leave out."""
    frame = bars(bid=99.0, ask=99.1, adj_close=50.0)
    frame.iloc[30, frame.columns.get_loc(column)] = value
    assert np.flatnonzero(bad_bars(frame, DAY)).tolist() == [30]


def test_both_rows_of_a_key_are_bad() -> None:
    """Nobody can tell which of two is right."""
    frame = bars()
    twice = pd.concat([frame.iloc[:10], frame.iloc[[9]], frame.iloc[10:]])
    twice["open"] += np.linspace(0, 0.1, len(twice))
    assert np.flatnonzero(bad_bars(twice, DAY)).tolist() == [9, 10]


def test_a_price_on_another_scale_is_bad_until_it_stays() -> None:
    """One bar times 100 goes; of a lasting change of unit four bars go, and the fifth is taken."""
    frame = bars()
    prices = ["open", "high", "low", "close"]
    once, for_good = frame.copy(), frame.copy()
    once.iloc[20, :4] *= 100
    for_good.loc[for_good.index[20:], prices] /= 100
    assert np.flatnonzero(bad_bars(once, DAY)).tolist() == [20]
    assert np.flatnonzero(bad_bars(for_good, DAY)).tolist() == [20, 21, 22, 23]
    assert not bad_bars(frame * [0.3, 0.3, 0.3, 0.3, 1], DAY).any()


def test_what_makes_a_bar_bad_looks_back_only() -> None:
    """A later night's bars change no verdict, but for a key that comes again."""
    frame = bars(200)
    frame.iloc[[50, 51, 120], :4] *= 30
    whole = bad_bars(frame, DAY)
    assert whole.sum() == 3
    for end in (51, 52, 121, 150):
        assert (bad_bars(frame.iloc[:end], DAY) == whole[:end]).all()


def test_a_copy_of_the_bar_before_is_bad_if_anything_was_traded() -> None:
    """A minute without trades may look like the one before; a day, or a trade, may not."""
    frame = bars()
    frame.iloc[30] = frame.iloc[29]
    assert bad_bars(frame, DAY)[30]
    assert bad_bars(frame, 60_000_000)[30]
    frame.iloc[[29, 30], 4] = 0.0
    assert not bad_bars(frame, 60_000_000).any()


def test_a_stuck_price_warns_from_the_fifth_bar() -> None:
    """Four prices that do not move, whatever the volume."""
    frame = bars()
    frame.iloc[10:18, :4] = 100.0
    found = bar_warnings(*arrays(frame), DAY)
    assert breaks("not_stuck", found) == [14, 15, 16, 17]


def test_an_unannounced_split_warns_and_an_announced_one_does_not() -> None:
    """Halved prices are named unless adj_close tells of them; so is a reverse split."""
    for factor in (0.5, 3.0):
        frame = bars()
        frame.iloc[25:, :4] *= factor
        assert breaks("no_unannounced_split", bar_warnings(*arrays(frame), DAY)) == [25]
        told = frame.assign(adj_close=bars()["close"])
        assert breaks("no_unannounced_split", bar_warnings(*arrays(told), DAY)) == []


def test_an_outlier_stands_out_from_its_surroundings() -> None:
    """A robust z is about one for normal returns, and large for a print far off."""
    returns = np.random.default_rng(2).normal(0, 0.01, 2000)
    returns[700] = 0.6
    z = robust_z(returns, np.ones(2000, bool))
    assert np.median(z) == pytest.approx(0.674, abs=0.03)
    assert np.flatnonzero(z > 25).tolist() == [700]
    assert np.isnan(robust_z(returns[:10], np.ones(10, bool))).all()


def test_returns_over_a_closed_market_are_judged_among_themselves() -> None:
    """A night's move is no outlier among minutes."""
    frame = bars(600)
    times = np.arange(600) * 60_000_000 + (np.arange(600) // 30) * 10 * 3_600_000_000
    columns = {name: frame[name].to_numpy() for name in frame}
    jump = np.exp(0.4 * np.random.default_rng(5).normal(0, 1, 20))[np.arange(600) // 30]
    columns = {name: column * jump for name, column in columns.items()}
    found = bar_warnings(times, columns, 60_000_000)
    assert breaks("return_not_an_outlier", found) == []


def quotes(snapshots: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    times = pd.date_range("2024-01-01", periods=snapshots, tz="UTC", unit="us")
    rows = [(time, 1, d) for time in times for d in (-0.25, -0.5, 0.5, 0.25)]
    frame = pd.DataFrame(rows, columns=["timestamp", "tenor", "delta"])
    return frame.assign(iv=0.2 * np.exp(rng.normal(0, 0.02, len(rows))))


def test_quotes_are_bad_at_zero_near_zero_and_far_up() -> None:
    """An iv under 1 % or over 500 % a year is none; an unknown delta or a second quote neither."""
    frame = quotes()
    for row, value in ((8, 0.0), (21, 0.005), (34, 5.5), (47, np.nan)):
        frame.loc[row, "iv"] = value
    frame.loc[60, "delta"] = 0.3
    frame.loc[81, "timestamp"] = frame.loc[77, "timestamp"]
    assert np.flatnonzero(bad_quotes(frame)).tolist() == [8, 21, 34, 47, 60, 77, 81]


def test_wings_stuck_quotes_and_jumps_of_iv_warn() -> None:
    """A wing at five times the money, an iv that does not move, an iv that leaps."""
    frame = quotes()
    frame.loc[0, "iv"] = 1.1
    frame.loc[range(41, 41 + 4 * 7, 4), "iv"] = 0.21
    frame.loc[202, "iv"] = 0.7
    columns = [frame[name].to_numpy(float) for name in ("tenor", "delta", "iv")]
    found = quote_warnings(frame["timestamp"].astype("int64").to_numpy(), *columns)
    assert breaks("wing_near_the_money", found) == [0]
    assert breaks("iv_not_stuck", found) == [57, 61, 65]
    assert 202 in breaks("iv_change_not_an_outlier", found)


def test_measures_bear_short_and_hopeless_frames() -> None:
    """One row, two rows, nothing but NaN or zeros: an answer, no error."""
    for frame in (bars(1), bars(2), bars(5) * np.nan, bars(5) * 0):
        with np.errstate(all="ignore"):
            columns = {
                **bar_measures(*arrays(frame), DAY),
                **bar_warnings(*arrays(frame), DAY),
            }
        assert all(len(column) == len(frame) for column in columns.values())
    assert all(isinstance(rule, Rule) for rule in BAR_RULES)
