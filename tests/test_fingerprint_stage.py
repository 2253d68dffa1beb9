"""The fingerprint stage: what it writes, that it repeats itself, and when it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, sessions
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig, LabelConfig, MarketConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, FINGERPRINT_FLAGS, fingerprint
from atlas.errors import DataError
from atlas.surfaces import DELTAS
from pipelines import store
from pipelines.fingerprint import run
from pipelines.paths import Paths
from tests.judged import judge

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")
SURFACES = MarketConfig(
    timeframe="1d",
    calendar="24/7",
    modality="surface",
    label=LabelConfig(kind="surface_change"),
)


def config_of(**markets: MarketConfig) -> ATLASConfig:
    simulated = {"as_of": "2026-11-20", "markets": {}}
    dumped = {name: market.model_dump() for name, market in markets.items()}
    return ATLASConfig.parse({"markets": dumped, "simulated": simulated})


def daily_bars(seed: int, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.003 * rng.standard_normal(n)))
    stamps = pd.date_range(end="2026-11-19", periods=n, freq="D", tz="UTC", unit="us")
    frame = {"timestamp": stamps, "open": close, "high": close * 1.01, "low": close * 0.99}
    return pd.DataFrame(frame | {"close": close, "volume": np.exp(rng.standard_normal(n))})


def surfaces(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    stamps = pd.date_range(end="2026-11-19", periods=n, freq="D", tz="UTC", unit="us")
    keys = [(stamp, t, delta) for stamp in stamps for t in (1, 2, 3) for delta in DELTAS]
    frame = pd.DataFrame(keys, columns=["timestamp", "tenor", "delta"])
    return frame.assign(iv=0.3 + 0.01 * rng.standard_normal(len(frame)))


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A home whose markets validation has judged, finding no bad row."""
    for market in ("etf", "eq", "vol"):
        judge(Paths(tmp_path), market, AS_OF)
    return Paths(tmp_path)


def test_it_writes_a_row_a_bar_and_repeats_itself(paths: Paths) -> None:
    """Rows are the library's fingerprints with a rule's verdict; a second run is skipped."""
    settings = MarketConfig(timeframe="1d", calendar="24/7")
    config = config_of(etf=settings)
    for seed, symbol in enumerate(("BBB", "AAA")):
        store.write_bars(paths, "etf", symbol, daily_bars(seed), Timeframe.parse("1d"), "chart")
    summary = run(paths, config, as_of=AS_OF, market="etf")
    content = paths.fingerprints("etf").read_bytes()
    assert summary["rows"] == 800
    assert summary["symbols"] == 2
    assert sum(summary["rule_shares"].values()) == pytest.approx(1.0, abs=1e-5)
    table = pd.read_parquet(paths.fingerprints("etf"))
    assert list(table.columns) == [
        "symbol",
        "timestamp",
        *FINGERPRINT_COLUMNS,
        *FINGERPRINT_FLAGS,
        "rule",
    ]
    assert set(table["rule"]) <= set(EXPERT_IDS)
    assert table["symbol"].tolist() == ["AAA"] * 400 + ["BBB"] * 400
    bars = store.read_bars(paths, "etf", "AAA", as_of=AS_OF, config=settings)
    expected = fingerprint(bars, "1d").reset_index()
    pd.testing.assert_frame_equal(table.iloc[:400][expected.columns], expected, check_exact=True)
    assert run(paths, config, as_of=AS_OF, market="etf")["skipped"]
    paths.fingerprints("etf").unlink()
    again = run(paths, config, as_of=AS_OF, market="etf")
    assert not again["skipped"]
    assert paths.fingerprints("etf").read_bytes() == content


def test_a_night_reads_only_bars_known_by_then_and_not_in_quarantine(paths: Paths) -> None:
    """An earlier night ends earlier; a quarantined bar has no row, and both are new work."""
    config = config_of(etf=MarketConfig(timeframe="1d", calendar="24/7"))
    bars = daily_bars(1)
    store.write_bars(paths, "etf", "AAA", bars, Timeframe.parse("1d"), "chart")
    run(paths, config, as_of=AS_OF, market="etf")
    whole = pd.read_parquet(paths.fingerprints("etf"))
    run(paths, config, as_of=AS_OF - pd.Timedelta(days=10), market="etf")
    earlier = pd.read_parquet(paths.fingerprints("etf"))
    pd.testing.assert_frame_equal(earlier, whole.iloc[:-10], check_exact=True)
    bad = pd.DataFrame({"symbol": ["AAA"], "timestamp": bars["timestamp"].iloc[[7]]})
    judge(paths, "etf", AS_OF, bad)
    assert run(paths, config, as_of=AS_OF, market="etf")["rows"] == 399


def fingerprints_of_nights(
    paths: Paths, config: ATLASConfig, market: str, nights: list[pd.Timestamp]
) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Run night after night; return the summaries, the last file, and one made from nothing."""
    done = [run(paths, config, as_of=night, market=market) for night in nights]
    content = paths.fingerprints(market).read_bytes()
    paths.fingerprints(market).unlink()
    whole = run(paths, config, as_of=nights[-1], market=market)
    assert whole["computed"] == whole["rows"]
    return done, content, paths.fingerprints(market).read_bytes()


def test_a_night_computes_the_rows_it_lacks_and_leaves_the_bytes_of_a_full_run(
    paths: Paths,
) -> None:
    """Daily bars with adj_close holes: three nights, new rows only, the same file as at once."""
    config = config_of(etf=MarketConfig(timeframe="1d", calendar="24/7"))
    bars = daily_bars(1, 700)
    bars["adj_close"] = bars["close"] * 0.5
    bars.loc[bars.index[300:690], "adj_close"] = np.nan
    store.write_bars(paths, "etf", "AAA", bars, Timeframe.parse("1d"), "chart")
    store.write_bars(paths, "etf", "BBB", daily_bars(2, 40), Timeframe.parse("1d"), "chart")
    nights = [AS_OF - pd.Timedelta(days=days) for days in (20, 3, 0)]
    done, content, whole = fingerprints_of_nights(paths, config, "etf", nights)
    assert [summary["computed"] for summary in done] == [680 + 20, 17 + 17, 3 + 3]
    assert content == whole


def test_intraday_nights_need_no_more_than_their_sessions(paths: Paths) -> None:
    """Bars of an exchange: the last night's session is all that is computed, vol30 included."""
    config = config_of(eq=MarketConfig(timeframe="30min", calendar="XNYS"))
    step = Timeframe.parse("30min")
    days = sessions("XNYS", pd.Timestamp("2026-06-01"), pd.Timestamp("2026-11-19"))
    stamps = bar_opens("XNYS", step, days)
    bars = daily_bars(3, len(stamps)).assign(timestamp=stamps)
    store.write_bars(paths, "eq", "AAA", bars, step, "chart")
    nights = [AS_OF - pd.Timedelta(days=1), AS_OF]
    done, content, whole = fingerprints_of_nights(paths, config, "eq", nights)
    assert done[1]["computed"] == 13
    assert content == whole


def test_surface_nights_leave_the_bytes_of_a_full_run(paths: Paths) -> None:
    """Surfaces with holes at the money are bridged alike from a tail and from the beginning."""
    config = config_of(vol=SURFACES)
    frame = surfaces(500)
    money = (frame["tenor"] == 1) & (frame["delta"].abs() == 0.5)
    days = frame["timestamp"].dt.dayofyear
    frame.loc[money & days.isin([3, 4, 5, *range(315, 330)]), "iv"] = np.nan
    store.write_bars(paths, "vol", "SPY", frame, Timeframe.parse("1d"), "surface")
    nights = [AS_OF - pd.Timedelta(days=days) for days in (9, 1, 0)]
    done, content, whole = fingerprints_of_nights(paths, config, "vol", nights)
    assert done[-1]["computed"] < 10
    assert content == whole


def test_a_changed_past_is_computed_again(paths: Paths) -> None:
    """A bar quarantined or restated among the old ones makes its symbol's rows anew, no other."""
    config = config_of(etf=MarketConfig(timeframe="1d", calendar="24/7"))
    step = Timeframe.parse("1d")
    for seed, symbol in enumerate(("AAA", "BBB")):
        store.write_bars(paths, "etf", symbol, daily_bars(seed), step, "chart")
    night = AS_OF - pd.Timedelta(days=5)
    run(paths, config, as_of=night, market="etf")
    bars = daily_bars(0)
    bad = pd.DataFrame({"symbol": ["AAA"], "timestamp": bars["timestamp"].iloc[[50]]})
    judge(paths, "etf", AS_OF, bad)
    assert run(paths, config, as_of=AS_OF, market="etf")["computed"] == 399 + 5
    [path] = store.symbol_files(paths, "etf", "BBB")
    stored = pd.read_parquet(path)
    stored.loc[100, "close"] *= 1.001
    stored.to_parquet(path)
    done, content, whole = fingerprints_of_nights(paths, config, "etf", [AS_OF])
    assert done[0]["computed"] == 400
    assert content == whole
    paths.fingerprints("etf").write_bytes(b"edited by hand")
    assert run(paths, config, as_of=AS_OF, market="etf")["computed"] == 799


def test_surfaces_go_to_the_expert_of_surfaces(paths: Paths) -> None:
    """A market of surfaces has a row a snapshot, skew among its columns."""
    config = config_of(vol=SURFACES)
    store.write_bars(paths, "vol", "SPY", surfaces(), Timeframe.parse("1d"), "surface")
    summary = run(paths, config, as_of=AS_OF, market="vol")
    table = pd.read_parquet(paths.fingerprints("vol"))
    assert summary["rule_shares"] == {"options_skew": 1.0}
    assert table["skew_iv"].notna().all()
    assert len(table) == 300


def test_a_market_without_bars_is_refused_by_name(paths: Paths) -> None:
    """No symbol, or none with a bar by that night, is an error that says what to run."""
    config = config_of(etf=MarketConfig(timeframe="1d", calendar="24/7"))
    with pytest.raises(DataError, match="etf: expected bars known by 2026-11-20"):
        run(paths, config, as_of=AS_OF, market="etf")
    store.write_bars(paths, "etf", "AAA", daily_bars(1), Timeframe.parse("1d"), "chart")
    with pytest.raises(DataError, match="known by 2001-01-01"):
        run(paths, config, as_of=pd.Timestamp("2001-01-01", tz="UTC"), market="etf")
    assert not paths.fingerprints("etf").exists()
