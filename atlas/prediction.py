"""Run a network over windows, in chunks that stay near the cache."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from atlas.gate import Routing
from atlas.inputs import Inputs, gather
from atlas.moe import Network
from atlas.windows import MarketData

__all__ = ["Predictions", "predict", "raw_predictions", "to_tensors"]

CHUNK = 256  # windows


class Predictions(NamedTuple):
    """What a network says of B windows, before calibration, and what its base alone would say."""

    logit: npt.NDArray[np.float64]  # (B,)
    log_rv: npt.NDArray[np.float64]  # (B,)
    base_logit: npt.NDArray[np.float64]  # (B,)
    base_log_rv: npt.NDArray[np.float64]  # (B,)
    probability: npt.NDArray[np.float64]  # (B,) this one is calibrated
    gate_probs: npt.NDArray[np.float32]  # (B, E)
    expert_weights: npt.NDArray[np.float32]  # (B, K)
    expert_ids: npt.NDArray[np.int64]  # (B, K)
    unlike: npt.NDArray[np.bool_]  # (B,) the fingerprint is unlike the training set


def to_tensors(inputs: Inputs) -> Inputs:
    """Return the same inputs as tensors; `rule` and `market` become int64."""
    fields = [torch.from_numpy(np.ascontiguousarray(field)) for field in inputs[1:]]
    tensors = Inputs(inputs.modality, *fields)
    return tensors._replace(rule=tensors.rule.long(), market=tensors.market.long())


def predict(
    model: Network, data: MarketData, ends: npt.NDArray[np.int64], *, market_index: int
) -> dict[str, npt.NDArray[Any]]:
    """Predict the windows that end at `ends`.

    Args:
        model: trained and calibrated; left in evaluation mode.
        data: their market; labels are not looked at but for which surface measure they ask.
        ends: (B,) positions, at least one.
        market_index: of the market in the model's list, −1 if it has none.

    Returns:
        probability (B,), calibrated; logit (B,), before Platt scaling; log_rv_predicted (B,), log
        realised variance; gate_probs (B, E), expert_weights and expert_ids (B, K); unlike (B,),
        whether the fingerprint is unlike the training set.
    """
    found = raw_predictions(model, data, ends, market_index=market_index)
    names = ("probability", "logit", "gate_probs", "expert_weights", "expert_ids", "unlike")
    return {"log_rv_predicted": found.log_rv, **{name: getattr(found, name) for name in names}}


@torch.inference_mode()
def raw_predictions(
    model: Network, data: MarketData, ends: npt.NDArray[np.int64], *, market_index: int
) -> Predictions:
    """Predict as `predict` does, the base's own outputs included."""
    model.eval()
    device = next(model.parameters()).device
    parts = [_chunk(model, inputs, device) for inputs in _chunks(data, ends, market_index)]
    return Predictions(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _chunks(data: MarketData, ends: npt.NDArray[np.int64], market_index: int) -> Iterator[Inputs]:
    measure = data.labels.question.measure
    for start in range(0, len(ends), CHUNK):
        chunk = ends[start : start + CHUNK]
        yield gather(data.panel, chunk, market_index=market_index, measure=measure)


def _chunk(model: Network, arrays: Inputs, device: torch.device) -> tuple[npt.NDArray[Any], ...]:
    inputs = Inputs(arrays.modality, *(field.to(device) for field in to_tensors(arrays)[1:]))
    output = model(inputs)
    routing: Routing = output.routing
    figures = (
        output.logit,
        output.log_rv,
        *model.base_outputs(inputs),
        model.probability(output, inputs.market),
    )
    wide = [figure.double().cpu().numpy() for figure in figures]
    return (*wide, *(_array(tensor) for tensor in routing), _array(model.unlike(inputs)))


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.cpu().numpy()
    return array
