"""Several networks of one variant, trained from different seeds, that answer as one.

An ensemble says the mean of its members' calibrated probabilities, the mean of their log realised
variances and the mean of their gates' weights. It is a network like any other to whoever predicts,
exports or serves; its weights are its members', `members.0.…` and so on. One member alone is no
ensemble: `joined` gives it back, and its weights keep their names.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from atlas.config import ATLASConfig
from atlas.gate import Routing, dense_weights, expert_load
from atlas.inputs import Inputs
from atlas.moe import Network, Output, build_model

__all__ = ["Ensemble", "build_trained", "joined", "member_seed"]

_APART: Final = 1_000  # between members' seeds: the benchmark's seeds are small numbers
_SURE: Final = 1e-7  # a float32 probability of exactly 0 or 1 has no logit


class Ensemble(Network):
    """Members of one variant; the logit is that of their mean calibrated probability.

    Args:
        members: at least one, of the same markets, experts and modalities. They were fitted on
            the same rows, so base and familiarity are those of the first.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        nn.Module.__init__(self)  # a trunk and a base of its own would be weights of nobody
        self.members = nn.ModuleList(members)
        first = members[0]
        self.markets, self.modalities = first.markets, first.modalities
        self.expert_ids = first.expert_ids

    @property
    def first(self) -> Network:
        """The first member, for all in which members are alike."""
        return self._all()[0]

    def forward(self, inputs: Inputs) -> Output:
        """Score a batch of one modality; nothing here is trained, so there is no balancing loss.

        Raises:
            ModelError: if the members have no expert of that modality.
        """
        outputs = [member(inputs) for member in self._all()]
        said = [
            member.probability(output, inputs.market)
            for member, output in zip(self._all(), outputs, strict=True)
        ]
        mean = _mean(said).clamp(_SURE, 1 - _SURE)
        logit = torch.log(mean) - torch.log1p(-mean)
        probs = _mean([output.routing.gate_probs for output in outputs])
        asked = _mean([dense_weights(output.routing) for output in outputs])  # (B, E)
        weights, ids = torch.topk(asked, asked.shape[1], dim=1)
        routing = Routing(probs, weights, ids)
        log_rv = _mean([output.log_rv for output in outputs])
        load = expert_load(routing, inputs.market.long(), len(self.markets))
        return Output(logit, log_rv, routing, logit.new_zeros(()), load)

    def probability(self, output: Output, market: Tensor) -> Tensor:
        """Return P(up) (B,); each member was calibrated before the mean was taken."""
        del market
        return torch.sigmoid(output.logit)

    def base_outputs(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """As `Network.base_outputs`; the members' base is the same."""
        return self.first.base_outputs(inputs)

    def unlike(self, inputs: Inputs) -> Tensor:
        """As `Network.unlike`; the members learned from the same rows."""
        return self.first.unlike(inputs)

    def _all(self) -> list[Network]:
        return [member for member in self.members if isinstance(member, Network)]


def joined(members: Sequence[Network]) -> Network:
    """Return the one network that several members are, or the only member itself."""
    return members[0] if len(members) == 1 else Ensemble(members)


def build_trained(config: ATLASConfig, *, variant: str) -> Network:
    """Build what a finished training's weights fit: a network, or an ensemble as configured.

    Raises:
        ConfigError: the variant is unknown.
    """
    return joined([build_model(config, variant=variant) for _ in range(config.training.ensemble)])


def member_seed(seed: int, place: int) -> int:
    """Return the seed of a 0-based member; the first has the training's own."""
    return seed + _APART * place


def _mean(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean(0)
