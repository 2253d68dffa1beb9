"""A trained mixture as ONNX graphs, one a modality, asked through ONNX Runtime and without torch.

The graphs are those of `atlas.onnx_export.export` with `answering=True`: gate, calibration and the
familiarity of the fingerprint are inside. Windows go through in chunks that stay in the cache; one
thread, so that an answer does not depend on the machine's load.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from atlas.errors import ModelError
from atlas.inputs import gather
from atlas.windows import Measure, Panel

__all__ = ["CHUNK", "Graphs"]

CHUNK = 32  # windows; larger ones fall out of a core's cache and take twice the time each

Answers = dict[str, NDArray[Any]]


class Graphs:
    """What answers windows.

    Args:
        graphs: serialized ONNX models by modality.
        expert_ids: the columns of gate_probs, in order.
        markets: in the order of the network's rows.
    """

    def __init__(
        self, graphs: Mapping[str, bytes], expert_ids: tuple[str, ...], markets: tuple[str, ...]
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors alone
        self.expert_ids, self.markets = expert_ids, markets
        self._sessions: dict[str, Any] = {
            kind: onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            for kind, graph in graphs.items()
        }
        self._inputs = {
            kind: [node.name for node in session.get_inputs()]
            for kind, session in self._sessions.items()
        }
        self._outputs = {
            kind: [node.name for node in session.get_outputs()]
            for kind, session in self._sessions.items()
        }

    def answer(self, panel: Panel, ends: NDArray[np.int64], measure: Measure) -> Answers:
        """Answer the windows that end at `ends`, (B,), at least one.

        Returns:
            logit, log_rv, probability (B,); gate_probs (B, E); expert_weights and expert_ids
            (B, K); unlike (B,): the outputs of the graph.

        Raises:
            ModelError: the model has no expert of the panel's modality.
        """
        kind = panel.modality
        if kind not in self._sessions:
            known = ", ".join(self._sessions)
            raise ModelError(f"{panel.market}: a {kind} came to a model for {known}")
        session, names = self._sessions[kind], self._inputs[kind]
        place = self.markets.index(panel.market)
        parts = []
        for start in range(0, len(ends), CHUNK):
            inputs = gather(panel, ends[start : start + CHUNK], market_index=place, measure=measure)
            given = inputs._replace(
                rule=inputs.rule.astype(np.int64), market=inputs.market.astype(np.int64)
            )
            feed = {name: np.ascontiguousarray(getattr(given, name)) for name in names}
            parts.append(session.run(None, feed))
        one = len(parts) == 1
        joined = parts[0] if one else [np.concatenate(f) for f in zip(*parts, strict=True)]
        return dict(zip(self._outputs[kind], joined, strict=True))
