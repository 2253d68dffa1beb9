"""What a source says later about the past enters adj_close alone, and once."""

import numpy as np
import pandas as pd
import pytest

from pipelines.merge import differing, extends, is_restated, kind_of, restate

DAYS = pd.date_range("2026-01-01", periods=40, tz="UTC")


def bars(days: int = 40) -> pd.DataFrame:
    close = 400 * np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.01, 40)))
    frame = pd.DataFrame({"open": close + 1, "high": close + 3, "low": close - 3, "close": close})
    frame = frame.round(2).assign(volume=1.0)
    frame.insert(0, "timestamp", DAYS)
    return frame.iloc[:days]


def rescaled(factor: float, until: int) -> pd.DataFrame:
    """Return all bars as a vendor gives them after a split before row `until`, in cents."""
    frame = bars()
    prices = ["open", "high", "low", "close"]
    frame.loc[: until - 1, prices] = (frame.loc[: until - 1, prices] * factor).round(2)
    return frame


def test_rescaled_prices_of_an_archive_are_a_split() -> None:
    """Stored prices stay, the vendor's become the adjusted ones; new rows are their own."""
    stored, given = bars(30), rescaled(0.25, 25)
    assert is_restated(stored, given)
    after, rows, found = restate(stored, given)
    assert found is not None
    assert (found.kind, found.rows, found.until) == ("split", 25, DAYS[24])
    assert found.factor == pytest.approx(0.25, rel=1e-3)
    assert after["close"].tolist() == stored["close"].tolist()
    np.testing.assert_allclose(after["adj_close"], given["close"].iloc[:30])
    assert rows["adj_close"].tolist() == given["close"].tolist()
    assert differing(given, stored, ["timestamp"]) == 0


def test_a_split_is_applied_once() -> None:
    """The same rescaled archive changes nothing a second time."""
    after, rows, _ = restate(bars(30), rescaled(0.25, 25))
    assert not is_restated(after, rows)
    assert restate(after, rows)[2] is None


def test_a_corrected_price_is_no_split() -> None:
    """One other close, one row on another scale, all closes shuffled: never applied."""
    for change in ({"close": 401.0}, dict.fromkeys(("open", "high", "low", "close"), 4.0)):
        given = bars()
        given.loc[7, list(change)] = list(change.values())
        assert not is_restated(bars(30), given)
        assert differing(given, bars(30), ["timestamp"]) == 1
    other = bars().assign(close=bars()["close"].sample(frac=1, random_state=1).to_numpy())
    assert not is_restated(bars(30), other)


def test_rows_that_are_not_given_again_take_the_ratio_of_their_neighbor() -> None:
    """A range that only overlaps the stored past restates what lies before it as well."""
    stored = bars(30).assign(adj_close=bars(30)["close"])
    given = rescaled(0.5, 40).assign(adj_close=lambda rows: rows["close"]).iloc[20:30]
    after, _, found = restate(stored, given)
    assert found is not None
    assert found.rows == 30
    np.testing.assert_allclose(after["adj_close"], stored["close"] / 2, rtol=1e-4)


def test_rows_that_only_go_on_are_known_at_once() -> None:
    """The quick way of most nights: the stored rows first, then later ones."""
    assert extends(bars(), bars(30))
    assert not extends(bars(), bars(30).assign(volume=2.0))
    assert not extends(bars().iloc[::-1], bars(30))
    assert not extends(bars(20), bars(30))


@pytest.mark.parametrize(
    ("factor", "kind"),
    [
        (0.25, "split"),
        (2.0, "split"),
        (1.5, "split"),
        (0.05, "split"),
        (0.9931, "dividend"),
        (0.7312, "other"),
    ],
)
def test_kinds_are_told_by_the_factor(factor: float, kind: str) -> None:
    """A ratio of small numbers is a split, a little below 1 a dividend."""
    assert kind_of(factor) == kind
