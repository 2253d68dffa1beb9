"""The contract of bars: names, types and time are settled, values are left alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.bars import COLUMNS, Timeframe, adjusted, check_bars
from atlas.errors import BarsError, ConfigError


def raw(**columns: object) -> pd.DataFrame:
    base = {
        "timestamp": ["2026-11-19T14:30:00Z", "2026-11-19T14:31:00Z"],
        "open": [1, 2],
        "high": [2.0, 1.0],
        "low": [0.5, np.nan],
        "close": [1.5, -3.0],
    }
    return pd.DataFrame({**base, **columns})


@pytest.mark.parametrize(
    ("text", "name", "seconds"),
    [("1s", "1s", 1), ("60min", "1h", 3600), ("24h", "1d", 86_400), ("7d", "1w", 604_800)],
)
def test_timeframe_has_one_name_for_a_length(text: str, name: str, seconds: int) -> None:
    """Equal lengths are equal, however they are written."""
    assert Timeframe.parse(text) == Timeframe(name, seconds)


@given(st.integers(1, 604_800))
def test_timeframe_reads_back_its_own_name(seconds: int) -> None:
    """The name a length gets stands for that length."""
    one = Timeframe.parse(f"{seconds}s")
    assert one.seconds == seconds == one.delta.total_seconds()
    assert Timeframe.parse(one.name) == one
    assert one.is_intraday == (seconds < 86_400)
    assert one.bars_per_day * seconds == pytest.approx(86_400)


@pytest.mark.parametrize("text", ["", "5", "min", "0min", "-1d", "2w", "1.5h", "1d\n", "1 min"])
def test_timeframe_refuses_what_is_no_length(text: str) -> None:
    """Anything but a whole number and a unit, from 1s to 1w, is refused by name."""
    with pytest.raises(ConfigError, match=r"timeframe .*expected a number and one of"):
        Timeframe.parse(text)


def test_check_bars_settles_form_and_leaves_values_alone() -> None:
    """Bad values pass, other columns go, a missing volume is missing and never 0."""
    bars = check_bars(raw(dividends=0.0, bid=[1, 2]))
    assert list(bars.columns) == [*COLUMNS, "bid"]
    assert bars.index.name == "timestamp"
    assert str(bars.index.dtype) == "datetime64[us, UTC]"
    assert (bars.dtypes == np.float64).all()
    assert bars["volume"].isna().all()
    assert bars["close"].iloc[1] == -3.0
    assert bars["high"].iloc[1] < bars["open"].iloc[1]


def test_check_bars_takes_index_zone_and_its_own_result() -> None:
    """Dates may be the index, in any zone or in none (then UTC); a checked frame stays itself."""
    bars = check_bars(raw())
    local = bars.tz_convert("Asia/Tokyo")
    naive = bars.tz_localize(None)
    for same in (bars, local, naive, bars.reset_index()):
        pd.testing.assert_frame_equal(check_bars(same), bars)


def test_a_checked_frame_costs_no_copy_and_stays_its_own() -> None:
    """What is in form shares memory with its result, and writing to either leaves the other."""
    bars = check_bars(raw(bid=[1.0, 2.0]))
    again = check_bars(bars)
    assert np.shares_memory(again["close"].to_numpy(), bars["close"].to_numpy())
    again.iloc[0] = 7.0
    assert bars["close"].iloc[0] == 1.5
    assert check_bars(raw())["close"].iloc[0] == 1.5
    for other in (bars[bars.columns[::-1]], bars.astype({"close": np.float32})):
        pd.testing.assert_frame_equal(check_bars(other), bars)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (raw().drop(columns="high"), "XYZ: column 'high' is missing; columns that came: timestamp"),
        (raw().drop(columns="timestamp"), "XYZ: column 'timestamp' is missing"),
        (raw(close=["1.5", "abc"]), "XYZ: column 'close': expected numbers; .*abc"),
        (raw(timestamp=["2026-11-19", "soon"]), "'timestamp': row 1 .*expected a date.*got 'soon'"),
        (raw(timestamp=["06.01.2025", "07.01.2025"]), "row 0 .*expected a date.*got '06.01.2025'$"),
        (raw(timestamp=["2026-11-19", None]), "XYZ: column 'timestamp': row 1 .*no date"),
        (raw(timestamp=[1763562600, 1763562660]), "XYZ: column 'timestamp': expected dates"),
    ],
)
def test_check_bars_names_symbol_and_column(frame: pd.DataFrame, message: str) -> None:
    """What cannot be read is refused with the symbol, the column and what came."""
    with pytest.raises(BarsError, match=message):
        check_bars(frame, symbol="XYZ")


def test_adjusted_scales_all_four_prices() -> None:
    """Prices are scaled by adj_close / close; doing it twice changes nothing."""
    bars = check_bars(raw(close=[10.0, 20.0], adj_close=[5.0, 20.0]))
    scaled = adjusted(bars)
    assert scaled["open"].tolist() == [0.5, 2.0]
    assert scaled["close"].tolist() == [5.0, 20.0]
    pd.testing.assert_frame_equal(adjusted(scaled), scaled)


def test_adjusted_never_mixes_scales() -> None:
    """A row without a factor takes the one before it; before the first there is no price."""
    bars = check_bars(raw(close=[10.0, 20.0], adj_close=[np.nan, 10.0]))
    assert adjusted(bars)["close"].isna().tolist() == [True, False]
    bars = check_bars(raw(close=[10.0, 20.0], adj_close=[5.0, np.nan]))
    assert adjusted(bars)["close"].tolist() == [5.0, 10.0]
    bars = check_bars(raw(adj_close=np.nan))
    assert adjusted(bars)["close"].tolist() == [1.5, -3.0]
