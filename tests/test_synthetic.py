"""The simulated markets: their laws, their truth, and that they are the same everywhere."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from atlas.bars import Timeframe, check_bars
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, DataError
from atlas.laws import WARM_UP, follow_surface
from atlas.surfaces import DELTAS, butterfly, check_surfaces, surface_grid
from atlas.synthetic import (
    LAWS,
    QUOTED,
    Simulated,
    bayes_accuracy,
    simulate,
    simulate_arrays,
    surfaces,
    timestamps,
)
from pipelines.sources.simulated import SimulatedSource

CHARTS = [market for market in LAWS if market != "options_skew"]
END = pd.Timestamp("2026-11-20", tz="UTC")
MARKETS = {
    "crypto_1min": ("1min", "24/7"),
    "equity_5min": ("5min", "XNYS"),
    "equity_daily": ("1d", "XNYS"),
    "futures_30min": ("30min", "CMES"),
    "options_skew": ("1d", "XNYS"),
    "low_vol_etf": ("1d", "XNYS"),
}
DIGEST = "6d71ef971cb6ebd929788f77664b459c3ee61d99464639d76058c8291e6406c5"


def sample_digest() -> str:
    """Return a digest over a small sample of every market's values and probabilities."""
    total = hashlib.sha256()
    for market in LAWS:
        arrays = simulate_arrays(market, symbols=6, bars=400, seed=7)
        for array in arrays:
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def made(
    market: str, *, history: int, as_of: pd.Timestamp = END, symbols: int = 2
) -> list[Simulated]:
    timeframe, calendar = MARKETS[market]
    return list(
        simulate(
            market,
            symbols=symbols,
            history=history,
            history_end=END,
            timeframe=Timeframe.parse(timeframe),
            calendar=calendar,
            as_of=as_of,
            seed=7,
        )
    )


def times_of(market: str, *, history: int) -> pd.DatetimeIndex:
    timeframe, calendar = MARKETS[market]
    return timestamps(
        market,
        history=history,
        history_end=END,
        timeframe=Timeframe.parse(timeframe),
        calendar=calendar,
        as_of=END,
    )


def test_the_laws_cover_the_six_experts() -> None:
    """Every expert of the catalogue has one market made for it."""
    assert sorted(law.expert_id for law in LAWS.values()) == sorted(EXPERT_IDS)


def test_the_laws_are_frozen() -> None:
    """A small sample has the digest it always had; a new one needs a reason in CHANGELOG."""
    assert sample_digest() == DIGEST


def test_every_processor_writes_the_same() -> None:
    """Without the vector instructions in which NumPy's exp and log differ, bytes are the same."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    code = "from tests.test_synthetic import sample_digest; print(sample_digest())"
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == DIGEST


@pytest.mark.parametrize("market", LAWS)
def test_a_longer_history_extends_a_shorter_one(market: str) -> None:
    """A later night keeps every row of an earlier one, bit for bit, and appends to it."""
    history = 4 if market == "crypto_1min" else 90
    later = made(market, history=history, as_of=END + pd.Timedelta(days=7))
    for short, long in zip(made(market, history=history), later, strict=True):
        assert len(long.frame) > len(short.frame)
        pd.testing.assert_frame_equal(long.frame[: len(short.frame)], short.frame, check_exact=True)
        pd.testing.assert_frame_equal(long.truth[: len(short.truth)], short.truth, check_exact=True)


def test_memory_and_frames_hold_the_same_paths() -> None:
    """With the same seed, arrays hold what the frames hold."""
    frames = made("equity_daily", history=200, symbols=3)
    arrays = simulate_arrays("equity_daily", symbols=3, bars=200, seed=7)
    for place, one in enumerate(frames):
        np.testing.assert_array_equal(one.frame[list(QUOTED)].to_numpy(), arrays.paths[place])
        np.testing.assert_array_equal(one.truth["p"].to_numpy(), arrays.probability[place])
        assert set(one.truth["law"]) == {EXPERT_IDS[arrays.law[place]]}
    other = simulate_arrays("equity_daily", symbols=3, bars=200, seed=8)
    assert not np.array_equal(other.paths, arrays.paths)


@pytest.mark.parametrize("market", LAWS)
def test_the_best_accuracy_is_the_one_promised(market: str) -> None:
    """The Bayes accuracy of each pure law is that of its row, within .01."""
    p = simulate_arrays(market, symbols=60, bars=1500, seed=1, mixed_share=0).probability
    assert bayes_accuracy(p[:, WARM_UP:]) == pytest.approx(LAWS[market].bayes, abs=0.01)


def test_bayes_accuracy_of_a_case_by_hand() -> None:
    """The better call of each row is right with max(p, 1 − p)."""
    assert bayes_accuracy(np.array([0.3, 0.9])) == pytest.approx(0.8)


def moves(paths: np.ndarray) -> np.ndarray:
    """Return the change of the log close or of the butterfly after every row but the last."""
    shown = np.log(paths[..., QUOTED.index("close")]) if paths.ndim == 3 else None
    if shown is None:
        put, call, money = paths[:, :, 0, 2], paths[:, :, 0, 7], paths[:, :, 0, 4]
        shown = put + call - 2 * money
    change: np.ndarray = np.round(np.diff(shown, axis=1), 9)
    return change


@pytest.mark.parametrize("market", LAWS)
def test_signs_are_as_frequent_as_p_says(market: str) -> None:
    """At low, middle and high p, the next move is up as often as p says (99.9 % interval)."""
    arrays = simulate_arrays(market, symbols=60, bars=1000, seed=2)
    change, p = moves(arrays.paths).ravel(), arrays.probability[:, :-1].ravel()
    up, p = (change > 0)[change != 0], p[change != 0]
    for low, high in ((0.0, 0.4), (0.4, 0.6), (0.6, 1.0)):
        rows = (p >= low) & (p < high)
        deviation = (up[rows] - p[rows]).sum() / np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert rows.sum() > 1000
        assert abs(deviation) < stats.norm.ppf(0.9995)


@pytest.mark.parametrize("market", LAWS)
def test_a_path_starts_as_a_random_walk(market: str) -> None:
    """The first 64 moves have p = ½; the law starts with the 65th."""
    p = simulate_arrays(market, symbols=60, bars=WARM_UP + 1, seed=3).probability
    assert (p[:, : WARM_UP - 1] == 0.5).all()
    assert (p[:, WARM_UP - 1] != 0.5).mean() > 0.5  # crypto's law is silent after small moves


def s_by_the_book(market: str, r: np.ndarray, log_close: np.ndarray) -> float:
    """Return s of a chart law, written a second time after its table with NumPy's own tools."""
    z = r[::-1] / r.std()
    if market == "crypto_1min":
        return float(-np.sign(z[0]) * np.clip(abs(z[0]) - 0.4, 0, 2))
    if market == "equity_5min":
        return float(np.clip(z[0] + 3 * (z[1] + z[2]) + z[3], -6, 6))
    if market == "low_vol_etf":
        weights = stats.norm.pdf(np.arange(-5, 6), scale=4)
        smooth = np.average(log_close[-11:], weights=weights)
        return float(-np.clip((smooth - log_close[-50:].mean()) / (3 * r.std()), -2, 2))
    n = 24 if market == "equity_daily" else 30
    time, y = np.arange(n), log_close[-n:]
    line = stats.linregress(time, y)
    if market == "futures_30min":
        return float(np.sign(line.slope) * line.rvalue**2)
    corners = np.interp(np.linspace(0, 1, n), [0, 0.25, 0.5, 0.75, 1], [1, -1, 0.6, -1, 1])
    shape = corners - np.polyval(np.polyfit(time, corners, 1), time)
    return float(np.corrcoef(y - np.polyval(np.polyfit(time, y, 1), time), shape)[0, 1])


@pytest.mark.parametrize("market", CHARTS)
def test_p_follows_from_the_bars_as_written(market: str) -> None:
    """P of a row is the law of the table, read from written closes up to that row alone."""
    arrays = simulate_arrays(market, symbols=3, bars=300, seed=4, mixed_share=0)
    for values, p in zip(arrays.paths, arrays.probability, strict=True):
        log_close = np.log(np.append(100.0, values[:, QUOTED.index("close")]))
        for t in (WARM_UP - 1, 100, 200, 299):
            seen = log_close[: t + 2]
            s = s_by_the_book(market, np.diff(seen)[-WARM_UP:], seen)
            wanted = np.clip(1 / (1 + np.exp(-LAWS[market].kappa * s)), 0.03, 0.97)
            assert p[t] == pytest.approx(wanted, abs=2e-9)


def test_p_of_a_surface_follows_from_the_surface_as_written() -> None:
    """The curvature that the law reads is twice the butterfly that the surface shows."""
    arrays = simulate_arrays("options_skew", symbols=2, bars=200, seed=4)
    iv, p = arrays.paths[1], arrays.probability[1]
    q = 2 * (iv[:, 0, 2] + iv[:, 0, 7] - iv[:, 0, 4] - iv[:, 0, 5])
    for t in (WARM_UP - 1, 100, 199):
        window = q[t + 1 - WARM_UP : t + 1]
        s = -np.clip((q[t] - window.mean()) / window.std() + q[t] / 0.1, -2, 2)
        assert p[t] == pytest.approx(1 / (1 + np.exp(-LAWS["options_skew"].kappa * s)), abs=2e-9)


def test_the_butterfly_changes_with_the_curvature() -> None:
    """The label of a surface, the butterfly's next change, has the sign of q's change."""
    rng = np.random.default_rng(5)
    e, u, coin = rng.standard_t(4, 3000), rng.random(3000), rng.random(3000)
    q, x, p = follow_surface(LAWS["options_skew"], e, u, coin)
    shown = np.round(butterfly(surface_grid(check_surfaces(long_frame(surfaces(q, x))))[1]), 9)
    np.testing.assert_array_equal(np.sign(np.diff(shown)), np.sign(np.round(np.diff(q), 9)))
    drawn = np.where(u < p[:-1], 1, -1)[1:]
    agree = np.diff(shown) * drawn
    assert (agree >= 0).all()
    assert (agree == 0).mean() < 0.002


def long_frame(iv: np.ndarray) -> pd.DataFrame:
    """Lay (N, 3, 10) surfaces out one quote a row, on consecutive days."""
    days = pd.date_range("2020-01-01", periods=len(iv), tz="UTC", unit="us")
    index = pd.MultiIndex.from_product(
        [days, [1, 2, 3], DELTAS], names=["timestamp", "tenor", "delta"]
    )
    return pd.Series(iv.ravel(), index=index, name="iv").reset_index()


@pytest.mark.parametrize("market", CHARTS)
def test_bars_are_sound(market: str) -> None:
    """Bars keep their contract: order of prices, quotes around the close, few exact ties."""
    arrays = simulate_arrays(market, symbols=40, bars=1500, seed=6)
    opened, high, low, close, volume, bid, ask = np.moveaxis(arrays.paths, -1, 0)
    assert (high >= np.maximum(opened, close)).all()
    assert (low <= np.minimum(opened, close)).all()
    assert (low > 0).all()
    assert (volume >= 0).all()
    assert (bid <= ask).all()
    np.testing.assert_array_equal(opened[:, 1:], close[:, :-1])
    assert (opened == close).mean() < 0.002


@pytest.mark.parametrize("market", CHARTS)
def test_a_third_of_the_symbols_follow_another_law(market: str) -> None:
    """About .3 of a chart market's symbols follow one of the other four charts' laws."""
    arrays = simulate_arrays(market, symbols=400, bars=1, seed=7)
    counts = np.bincount(arrays.law, minlength=len(EXPERT_IDS))
    home = EXPERT_IDS.index(LAWS[market].expert_id)
    assert counts[EXPERT_IDS.index("options_skew")] == 0
    assert abs(counts[home] - 280) < 31  # 99.9 % of a binomial (400, .7)
    others = np.delete(counts, [home, EXPERT_IDS.index("options_skew")])
    assert (abs(others - 30) < 18).all()


def test_the_first_night_ends_and_starts_where_it_should() -> None:
    """A history of N sessions ends with the last one known; no row is known after as_of."""
    daily = made("equity_daily", history=100)[0].frame["timestamp"]
    assert len(daily) == 100
    assert daily.iloc[-1] == pd.Timestamp("2026-11-19", tz="UTC")
    surface = made("options_skew", history=100)[0]
    assert surface.frame["timestamp"].iloc[-1] == pd.Timestamp("2026-11-19 21:00", tz="UTC")
    assert len(surface.frame) == 100 * 30
    assert len(surface.truth) == 100
    minute = made("crypto_1min", history=2)[0].frame["timestamp"]
    assert len(minute) == 2 * 1440
    assert minute.iloc[-1] == pd.Timestamp("2026-11-19 23:59", tz="UTC")


def test_early_closes_shorten_a_session() -> None:
    """A half-day of the stock exchange has 42 bars of five minutes, and its surface comes early."""
    five = times_of("equity_5min", history=250)
    assert (five.normalize() == pd.Timestamp("2025-11-28", tz="UTC")).sum() == 42
    assert (five.normalize() == pd.Timestamp("2025-12-01", tz="UTC")).sum() == 78
    shot = times_of("options_skew", history=250)
    assert pd.Timestamp("2025-11-28 18:00", tz="UTC") in shot


def test_futures_have_46_bars_a_day() -> None:
    """A full session of the futures exchange lasts 23 hours."""
    times = times_of("futures_30min", history=5)
    session = (times + pd.Timedelta(hours=1)).normalize()
    assert (session == pd.Timestamp("2026-11-18", tz="UTC")).sum() == 46
    assert times[-1] + pd.Timedelta(minutes=30) == END


def test_frames_keep_the_contracts() -> None:
    """Raw frames pass the checks that every source's frames must pass."""
    bars = check_bars(made("futures_30min", history=3)[0].frame)
    assert list(bars.columns) == list(QUOTED)
    assert bars.index.is_monotonic_increasing
    assert check_surfaces(made("options_skew", history=3)[0].frame)["tenor"].dtype == np.int8


def test_what_cannot_be_simulated_is_named() -> None:
    """An unknown market, and a night before a history starts, say so."""
    with pytest.raises(ConfigError, match=r"'gold'.*expected one of crypto_1min"):
        simulate_arrays("gold", symbols=1, bars=1, seed=1)
    with pytest.raises(DataError, match=r"equity_daily: .* starts after 2020-01-01"):
        made("equity_daily", history=5, as_of=pd.Timestamp("2020-01-01", tz="UTC"))


@pytest.fixture
def source() -> SimulatedSource:
    config = ATLASConfig.parse(
        {
            "markets": {
                "equity_daily": {"timeframe": "1d", "calendar": "XNYS"},
                "other": {"timeframe": "1d", "calendar": "XNYS"},
            },
            "simulated": {
                "as_of": "2026-11-20",
                "markets": {"equity_daily": {"symbols": 3, "sessions": 80}},
            },
        }
    )
    return SimulatedSource(config)


def test_the_source_gives_what_a_night_knows(source: SimulatedSource) -> None:
    """An earlier night knows less of the same; other markets have no symbols."""
    night = source.as_of("equity_daily")
    assert night == END
    assert source.symbols("other") == []
    assert source.truth("other", night).empty
    first, *_ = source.symbols("equity_daily")
    whole = source.fetch("equity_daily", first, as_of=night)
    earlier = source.fetch("equity_daily", first, as_of=night - pd.Timedelta(days=1))
    pd.testing.assert_frame_equal(earlier, whole[:-1])
    with pytest.raises(DataError, match="equity_daily/NOPE: no such simulated symbol"):
        source.fetch("equity_daily", "NOPE", as_of=night)


def test_the_source_simulates_a_market_once(
    source: SimulatedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetching every symbol and the truth of one night needs one simulation."""
    calls = []

    def counted(market: str, **options: object) -> Iterator[Simulated]:
        calls.append(market)
        return simulate(market, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("pipelines.sources.simulated.simulate", counted)
    for symbol in source.symbols("equity_daily"):
        source.fetch("equity_daily", symbol, as_of=END)
    truth = source.truth("equity_daily", END)
    assert calls == ["equity_daily"]
    assert list(truth.columns) == ["symbol", "timestamp", "p", "law"]
    assert len(truth) == 3 * 80
