"""The rule: its table, its catalogue, its memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.bars import Timeframe
from atlas.catalogue import CATALOGUE, EXPERT_IDS, ExpertSpec, Range
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.rule import MEMORY, hysteresis, rule_experts

# A calm daily stock: within no range but equity_daily's.
PLAIN = {
    "vol30": 0.012,
    "trend_r2": 0.3,
    "trend_r2_null": 0.5,
    "hurst": 0.5,
    "hurst_null": 0.5,
    "spread": 0.001,
    "volume_z": 0.0,
    "turnover_z": 0.0,
    "atr": 0.02,
    "kurtosis": 3.0,
    "skew_iv": 0.0,
}
TREND = {"trend_r2": 0.9, "trend_r2_null": 0.99, "hurst": 0.6, "hurst_null": 0.97}
NAN = float("nan")

TABLE = [
    # timeframe, modality, what differs from PLAIN, expert
    ("1d", "chart", {}, "equity_daily"),
    ("1d", "chart", {"vol30": 0.061}, "crypto_hft"),  # the seed's first rule, on any timeframe
    ("1min", "chart", {"vol30": 0.061}, "crypto_hft"),
    ("1d", "chart", {"vol30": 0.06}, "equity_daily"),
    ("1d", "chart", {"vol30": 0.0049}, "low_vol_etf"),  # the second, on daily bars and longer
    ("1w", "chart", {"vol30": 0.0049}, "low_vol_etf"),
    ("30min", "chart", {"vol30": 0.0049}, "equity_daily"),  # EURUSD is not a bond fund
    ("30min", "chart", {"vol30": 0.0049, **TREND}, "futures_trend"),
    ("30min", "chart", TREND, "futures_trend"),
    ("4h", "chart", TREND, "futures_trend"),
    ("30min", "chart", {**TREND, "trend_r2": 0.8}, "futures_trend"),
    ("30min", "chart", {**TREND, "trend_r2": 0.79}, "equity_daily"),
    ("30min", "chart", {**TREND, "hurst": 0.55}, "equity_daily"),
    ("30min", "chart", {**TREND, "trend_r2_null": 0.94}, "equity_daily"),
    ("30min", "chart", {**TREND, "hurst_null": 0.94}, "equity_daily"),
    ("30min", "chart", {**TREND, "hurst": NAN}, "equity_daily"),
    ("1d", "chart", TREND, "equity_daily"),  # a trend, but not on its timeframe
    ("5min", "chart", TREND, "equity_intraday"),
    ("1min", "chart", TREND, "equity_intraday"),
    ("5min", "chart", {**TREND, "trend_r2": 0.6}, "equity_intraday"),
    ("5min", "chart", {**TREND, "trend_r2": 0.59}, "equity_daily"),
    ("5min", "chart", {**TREND, "trend_r2_null": 0.9}, "equity_daily"),
    ("5min", "chart", {**TREND, "vol30": 0.03}, "equity_daily"),
    ("5min", "chart", {**TREND, "vol30": 0.0099}, "equity_daily"),
    ("1min", "chart", {"vol30": 0.06, "spread": 0.0005, "volume_z": 3.0}, "crypto_hft"),
    ("1min", "chart", {"vol30": 0.06, "spread": 0.0006, "volume_z": 3.0}, "equity_daily"),
    ("1min", "chart", {"vol30": 0.06, "spread": 0.0005, "volume_z": 2.9}, "equity_daily"),
    ("1d", "chart", dict.fromkeys(PLAIN, NAN), "equity_daily"),
    ("1d", "surface", {}, "options_skew"),
    ("1d", "surface", {"vol30": 0.5}, "options_skew"),  # iv moves more than prices do
    ("1d", "surface", {"vol30": 0.001}, "options_skew"),
    ("1d", "surface", {"skew_iv": 0.12, "kurtosis": 5.0}, "options_skew"),
]


def row(**differs: float) -> np.ndarray:
    values = {**PLAIN, **differs}
    return np.array([[values[name] for name in FINGERPRINT_COLUMNS]], np.float32)


@pytest.mark.parametrize(("timeframe", "modality", "differs", "expert"), TABLE)
def test_rule_table(timeframe: str, modality: str, differs: dict[str, float], expert: str) -> None:
    """Modality, the seed's two rules, ranges on their timeframes, then the default."""
    verdict = rule_experts(row(**differs), modality, Timeframe.parse(timeframe))
    assert EXPERT_IDS[verdict[0]] == expert


def test_without_calibration_the_seeds_thresholds_decide_alone() -> None:
    """The documented comparison: a walk that merely looks like a trend passes for one."""
    walk = row(trend_r2=0.85, trend_r2_null=0.86, hurst=0.6, hurst_null=0.8)
    minutes = Timeframe.parse("30min")
    assert EXPERT_IDS[rule_experts(walk, "chart", minutes)[0]] == "equity_daily"
    assert EXPERT_IDS[rule_experts(walk, "chart", minutes, calibrated=False)[0]] == "futures_trend"


def test_a_seventh_expert_is_one_row() -> None:
    """A row added to the catalogue is routed to by its ranges; the seed's rules go before it."""
    bonds = ExpertSpec(
        "bonds", "Rates", "Bund", ("1h", "1d"), "chart", (Range("kurtosis", low=9.0),), ()
    )
    catalogue = (*CATALOGUE, bonds)
    rows = np.concatenate([row(vol30=0.03, kurtosis=10.0), row(vol30=0.07, kurtosis=10.0)])
    verdicts = rule_experts(rows, "chart", Timeframe.parse("1d"), catalogue=catalogue)
    assert verdicts.tolist() == [6, 0]


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.floats(width=32), st.sampled_from([0.005, 0.06, 0.95, 0.8])),
        min_size=len(FINGERPRINT_COLUMNS),
        max_size=len(FINGERPRINT_COLUMNS),
    ),
    modality=st.sampled_from(["chart", "surface"]),
    timeframe=st.sampled_from(["1s", "1min", "5min", "30min", "4h", "1d", "1w"]),
)
def test_every_fingerprint_gets_one_expert_of_its_modality(
    values: list[float], modality: str, timeframe: str
) -> None:
    """Whatever the numbers, infinite and missing ones included, somebody of the kind serves it."""
    fingerprint = np.array([values], np.float32)
    verdict = rule_experts(fingerprint, modality, Timeframe.parse(timeframe))
    assert verdict.shape == (1,)
    assert CATALOGUE[verdict[0]].modality == modality


def test_hysteresis_keeps_to_the_majority_of_nine() -> None:
    """One stray verdict changes nothing; five of nine do."""
    verdicts = np.array([2] * 9 + [3] + [2] * 4 + [3] * 9, np.int8)
    steady = hysteresis(verdicts)
    assert steady[:17].tolist() == [2] * 17
    assert steady[17:].tolist() == [3] * 6  # the stray one counts among the five


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([1, 5], [1, 5]), ([5, 1, 5, 1], [5, 1, 5, 1]), ([0, 0, 3], [0, 0, 0]), ([], [])],
)
def test_a_tie_goes_to_the_most_recent(verdicts: list[int], expected: list[int]) -> None:
    """The first rows look back on what there is; no rows give none."""
    assert hysteresis(np.array(verdicts, np.int8)).tolist() == expected


def test_hysteresis_remembers_nine_bars_and_no_more() -> None:
    """A live tail of nine verdicts ends as the whole history does."""
    verdicts = np.random.default_rng(3).integers(0, 6, 400).astype(np.int8)
    whole = hysteresis(verdicts)
    for end in range(MEMORY, 400, 7):
        assert hysteresis(verdicts[end - MEMORY : end])[-1] == whole[end - 1]


def test_the_start_of_a_history_is_no_verdict() -> None:
    """Before nine bars are there, only those that are there are counted, whichever they name."""
    for first, second in ((0, 1), (1, 2), (2, 0), (5, 1)):
        verdicts = np.array([first, first, second], np.int8)
        assert hysteresis(verdicts).tolist() == [first, first, first]
        assert hysteresis(verdicts[1:]).tolist() == [first, second]
    assert hysteresis(np.array([3] * 5 + [1] * 4 + [2], np.int8)).tolist() == [3] * 9 + [1]
