"""Every form of the network as an ONNX graph, run by ONNX Runtime and compared with eager."""

import numpy as np
import onnxruntime
import pytest
import torch

from atlas.errors import ModelError
from atlas.gate import Routing, dense_weights
from atlas.graph_form import graph_form
from atlas.inputs import Inputs
from atlas.moe import Network, build_model
from atlas.onnx_export import ANSWERS, OUTPUTS, WEIGHTS, export, input_names
from benchmarks.latency import operators
from tests.test_moe import batch, config, stirred

FORMS = {
    "plain": ("cnn", {}, False),
    "plain with fingerprint": ("cnn_fingerprint", {}, False),
    "series alone": ("cnn_1d", {}, False),
    "rule": ("moe_rule", {}, False),
    "mlp": ("moe_mlp", {}, False),
    "routed": ("moe_mlp", {}, True),
    "uniform": ("moe_uniform", {}, False),
    "random, routed": ("moe_random", {}, True),
    "one a modality": ("moe_mlp", {"experts": ["equity_daily", "options_skew"]}, False),
    "banks of their own": ("moe_mlp", {"bank": "expert"}, False),
}


def calibrated(model: Network) -> Network:
    """Give every market its own base, α and calibration, so that no branch is trivial."""
    random = torch.Generator().manual_seed(11)
    for name, buffer in model.named_buffers():
        if name.startswith(("base.", "calibration.")):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=random))
    return model


def answers(model: Network, graph: bytes, inputs: Inputs, routed: bool) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        weights = dense_weights(model(inputs).routing)
    feed = {
        name: (weights if name == WEIGHTS else getattr(inputs, name)).numpy()
        for name in input_names(model, routed=routed)
    }
    assert [node.name for node in session.get_inputs()] == list(feed)
    assert [node.name for node in session.get_outputs()] == list(OUTPUTS)
    return session.run(None, feed)


@pytest.mark.parametrize("modality", ["chart", "surface"])
@pytest.mark.parametrize("form", FORMS)
def test_onnx_runtime_equals_eager(form: str, modality: str) -> None:
    """Logit, log RV and probability agree to 1e-5 at batches of 1, 7 and 256 random windows."""
    variant, moe, routed = FORMS[form]
    model = calibrated(stirred(build_model(config(**moe), variant=variant)))
    graph = export(model, batch(modality, rows=2), routed=routed)
    for rows in (1, 7, 256):
        inputs = batch(modality, rows=rows, seed=5)
        with torch.inference_mode():
            output = model(inputs)
            expected = (output.logit, output.log_rv, model.probability(output, inputs.market))
        for ours, theirs in zip(answers(model, graph, inputs, routed), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5, rtol=1e-5)


def test_a_merged_mixture_exports_as_the_plain_network_it_is() -> None:
    """`merge` and export compose: the graph of the merged network gives the mixture's numbers."""
    model = stirred(build_model(config(), variant="moe_uniform"))
    merged = model.merge(dict.fromkeys(model.expert_ids, 1.0))
    inputs = batch(rows=7)
    ours = answers(merged, export(merged, inputs), inputs, routed=False)
    np.testing.assert_allclose(ours[0], model(inputs).logit.detach(), atol=1e-5, rtol=1e-5)


def test_routed_weights_are_read_and_not_the_gate() -> None:
    """All weight on one expert in the input answers as that expert alone."""
    model = stirred(build_model(config(), variant="moe_mlp"))
    inputs = batch(rows=4)
    graph = export(model, inputs, routed=True)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feed = {name: getattr(inputs, name).numpy() for name in input_names(model)}
    feed[WEIGHTS] = np.eye(6, dtype=np.float32)[[3] * 4]
    alone = model.merge({"futures_trend": 1.0, "options_skew": 1.0})(inputs)
    np.testing.assert_allclose(session.run(None, feed)[0], alone.logit.detach(), atol=1e-5)


@pytest.mark.parametrize("variant", ["moe_mlp", "moe_rule", "moe_uniform"])
@pytest.mark.parametrize("modality", ["chart", "surface"])
def test_a_graph_says_where_windows_went_as_the_network_does(variant: str, modality: str) -> None:
    """Probabilities, weights and experts of the served graph are the eager gate's."""
    model = calibrated(stirred(build_model(config(), variant=variant)))
    inputs = batch(modality, rows=30, seed=8)
    inputs = inputs._replace(rule=torch.arange(30) % 7 - 1)  # a rule of the other modality, or none
    session = onnxruntime.InferenceSession(
        export(model, batch(modality), answering=True), providers=["CPUExecutionProvider"]
    )
    feed = {name: getattr(inputs, name).numpy() for name in input_names(model)}
    said = dict(zip(ANSWERS, session.run(None, feed), strict=True))
    with torch.inference_mode():
        output = model(inputs)
    np.testing.assert_allclose(said["logit"], output.logit, atol=1e-5)
    np.testing.assert_allclose(said["gate_probs"], output.routing.gate_probs, atol=1e-6)
    dense = dense_weights(Routing(*(torch.tensor(said[name]) for name in Routing._fields)))
    np.testing.assert_allclose(dense, dense_weights(output.routing), atol=1e-6)


def test_a_mixture_starts_few_operators_more_than_a_plain_network() -> None:
    """Time at batch 1 is that of starting them: 16 for the mixture, 10 where it is routed."""
    cnn, moe = (build_model(config(), variant=variant) for variant in ("cnn", "moe_mlp"))
    plain = operators(cnn, routed=False)
    assert operators(moe, routed=False) <= plain + 16
    assert operators(moe, routed=True) <= plain + 10


def test_the_form_of_a_graph_shares_every_tensor_and_changes_nothing() -> None:
    """The network that was exported answers as before, and its form has no weight of its own."""
    model = stirred(build_model(config(), variant="moe_mlp"))
    before = model(batch()).logit
    form = graph_form(model)
    assert type(form) is not type(model)
    assert {t.data_ptr() for t in form.parameters()} == {t.data_ptr() for t in model.parameters()}
    torch.testing.assert_close(form(batch()).logit, before, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(batch()).logit, before, atol=0, rtol=0)
    whole = build_model(config(bank="expert"), variant="moe_mlp")
    assert graph_form(whole) is whole


def test_a_graph_asks_for_what_it_reads() -> None:
    """A graph wants no input that it does not read."""
    names = {
        form: input_names(build_model(config(**moe), variant=variant), routed=routed)
        for form, (variant, moe, routed) in FORMS.items()
    }
    assert [form for form, own in names.items() if "rule" in own] == ["rule"]
    assert [form for form, own in names.items() if "image" not in own] == ["series alone"]


def test_a_random_gate_stays_outside() -> None:
    """Its hash would differ between runtimes, so its weights are handed in."""
    with pytest.raises(ModelError, match="expected routed=True where the gate is random"):
        export(build_model(config(), variant="moe_random"), batch())


def test_a_plain_network_is_not_routed() -> None:
    """It has no gate to leave outside."""
    with pytest.raises(ModelError, match="expected a mixture where routed=True"):
        export(build_model(config(), variant="cnn"), batch(), routed=True)
