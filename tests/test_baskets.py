"""A basket's series beside a market: what had closed, for how long it stands, and what it says."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.baskets import (
    Basket,
    Closes,
    absent_basket,
    basket_columns,
    basket_lines,
    build_basket,
    last_known,
)
from atlas.calendars import bar_closes
from atlas.charts import WINDOW

DAY = 86_400_000_000
NAMES = ("tips", "energy", "gold")
RNG = np.random.default_rng


def walk(days: int, seed: int) -> np.ndarray:
    """Log closes of a random walk of 1 % a day."""
    return np.cumsum(0.01 * RNG(seed).standard_normal(days))


def series(days: int, *, lag: int = 0, **own: np.ndarray) -> dict[str, Closes]:
    """Three daily series; each bar closes `lag` microseconds after the end of its day."""
    closed = (1 + np.arange(days)) * DAY + lag
    return {
        name: Closes(f"other/{name.upper()}", closed, own.get(name, walk(days, seed)))
        for seed, name in enumerate(NAMES, start=10)
    }


def basket_of(
    own: np.ndarray, others: dict[str, Closes], *, symbols: tuple[str, ...] = ("A",)
) -> Basket:
    """Lay series beside symbols of equal length whose bars close at the end of each day."""
    days = own.size // len(symbols)
    return build_basket(
        others,
        market="other",
        symbols=symbols,
        offsets=np.arange(len(symbols) + 1) * days,
        asked=np.tile((1 + np.arange(days)) * DAY, len(symbols)),
        log_close=own,
        stale_days=5,
    )


def lines_at(basket: Basket, own: np.ndarray, end: int) -> np.ndarray:
    return basket_lines(basket, own[None, end - WINDOW + 1 : end + 1], np.array([end]))


def test_a_bar_counts_once_it_has_closed_and_not_for_long() -> None:
    """Known at its very close, carried for so many days, then unknown; nothing before the first."""
    closed = np.array([10, 20]) * DAY
    asked = np.array([10 * DAY - 1, 10 * DAY, 20 * DAY - 1, 20 * DAY, 25 * DAY, 25 * DAY + 1])
    assert last_known(asked, closed, stale_days=5).tolist() == [-1, 0, -1, 1, 1, -1]
    assert last_known(asked, closed, stale_days=10).tolist() == [-1, 0, 0, 1, 1, 1]
    assert last_known(asked, np.zeros(0, np.int64), stale_days=5).tolist() == [-1] * 6


def test_bars_of_one_date_are_told_apart_by_their_closes() -> None:
    """CMES closes an hour after New York: its bar of today is not known at the stocks' close."""
    day = pd.DatetimeIndex(["2023-03-01", "2023-03-02"], tz="UTC")
    step = Timeframe.parse("1d")
    stocks, futures = (bar_closes(day, calendar, step) for calendar in ("XNYS", "CMES"))
    assert last_known(stocks, futures, stale_days=5).tolist() == [-1, 0]
    assert last_known(futures, stocks, stale_days=5).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("calendar", "timeframe", "opened", "closed"),
    [
        ("XNYS", "1d", "2023-11-24", "2023-11-24 18:00"),  # an early close
        ("XNYS", "1d", "2023-07-05", "2023-07-05 20:00"),
        ("XNYS", "1d", "2023-07-04", "2023-07-05 00:00"),  # a holiday: the end of its day
        ("XNYS", "1w", "2023-07-03", "2023-07-07 20:00"),
        ("24/7", "1d", "2023-07-05", "2023-07-06 00:00"),
        ("CMES", "30min", "2023-07-05 13:30", "2023-07-05 14:00"),
    ],
)
def test_bars_close_with_their_sessions(
    calendar: str, timeframe: str, opened: str, closed: str
) -> None:
    """Daily and weekly bars at the exchange's hour, intraday ones a bar's length after the open."""
    found = bar_closes(pd.DatetimeIndex([opened], tz="UTC"), calendar, Timeframe.parse(timeframe))
    assert pd.Timestamp(int(found[0]), unit="us") == pd.Timestamp(closed)


@pytest.mark.parametrize("lag", [0, 1])
def test_what_comes_after_a_bar_shows_nowhere_at_it(lag: int) -> None:
    """Poisoning every close of the series after bar t's changes nothing at t, but at t + 1."""
    own, t = walk(200, 1), 120
    clean = series(200, lag=lag)
    poisoned = {
        name: each._replace(
            log_close=np.where(each.closed > (t + 1) * DAY, 50 * each.log_close, each.log_close)
        )
        for name, each in clean.items()
    }
    first, second = basket_of(own, clean), basket_of(own, poisoned)
    assert np.isfinite(first.fingerprint[t]).all()
    np.testing.assert_array_equal(first.fingerprint[: t + 1], second.fingerprint[: t + 1])
    np.testing.assert_array_equal(lines_at(first, own, t), lines_at(second, own, t))
    later = t + 1 + (lag > 0)
    assert not np.array_equal(lines_at(first, own, later), lines_at(second, own, later))
    assert first.fingerprint[later, 0] != second.fingerprint[later, 0]


def test_a_hole_is_carried_up_to_its_bound_and_shown() -> None:
    """Four missing days are bridged and their age is told; seven make 64 bars unknown."""
    for missing, known in ((4, True), (7, False)):
        own, others = walk(200, 1), series(200)
        kept = np.delete(np.arange(200), np.s_[100 : 100 + missing])
        gold = others["gold"]
        others["gold"] = gold._replace(closed=gold.closed[kept], log_close=gold.log_close[kept])
        basket = basket_of(own, others)
        assert basket.age_days[99 : 100 + 4].tolist() == [0, 1, 2, 3, 4]
        assert np.isfinite(basket.fingerprint[110, 0]) == known
        assert lines_at(basket, own, 110).any() == known
        assert np.isnan(basket.age_days[106]) != known
        assert np.isfinite(basket.fingerprint[106 + WINDOW :, 0]).all()


def test_the_mark_tells_followers_from_strangers() -> None:
    """1 for the basket's own mean, ±1 for one series; a stranger passes .3 about once in 115."""
    others = series(3_000)
    mean = np.mean([each.log_close for each in others.values()], axis=0)
    follower = basket_of(mean, others).fingerprint[WINDOW:, 0]
    assert np.min(follower) > 0.95
    opposite = basket_of(-others["gold"].log_close, others).fingerprint[WINDOW:]
    np.testing.assert_allclose(opposite[:, 3], -1, atol=1e-6)
    apart = np.s_[WINDOW :: WINDOW - 1]  # windows without a return in common
    marks = [
        basket_of(walk(1_500, seed), series(1_500, gold=walk(1_500, 100 + seed))).fingerprint[apart]
        for seed in range(200, 260)
    ]
    assert np.mean(np.concatenate(marks)[:, 0] >= 0.3) == pytest.approx(0.0085, abs=0.008)


def test_a_symbol_does_not_see_itself_in_the_basket() -> None:
    """TIPS beside its own basket: its line and its correlation are out, the others' are in."""
    others = series(150)
    own = np.concatenate([others["tips"].log_close, walk(150, 5)])
    basket = basket_of(own, others, symbols=("TIPS", "B"))
    assert basket.own[[0, 150]].tolist() == [0, -1]
    assert np.isfinite(basket.fingerprint[[149, 299], 0]).all()
    assert np.isnan(basket.fingerprint[149, 1])
    assert abs(basket.fingerprint[149, 0]) < 0.6
    lines = lines_at(basket, own, 149)[0]  # three of their own, three relative
    assert lines.any(axis=1).tolist() == [False, True, True, False, True, True]


def test_lines_read_in_usual_moves_and_end_at_zero() -> None:
    """As a row of the series: 0 at the window's end, the scale of a line's own returns."""
    own, others = walk(200, 1), series(200)
    lines = lines_at(basket_of(own, others), own, 150)[0]
    assert lines.shape == (6, WINDOW)
    np.testing.assert_array_equal(lines[:, -1], 0)
    scale = np.sqrt((np.diff(lines, axis=1) ** 2).mean(axis=1))
    np.testing.assert_allclose(scale, 8**-0.5, rtol=1e-5)
    gold = others["gold"].log_close[150 - WINDOW + 1 : 151]
    assert np.corrcoef(lines[2], gold)[0, 1] == pytest.approx(1)
    assert np.corrcoef(lines[5], own[150 - WINDOW + 1 : 151] - gold)[0, 1] == pytest.approx(1)


def test_no_window_crosses_symbols() -> None:
    """The first 63 bars of each symbol have no fingerprint."""
    own = np.concatenate([walk(100, 1), walk(100, 2)])
    known = np.isfinite(basket_of(own, series(100), symbols=("A", "B")).fingerprint[:, 0])
    for first, last in pairwise((0, 100, 200)):
        assert known[first:last].tolist() == [False] * 63 + [True] * 37


def test_an_absent_basket_is_unknown_everywhere() -> None:
    """A market that sees none gets the same shapes, all zero or NaN."""
    basket = absent_basket(NAMES, 200)
    assert not lines_at(basket, walk(200, 1), 100).any()
    assert basket.fingerprint.shape == (200, len(basket_columns(NAMES)))
    assert np.isnan(basket.fingerprint).all()
