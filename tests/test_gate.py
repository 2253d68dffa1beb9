"""Gates: the rule's table, its memory, top-k, and losses that keep experts in use."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atlas.bars import Timeframe
from atlas.catalogue import CATALOGUE, EXPERT_IDS, ExpertSpec, Range
from atlas.data_fingerprint import FINGERPRINT_COLUMNS
from atlas.gate import (
    MEMORY,
    MLPGate,
    RandomGate,
    RuleGate,
    UniformGate,
    entropy_balance,
    hysteresis,
    route,
    rule_experts,
    switch_balance,
)

CHARTS = torch.tensor([True, True, True, True, False, True])
SURFACES = ~CHARTS
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


def test_top_k_keeps_the_largest_and_makes_them_sum_to_one() -> None:
    """.5, .3 of .5, .3, .2 become .625 and .375; the full probabilities are kept beside."""
    probs = torch.tensor([[0.2, 0.5, 0.0, 0.3, 0.0, 0.0]])
    routing = route(probs, CHARTS, 2)
    assert routing.expert_ids.tolist() == [[1, 3]]
    torch.testing.assert_close(routing.expert_weights, torch.tensor([[0.625, 0.375]]))
    assert routing.gate_probs is probs


@pytest.mark.parametrize("k", [1, 2, 5, 9])
@pytest.mark.parametrize("name", ["rule", "mlp", "uniform", "random"])
def test_gates_stay_within_the_modality(name: str, k: int) -> None:
    """Probabilities and weights sum to 1 over allowed experts; k = min(k, experts left)."""
    torch.manual_seed(0)
    gate = {
        "rule": RuleGate(k),
        "mlp": MLPGate(4, 6, k),
        "uniform": UniformGate(6),
        "random": RandomGate(k),
    }[name]
    features = torch.randn(50, 4)
    for allowed, rule in ((CHARTS, 2), (SURFACES, 4)):
        routing = gate(features, torch.full((50,), rule), allowed)
        left = int(allowed.sum())
        assert routing.expert_ids.shape[1] == (left if name == "uniform" else min(k, left))
        assert allowed[routing.expert_ids].all()
        assert (routing.gate_probs[:, ~allowed] == 0).all()
        torch.testing.assert_close(routing.gate_probs.sum(1), torch.ones(50))
        torch.testing.assert_close(routing.expert_weights.sum(1), torch.ones(50))


def test_the_rule_gate_gives_all_weight_to_the_named_expert() -> None:
    """The first choice is the rule's, the second has no weight."""
    rule = torch.tensor([0, 5, 3])
    routing = RuleGate(2)(torch.zeros(3, 4), rule, CHARTS)
    assert routing.expert_ids[:, 0].tolist() == rule.tolist()
    assert routing.expert_weights.tolist() == [[1, 0]] * 3


def test_the_random_gate_is_fixed_by_the_row_and_tells_nothing() -> None:
    """A window goes the same way in any batch; loads are even; another seed differs."""
    features = torch.randn(3_000, 26, generator=torch.Generator().manual_seed(1))
    rule = torch.zeros(3_000, dtype=torch.long)
    ids = RandomGate(2)(features, rule, CHARTS).expert_ids[:, 0]
    alone = RandomGate(2)(features[100:101], rule[:1], CHARTS).expert_ids[:, 0]
    assert ids[100] == alone[0]
    load = torch.bincount(ids, minlength=6) / len(ids)
    torch.testing.assert_close(load[CHARTS], torch.full((5,), 0.2), atol=0.04, rtol=0)
    assert (
        RandomGate(2, seed=2)(features, rule, CHARTS).expert_ids[:, 0] != ids
    ).float().mean() > 0.5
    nudged = RandomGate(2)(features + 1e-3, rule, CHARTS).expert_ids[:, 0]
    assert (nudged != ids).float().mean() > 0.5


def test_a_collapsed_gate_scores_worse() -> None:
    """Both balancing losses are 0 for even use and largest when one expert takes all."""
    even, collapsed = torch.full((8, 4), 0.25), torch.eye(4)[torch.zeros(8, dtype=torch.long)]
    decided = torch.eye(4).repeat(2, 1)  # each window certain, all experts used
    for loss, worst in ((entropy_balance, np.log(4)), (lambda p: switch_balance(p, 1), 3.0)):
        assert float(loss(even)) == pytest.approx(0, abs=1e-6)
        assert float(loss(decided)) == pytest.approx(0, abs=1e-6)
        assert float(loss(collapsed)) == pytest.approx(worst, abs=1e-6)


def test_switch_counts_every_one_of_the_k_places() -> None:
    """With k = 2 of 4 and one pair always chosen, f is ½ on the pair."""
    probs = torch.tensor([[0.4, 0.4, 0.1, 0.1]]).repeat(6, 1)
    assert float(switch_balance(probs, 2)) == pytest.approx(4 * (0.5 * 0.4 * 2) - 1)
    assert float(switch_balance(probs, 9)) == pytest.approx(0, abs=1e-6)


def _trained_load(loss: object) -> Tensor:
    torch.manual_seed(5)
    gate = MLPGate(4, 6, 2)
    features, rule = torch.randn(256, 4), torch.zeros(256, dtype=torch.long)
    optimizer = torch.optim.Adam(gate.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        loss(gate(features, rule, CHARTS).gate_probs[:, CHARTS]).backward()  # type: ignore[operator]
        optimizer.step()
    return gate(features, rule, CHARTS).gate_probs[:, CHARTS].mean(0)


def test_the_seeds_literal_entropy_term_collapses_the_gate_and_ours_does_not() -> None:
    """Minimizing +λ·H(softmax) sends every window to one expert; log E − H(mean) keeps all."""
    literal = _trained_load(lambda probs: -(probs * probs.clamp_min(1e-9).log()).sum(1).mean())
    ours = _trained_load(entropy_balance)
    switch = _trained_load(lambda probs: switch_balance(probs, 2))
    assert literal.max() > 0.95
    assert ours.max() < 0.3
    assert switch.max() < 0.4


def test_the_mlp_gate_is_64_32_experts_and_learns() -> None:
    """The seed's sizes; gradients reach every layer."""
    gate = MLPGate(26, 6, 2)
    widths = [layer.out_features for layer in gate.layers if isinstance(layer, torch.nn.Linear)]
    assert widths == [64, 32, 6]
    routing = gate(torch.randn(32, 26), torch.zeros(32, dtype=torch.long), CHARTS)
    routing.expert_weights[:, 0].sum().backward()
    assert all(weight.grad is not None for weight in gate.parameters())


def test_the_start_of_a_history_is_no_verdict() -> None:
    """Before nine bars are there, only those that are there are counted, whichever they name."""
    for first, second in ((0, 1), (1, 2), (2, 0), (5, 1)):
        verdicts = np.array([first, first, second], np.int8)
        assert hysteresis(verdicts).tolist() == [first, first, first]
        assert hysteresis(verdicts[1:]).tolist() == [first, second]
    assert hysteresis(np.array([3] * 5 + [1] * 4 + [2], np.int8)).tolist() == [3] * 9 + [1]
