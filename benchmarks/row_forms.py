"""Other ways of giving a window its experts' row, measured beside the one that is served.

Each is a graph of the same weights, so that its answers can be held against the mixture's:

- `trained`: the form that training uses, every expert's row weighed; the same answers.
- `strided`: the row applied after the strided reduction, to a quarter of the charts' responses.
  Body and kernels then read other pixels: another network, which would have to be trained anew.
- `folded`: the row folded into the convolutions once a bar, a plain network for each bar. The same
  answers as long as all windows of a call share one row.
- `fused`: standardizer, gate, top k and mixing as one compiled loop outside the graph, which is
  handed the mixed row. The same answers; each processor needs its own machine code.
"""

from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.charts import CHART_SHAPE
from atlas.experts import KERNEL_GAIN
from atlas.gate import dense_weights
from atlas.graph_form import GraphMoE
from atlas.inputs import Inputs
from atlas.moe import AtlasMoE, AtlasNet
from atlas.residual import Standardizer
from atlas.trunk import CLOSE_LINE, Trunk

__all__ = ["AsTrained", "FusedGate", "RowMoE", "StridedMoE", "described", "folded", "of_one_bar"]

Singles = npt.NDArray[np.float32]


class AsTrained(AtlasMoE):
    """A mixture whose graph is traced from the form that it trains in."""

    def __init__(self, network: AtlasMoE) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(network.__dict__)


class StridedMoE(GraphMoE):
    """A mixture whose chart kernels step as the body's convolution does, rows applied after it."""

    def __init__(self, network: AtlasMoE) -> None:
        super().__init__(network)
        trunk = network.trunk
        self._modules = {**self._modules, "trunk": _StridedTrunk(trunk)}


class RowMoE(GraphMoE):
    """A mixture that is handed each window's mixed row of its table in place of gate weights."""

    def __init__(self, network: AtlasMoE) -> None:
        super().__init__(network)
        known = len(network.expert_ids)
        more = range(known, self._table("chart").shape[1])
        self.expert_ids = (*network.expert_ids, *(str(column) for column in more))  # a name each

    def mixed(self, inputs: Inputs, features: Tensor, weights: Tensor) -> Tensor:
        """As `AtlasMoE.mixed`; `weights` is a mixed row (B, N)."""
        return self._answer(inputs, features, weights[:, None])


class FusedGate:
    """The gate and the mixing of rows, compiled into one loop over windows."""

    def __init__(self, network: AtlasMoE) -> None:
        standardizer = network.standardizers["chart"]
        assert isinstance(standardizer, Standardizer)
        form = GraphMoE(network)
        own = torch.tensor(network.columns["chart"])
        *inner, last = [m for m in network.gate.layers if isinstance(m, nn.Linear)]  # type: ignore[union-attr]
        layers: list[tuple[Tensor, Tensor]] = [(layer.weight, layer.bias) for layer in inner]
        layers.append((last.weight[own], last.bias[own]))
        with torch.inference_mode():
            self._weights = tuple(part.numpy().copy() for pair in layers for part in pair)
            self._table = form._table("chart")[own].numpy().copy()
            described = (standardizer.mean, standardizer.scale, standardizer.is_logged)
            self._standard = tuple(part.numpy().copy() for part in described)
        self._k = network.gate.k

    def rows(self, described: Singles) -> Singles:
        """Return mixed rows (B, N) of raw columns `atlas.residual.DESCRIBED` (B, G)."""
        found = np.empty((len(described), self._table.shape[1]), np.float32)
        _mixed_rows(described, *self._standard, *self._weights, self._table, self._k, found)
        return found


def of_one_bar(inputs: Inputs) -> Inputs:
    """Return the batch with the first window's fingerprint in every row."""
    names = ("fingerprint", "log_timeframe", "vol_ratio")
    same = {name: getattr(inputs, name)[:1].expand_as(getattr(inputs, name)) for name in names}
    return inputs._replace(**{name: field.contiguous() for name, field in same.items()})


def folded(network: AtlasMoE, inputs: Inputs) -> AtlasNet:
    """Return the plain network that answers windows of the first one's fingerprint."""
    with torch.inference_mode():
        weights = dense_weights(network(inputs).routing)[0]
    row = dict(zip(network.expert_ids, weights.tolist(), strict=True))
    # Surfaces have an expert of their own, whose row is folded whatever charts are given.
    return network.merge(row | {network.expert_ids[c]: 1.0 for c in network.columns["surface"]})


class _StridedTrunk(nn.Module):
    """The trunk on charts, its kernels stepping by two: the body's reduction comes first."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk, self.dictionary = trunk, trunk.dictionary
        self.is_drawn, self.reader = trunk.is_drawn, trunk.reader

    def forward(self, inputs: Inputs, rows: object, features: Tensor) -> Tensor:
        """As `Trunk.forward`, for charts."""
        del features
        trunk, body = self.trunk, self.trunk.body
        path = inputs.series[:, trunk.rows["chart"]]
        line = functional.relu(rows.respond("series", path))  # type: ignore[attr-defined]
        planes = functional.avg_pool2d(trunk.stem(inputs.image), 2)  # (B, C', 8, 16)
        close_line = functional.pad(planes[:, CLOSE_LINE : CLOSE_LINE + 1], (8, 0, 3, 3))
        kernels = KERNEL_GAIN * self.dictionary.chart.kernels()[:, None]
        response = functional.conv2d(close_line, kernels, stride=2)  # (B, D, 4, 8)
        scale, shift = (part.reshape(-1, len(kernels), 1, 1) for part in rows.rows["chart"])  # type: ignore[attr-defined]
        seen = functional.relu(response * scale + shift)
        weight, channels = body.chart.weight, CHART_SHAPE[0] + trunk.stem.convolution.out_channels
        chart = functional.conv2d(planes, weight[:, :channels], body.chart.bias, 2, 1)
        chart = functional.relu(chart + functional.conv2d(seen, weight[:, channels:, 1:2, 1:2]))
        moves = functional.pad(path[:, 1:] - path[:, :-1], (1, 0))
        series = torch.cat([inputs.series, moves[:, None]], 1)
        recent = body.series(functional.pad(series, (5, 0)))[..., -4:]
        joined = torch.cat([line.flatten(1), recent.flatten(1), chart.flatten(1)], 1)
        hidden = functional.relu(body.join(joined) + body.skip["chart"](inputs.skip))
        return functional.relu(body.deepen(hidden))


def described(inputs: Inputs) -> Callable[[], Singles]:
    """Return what lays the columns that a gate reads side by side, (B, G)."""
    parts = (inputs.fingerprint, inputs.log_timeframe[:, None], inputs.vol_ratio[:, None])
    arrays = [part.numpy() for part in parts]
    return lambda: np.concatenate(arrays, axis=1)


@numba.njit(fastmath=False)
def _mixed_rows(raw, mean, scale, logged, w1, b1, w2, b2, w3, b3, table, k, found):  # type: ignore[no-untyped-def]
    columns = raw.shape[1]
    features = np.empty(2 * columns, np.float32)
    for b in range(raw.shape[0]):
        for c in range(columns):
            value = np.log(max(raw[b, c], np.float32(0))) if logged[c] else raw[b, c]
            known = np.isfinite(value)
            standard = (value - mean[c]) / scale[c] if known else np.float32(0)
            features[c] = min(max(standard, np.float32(-5)), np.float32(5))
            features[columns + c] = np.float32(0) if known else np.float32(1)
        first = np.maximum(np.dot(w1, features) + b1, np.float32(0))
        second = np.maximum(np.dot(w2, first) + b2, np.float32(0))
        logits = np.dot(w3, second) + b3
        order = np.argsort(-logits)[:k]
        weights = np.exp(logits[order] - logits[order[0]])
        weights /= weights.sum()
        found[b] = 0
        for place in range(len(order)):
            found[b] += weights[place] * table[order[place]]
