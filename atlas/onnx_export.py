"""A trained network as an ONNX graph that needs no Python, one for each modality.

- Inputs are the fields of `atlas.inputs.Inputs` that the network reads, under their names; `market`
  and `rule` are int64. Outputs are those of `OUTPUTS`: the calibrated probability beside the logit.
- `routed` leaves the gate outside. A gate reads nothing of a window's bars but its fingerprint row,
  so its weights can be computed once a bar, stored with that row, and handed in as
  `expert_weights`, as `atlas.gate.dense_weights` lays a routing out. A random gate is only exported
  so: it hashes the digits of a row, and the last of them differ between runtimes.
- The batch axis is free. Everything that does not depend on a window (masked and centered kernels,
  say) is folded into constants here, and a mixture is traced in its `atlas.graph_form`.
"""

import io
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.onnx.utils import register_custom_op_symbolic

from atlas.ensemble import Ensemble
from atlas.errors import ModelError
from atlas.gate import RandomGate, Routing, RuleGate
from atlas.graph_form import graph_form
from atlas.inputs import Inputs
from atlas.moe import AtlasMoE, Network

__all__ = ["ANSWERS", "OUTPUTS", "WEIGHTS", "export", "input_names"]

OUTPUTS = ("logit", "log_rv", "probability")
ANSWERS = (*OUTPUTS, *Routing._fields, "unlike")  # what serving needs
WEIGHTS = "expert_weights"
_OPSET = 18
_FIELDS = Inputs._fields[1:]


def input_names(network: Network, *, routed: bool = False) -> tuple[str, ...]:
    """Return the inputs of an exported network, in order.

    Args:
        network: only a mixture with a rule gate reads `rule`, only one with a cross-asset expert
            the basket (of charts: its graph of surfaces reads none); a 1-D network no `image`.
        routed: whether `expert_weights` replace the gate.
    """
    network = network.first if isinstance(network, Ensemble) else network
    reads_rule = isinstance(network, AtlasMoE) and isinstance(network.gate, RuleGate) and not routed
    reads = {"rule": reads_rule, "image": network.trunk.is_drawn}
    has_basket = network.trunk.reader is not None
    reads |= {"basket": has_basket, "basket_fingerprint": has_basket and not routed}
    names = [name for name in _FIELDS if reads.get(name, True)]
    return (*names, WEIGHTS) if routed else tuple(names)


def export(
    network: Network, inputs: Inputs, *, routed: bool = False, answering: bool = False
) -> bytes:
    """Translate a network for windows of one modality.

    Args:
        network: trained; put into evaluation mode.
        inputs: a batch of at least two windows as tensors; its modality and widths count, its
            values do not.
        routed: read `expert_weights` (B, E) instead of asking the gate.
        answering: say too where the windows went and whether the fingerprint is unlike the
            training set; not with `routed`.

    Returns:
        A serialized ONNX model with inputs `input_names` and outputs `OUTPUTS`, each (B,); if
        `answering`, outputs `ANSWERS`: gate_probs (B, E), expert_weights and expert_ids (B, K), and
        unlike (B,) besides.

    Raises:
        ModelError: `routed` and the network is no mixture, or not and its gate is random, or
            `routed` and `answering`.
    """
    if routed and answering:
        raise ModelError("export: expected routed or answering, got both")
    if routed and not isinstance(network, AtlasMoE):
        raise ModelError("export: expected a mixture where routed=True, got a plain network")
    if not routed and isinstance(network, AtlasMoE) and isinstance(network.gate, RandomGate):
        raise ModelError(
            "export: expected routed=True where the gate is random, got False: hand its weights in"
        )
    names = input_names(network, routed=routed)
    values = [getattr(inputs, name) for name in names if name != WEIGHTS]
    if isinstance(network, AtlasMoE) and routed:
        values.append(torch.full((len(inputs.skip), len(network.expert_ids)), 0.5))
    # ONNX has had this operator since opset 9; torch's translator does not know it.
    register_custom_op_symbolic("aten::atanh", _atanh, 9)
    buffer = io.BytesIO()
    graph = _Graph(graph_form(network.eval()), inputs.modality, names, answering)
    outputs = ANSWERS if answering else OUTPUTS
    with torch.inference_mode(), warnings.catch_warnings():
        # The tracer warns of every Python number it freezes; all of them are widths of the network.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            tuple(values),
            buffer,  # type: ignore[arg-type] # it takes a buffer, but is not annotated so
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (*names, *outputs)},
        )
    return buffer.getvalue()


class _Graph(nn.Module):
    """A network as a function of tensors alone, which is what a graph can be of."""

    def __init__(
        self, network: Network, modality: str, names: tuple[str, ...], answering: bool
    ) -> None:
        super().__init__()
        self.network, self.modality, self.names = network, modality, names
        self.answering = answering

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Return `OUTPUTS` or `ANSWERS`."""
        given = dict(zip(self.names, values, strict=True))
        weights = given.pop(WEIGHTS, None)
        unread = {n: torch.zeros_like(given["market"]) for n in _FIELDS if n not in given}
        inputs = Inputs(modality=self.modality, **given, **unread)
        if weights is None:
            output = self.network(inputs)
            probability = self.network.probability(output, inputs.market)
            more = (*output.routing, self.network.unlike(inputs)) if self.answering else ()
            return output.logit, output.log_rv, probability, *more
        assert isinstance(self.network, AtlasMoE)
        features = self.network.features(inputs)
        deep = self.network.mixed(inputs, features, weights)
        logit, log_rv = self.network.added(inputs, features, deep)
        return logit, log_rv, self.network.calibration.probability(logit, inputs.market)


def _atanh(graph: Any, value: Any) -> Any:
    return graph.op("Atanh", value)
