"""Gates: which experts see a window, and how evenly they are used.

- `rule_experts` is version 0, pure NumPy over fingerprints: modality, the seed's two rules, the
  catalogue's ranges on their timeframes, then the modality's default. It needs no training, so it
  also warm-starts the MLP gate. `hysteresis` steadies its verdicts with a memory of nine bars and
  no state, so that a live tail of bars is routed as the whole history was.
- Every gate is a module with one call and returns a `Routing`. A window is only ever routed to
  experts of its modality: k = min(k, experts left).
- The balancing losses are to be *minimized* and are zero when experts are used evenly. The seed's
  λ·H(softmax) *added* to a loss would reward collapse; here it enters as log E − H(batch mean).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from atlas.bars import Timeframe
from atlas.catalogue import CATALOGUE, DEFAULTS, ExpertSpec, Range
from atlas.data_fingerprint import FINGERPRINT_COLUMNS

__all__ = [
    "MEMORY",
    "Gate",
    "MLPGate",
    "RandomGate",
    "Routing",
    "RuleGate",
    "UniformGate",
    "dense_weights",
    "entropy_balance",
    "hysteresis",
    "route",
    "rule_experts",
    "switch_balance",
]

MEMORY = 9  # verdicts that hysteresis looks back on, the present one included
_DAY = 86_400

Verdicts = npt.NDArray[np.int8]

# The seed's v0: expert, range, and the shortest bar in seconds that the rule is meant for. EURUSD,
# a prime use of futures_trend, moves less than .5 % a day: the second rule spares intraday bars.
_SEED_RULES = (
    ("crypto_hft", Range("vol30", low=0.06, open_low=True), 0),
    ("low_vol_etf", Range("vol30", high=0.005), _DAY),
)


class Routing(NamedTuple):
    """Where each window of a batch goes.

    Attributes:
        gate_probs: (B, E) over all of the model's experts, 0 outside the window's modality.
        expert_weights: (B, K), sum 1.
        expert_ids: (B, K) columns of `gate_probs`, int64.
    """

    gate_probs: Tensor
    expert_weights: Tensor
    expert_ids: Tensor


def rule_experts(
    fingerprint: npt.NDArray[np.floating],
    modality: str,
    timeframe: Timeframe,
    *,
    catalogue: Sequence[ExpertSpec] = CATALOGUE,
    calibrated: bool = True,
) -> Verdicts:
    """Name one expert for every fingerprint, bar by bar, before hysteresis.

    Args:
        fingerprint: (N, F) in the order of `FINGERPRINT_COLUMNS`; NaN is outside every range.
        modality: chart or surface; only experts of it are named.
        timeframe: of the bars; an expert's ranges count only on its own timeframes.
        catalogue: the rows; the result indexes them.
        calibrated: whether the ranges on null probabilities count; without them a random walk
            passes for a trend.

    Returns:
        (N,) index into `catalogue`.

    Example:
        A daily chart with vol30 = .07 goes to crypto_hft; with vol30 = .015 and atr = .02 to
        equity_daily.
    """
    ids = [spec.id for spec in catalogue]
    columns = dict(zip(FINGERPRINT_COLUMNS, np.asarray(fingerprint).T, strict=True))
    verdicts = np.full(len(fingerprint), ids.index(DEFAULTS[modality]), np.int8)
    # Lowest precedence first: what is written later stands.
    for index in reversed(range(len(catalogue))):
        spec = catalogue[index]
        if spec.modality == modality and spec.is_home(timeframe.seconds):
            ranges = [r for r in spec.ranges if calibrated or not r.column.endswith("_null")]
            verdicts[np.all([r.holds(columns[r.column]) for r in ranges], axis=0)] = index
    for expert, limit, shortest in reversed(_SEED_RULES):
        if modality == "chart" and timeframe.seconds >= shortest and expert in ids:
            verdicts[limit.holds(columns[limit.column])] = ids.index(expert)
    return verdicts


def hysteresis(verdicts: Verdicts) -> Verdicts:
    """Replace each verdict by the most frequent of the last nine, ties going to the most recent.

    Args:
        verdicts: (N,) of one symbol in time order, each at least 0. The first eight look back on
            what there is.

    Returns:
        (N,) int8. Row t depends on verdicts t−8 … t alone.
    """
    if not len(verdicts):
        return np.zeros(0, np.int8)
    padded = np.concatenate([np.full(MEMORY - 1, -1, np.int8), verdicts])
    recent = np.lib.stride_tricks.sliding_window_view(padded, MEMORY)  # (N, 9)
    best = np.full(len(verdicts), -1, np.int16)
    steady = np.array(verdicts, np.int8)
    for expert in np.unique(verdicts):
        is_his = recent == expert
        # Count first, then how recently: both fit in one number to compare.
        last = MEMORY - np.argmax(is_his[:, ::-1], axis=1)
        score = np.where(is_his.any(axis=1), is_his.sum(axis=1) * (MEMORY + 1) + last, -1)
        better = score > best
        best[better], steady[better] = score[better], expert
    return steady


def route(gate_probs: Tensor, allowed: Tensor, k: int) -> Routing:
    """Keep the k most probable experts of a modality and make their weights sum to 1.

    Args:
        gate_probs: (B, E), positive somewhere within `allowed`, 0 outside.
        allowed: (E,) bool, the experts of the window's modality.
        k: at most as many as are allowed.
    """
    chosen = gate_probs.masked_fill(~allowed, -1.0)
    weights, ids = torch.topk(chosen, k, dim=1)
    return Routing(gate_probs, weights / weights.sum(1, keepdim=True), ids)


def dense_weights(routing: Routing) -> Tensor:
    """Return expert weights (B, E), 0 for experts that were not chosen."""
    empty = torch.zeros_like(routing.gate_probs)
    return empty.scatter(1, routing.expert_ids, routing.expert_weights)


class Gate(nn.Module):
    """Maps a batch of one modality to its routing; a subclass says the probabilities."""

    is_learned = False

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:
        """Return gate_probs (B, E), 0 where not allowed; arguments as for `forward`."""
        raise NotImplementedError

    def forward(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Routing:
        """Route a batch.

        Args:
            features: (B, G) standardized fingerprint with its missing flags.
            rule: (B,) column of the expert that the rule (or an oracle) names, within `allowed`.
            allowed: (E,) bool, the experts of the batch's modality, at least one.
        """
        probs = self.probabilities(features, rule, allowed)
        return route(probs, allowed, min(self.k, int(allowed.sum())))


class RuleGate(Gate):
    """Version 0: all weight on the expert that the inputs' `rule` names.

    Given the true law's expert there instead, it is the oracle gate of the ablation.
    """

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:
        """Return one-hot rows."""
        one_hot: Tensor = nn.functional.one_hot(rule, len(allowed))
        return one_hot.to(features.dtype)


class MLPGate(Gate):
    """Version 1, learned: features → 64 → 32 → E, softmax over the modality's experts."""

    is_learned = True

    def __init__(self, features: int, experts: int, k: int) -> None:
        super().__init__(k)
        self.layers = nn.Sequential(
            nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, experts)
        )

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return the softmax over allowed experts."""
        gate_logits: Tensor = self.layers(features)  # (B, E)
        return gate_logits.masked_fill(~allowed, -torch.inf).softmax(1)


class UniformGate(Gate):
    """The ablation in which every expert of the modality has the same weight, whatever k is."""

    def __init__(self, experts: int) -> None:
        super().__init__(k=experts)

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return 1 / (experts allowed) for each."""
        even = allowed.to(features.dtype) / allowed.sum()
        return even.expand(features.shape[0], -1)  # a traced graph keeps shape[0] free, not len()


class RandomGate(Gate):
    """The ablation that routes by a hash of the row: fixed for a window, and telling nothing.

    Args:
        k: experts per window.
        seed: another seed routes the same windows elsewhere.
    """

    def __init__(self, k: int, seed: int = 1) -> None:
        super().__init__(k)
        self.seed = seed

    def probabilities(self, features: Tensor, rule: Tensor, allowed: Tensor) -> Tensor:  # noqa: ARG002
        """Return a softmax over hashed scores."""
        # A hundred-thousandth of a standard deviation is enough to tell rows apart.
        digits = (features.double() * 1e5).round().long()  # (B, G)
        state = torch.full_like(digits[:, 0], self.seed)
        for column in digits.unbind(1):
            state = _scrambled(state ^ column)
        salts = torch.arange(1, len(allowed) + 1, device=features.device)
        hashed = _scrambled(_scrambled(state[:, None] + salts * 0x9E3779B1))  # (B, E)
        scores = (hashed & 0xFFFF).to(features.dtype) / 0xFFFF * 4
        return scores.masked_fill(~allowed, -torch.inf).softmax(1)


def entropy_balance(gate_probs: Tensor) -> Tensor:
    """Return log E − H(mean over the batch of gate_probs), in nats, ().

    Args:
        gate_probs: (B, E) over the experts of one modality. 0 when experts are used evenly on
            average, log E when one takes all; minimizing it never asks a single window to be
            undecided. The seed's "λ·H(softmax)" is meant so: λ·H *added* would reward collapse.
    """
    mean = gate_probs.mean(0)
    entropy = -(mean * mean.clamp_min(1e-9).log()).sum()
    return float(np.log(gate_probs.shape[1])) - entropy


def switch_balance(gate_probs: Tensor, k: int) -> Tensor:
    """Return E·Σ f·P − 1 (Fedus et al., 2021), ().

    Args:
        gate_probs: (B, E) over the experts of one modality; P is their mean over the batch.
        k: experts per window; f is the share of the B·k places that an expert takes, without
            gradient. 0 when experts are used evenly.
    """
    experts = gate_probs.shape[1]
    top = gate_probs.topk(min(k, experts), dim=1).indices
    share = nn.functional.one_hot(top, experts).to(gate_probs.dtype).mean((0, 1))
    return experts * (share * gate_probs.mean(0)).sum() - 1


def _scrambled(state: Tensor) -> Tensor:
    # Wang's 32-bit mixer in 64-bit integers, masked so that no product overflows.
    mask = 0xFFFFFFFF
    state = state & mask
    state = ((state ^ 61) ^ (state >> 16)) * 9 & mask
    state = (state ^ (state >> 4)) * 0x27D4EB2D & mask
    return state ^ (state >> 15)
