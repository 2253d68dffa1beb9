"""Hidden bars: what is shown, what is asked, and that nothing of what was hidden shows."""

import numpy as np
import pytest

from atlas.inputs import gather
from atlas.masking import BLOCK, hide, straight
from atlas.windows import WINDOW, MarketData, Panel
from tests.toys import toy_data

DATA = toy_data(bars=200, test=30, validation=30)
HIDDEN, LATEST = BLOCK
MARKETS = ("toy_charts", "toy_surfaces")


def _poisoned(own: MarketData, ends: np.ndarray, after: np.ndarray) -> MarketData:
    """Multiply every hidden bar by a number that none would miss."""
    values = own.panel.values.copy()
    first = ends - after - HIDDEN + 1
    block = (first[:, None] + np.arange(HIDDEN)).ravel()
    if own.panel.modality == "surface":
        values[block] *= 7
    else:
        values[:, block] *= 7
    return MarketData(_with(own.panel, values), own.labels, own.split)


def _with(panel: Panel, values: np.ndarray) -> Panel:
    return Panel(**{**vars(panel), "values": values})


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("after", [0, 1, LATEST])
def test_nothing_of_what_is_hidden_shows(market: str, after: int) -> None:
    """Whatever the hidden bars were, image and series are the same bits; the answers are not."""
    own, ends = DATA[market], np.array([100])
    places = np.array([after])
    real = hide(own, ends, places)
    other = hide(_poisoned(own, ends, places), ends, places)
    for name in ("image", "series", "skip", "har", "vol_ratio", "fingerprint"):
        assert np.array_equal(
            getattr(real.inputs, name), getattr(other.inputs, name), equal_nan=True
        )
    assert not np.array_equal(real.asked, other.asked)


@pytest.mark.parametrize("market", MARKETS)
def test_the_market_itself_stays_as_it_is(market: str) -> None:
    """Hiding works on a copy, and what is seen is drawn as ever before the block."""
    own, ends = DATA[market], np.array([90, 120, 121])
    before = own.panel.values.copy()
    hide(own, ends, np.zeros(3, np.int64))
    assert np.array_equal(own.panel.values, before)


def test_a_straight_line_by_hand() -> None:
    """It runs from the value before the block to the one after it, or goes on at the newest end."""
    row = np.arange(WINDOW, dtype=float) ** 2
    found = straight(np.stack([row, row]), np.array([50, WINDOW - HIDDEN]), HIDDEN)
    after = 50.0 + HIDDEN
    step = (after**2 - 49.0**2) / (HIDDEN + 1)
    assert found[0] == pytest.approx(49.0**2 + step * np.arange(1, HIDDEN + 1))
    assert found[1] == pytest.approx(np.full(HIDDEN, (WINDOW - HIDDEN - 1.0) ** 2))


def test_moves_and_sizes_by_hand() -> None:
    """A move is the log return less the line's, in seen root mean squares; a size is in means.

    At the newest end the line is flat, so moves are the returns themselves.
    """
    own, end = DATA["toy_charts"], 110
    asked = hide(own, np.array([end]), np.array([0])).asked[0]
    bars = own.panel.values[:, end - WINDOW + 1 : end + 1]
    returns = np.diff(np.log(bars[3]))
    seen = returns[: WINDOW - 1 - HIDDEN]
    assert asked[:, 0] == pytest.approx(returns[-HIDDEN:] / np.sqrt((seen**2).mean()), rel=1e-4)
    ranges = np.log(bars[1] / bars[2])
    usual = ranges[: WINDOW - HIDDEN].mean()
    assert asked[:, 1] == pytest.approx(ranges[-HIDDEN:] / usual - 1, rel=0.05, abs=0.05)


def test_within_the_window_moves_are_against_the_line_and_sum_to_little() -> None:
    """With bars behind the block, the line takes out what its ends tell."""
    own, end, after = DATA["toy_charts"], 130, 3
    asked = hide(own, np.array([end]), np.array([after])).asked[0]
    log_close = np.log(own.panel.values[3])
    last = end - after  # the block's last bar
    slope = (log_close[last + 1] - log_close[last - HIDDEN]) / (HIDDEN + 1)
    moves = np.diff(log_close)[last - HIDDEN : last] - slope
    ratio = asked[:, 0] / moves
    assert ratio == pytest.approx(np.full(HIDDEN, ratio[0]), rel=1e-4)


def test_the_picture_before_the_block_is_drawn_as_a_network_sees_it() -> None:
    """A window whose hidden bars already lie on the line is shown as it is, bodies aside."""
    own, end = DATA["toy_charts"], 100
    places = np.array([0])
    first = end - HIDDEN + 1
    values = own.panel.values.copy()
    values[:4, first : end + 1] = values[3, first - 1]
    values[4, first : end + 1] = np.nan
    flat = MarketData(_with(own.panel, values), own.labels, own.split)
    shown = gather(flat.panel, np.array([end]), market_index=0)
    masked = hide(own, np.array([end]), places)
    assert np.allclose(masked.inputs.image, shown.image, atol=1e-5)
    assert np.allclose(masked.inputs.series, shown.series, atol=1e-5)


def test_missing_bars_are_asked_of_nobody() -> None:
    """A hidden bar that is missing has no answer; where the line's end is missing, none has."""
    own, end = DATA["toy_charts"], 100
    values = own.panel.values.copy()
    values[:, end - 2] = np.nan
    gone = MarketData(_with(own.panel, values), own.labels, own.split)
    asked = hide(gone, np.array([end]), np.array([0])).asked[0]
    assert np.isnan(asked[HIDDEN - 3]).all()
    assert np.isfinite(asked[0]).all()
    values[:, end - HIDDEN] = np.nan
    lost = MarketData(_with(own.panel, values), own.labels, own.split)
    masked = hide(lost, np.array([end]), np.array([0]))
    assert np.isnan(masked.asked[0, :, 0]).all()
    assert np.isfinite(masked.inputs.image).all()
    assert np.isfinite(masked.inputs.series).all()
