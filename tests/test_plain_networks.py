"""Networks without experts: what they see, and that the newest bar reaches the answer."""

import pytest
import torch
from torch import nn

from atlas.config import ModelConfig
from atlas.errors import ConfigError
from atlas.kernels.bank import EDGE
from atlas.moe import build_model
from tests.test_moe import batch, config, stirred


def test_the_plain_network_sees_no_fingerprint_unless_it_is_its_name() -> None:
    """What the CNN adds ignores the fingerprint; CNN + fingerprint's and the gate's do not."""
    inputs = batch()
    other = inputs._replace(fingerprint=inputs.fingerprint + 1)
    for variant, sees in (("cnn", False), ("cnn_fingerprint", True), ("moe_mlp", True)):
        model = stirred(build_model(config(), variant=variant))
        same = torch.allclose(model(inputs).logit, model(other).logit, atol=1e-7)
        assert same != sees


def test_a_plain_network_has_none_of_the_experts_that_a_rule_names() -> None:
    """Its columns for them are all −1, which asks nobody and warms no gate."""
    model = build_model(config(), variant="cnn")
    assert model.rule_columns(torch.arange(-1, 6)).tolist() == [-1] * 7


def test_the_one_dimensional_network_sees_the_series_alone() -> None:
    """No plane, no fingerprint: what it adds follows the series and the skip, newest bar included.

    At the widths of params.yaml it has 50,512 parameters, the CNN 87,950.
    """
    model = stirred(build_model(config(), variant="cnn_1d"))
    assert all(".stem." not in name for name, _ in model.named_parameters())
    for modality in ("chart", "surface"):
        inputs = batch(modality)
        logit = model(inputs).logit
        other = inputs._replace(image=1 - inputs.image)
        torch.testing.assert_close(model(other).logit, logit, atol=0, rtol=0)
        series = inputs.series.clone()
        series[:, model.trunk.rows[modality], -1] += 0.5
        assert not torch.allclose(model(inputs._replace(series=series)).logit, logit)
    counts = []
    for variant in ("cnn_1d", "cnn"):
        large = config().model_copy(update={"model": ModelConfig()})
        counts.append(sum(p.numel() for p in build_model(large, variant=variant).parameters()))
    assert counts == [50_512, 87_950]


@pytest.mark.parametrize("bar", [57, 60, 62])
def test_the_one_dimensional_network_runs_causally_along_time(bar: int) -> None:
    """Responses and convolutions up to a bar do not change with the bars after it."""
    trunk = build_model(config(), variant="cnn_1d").trunk
    series = batch().series
    later = series.clone()
    later[:, :, bar + 1 :] = 1
    lines = [trunk.dictionary.series(x[:, 3]) for x in (series, later)]  # the newest EDGE bars
    torch.testing.assert_close(*(line[..., : bar + 1 - (64 - EDGE)] for line in lines))
    assert not torch.allclose(*(line[..., bar + 1 - (64 - EDGE)] for line in lines))
    six = [torch.cat([x, x[:, :1]], 1) for x in (series, later)]
    first = [trunk.body.series[0](nn.functional.pad(x, (5, 0))) for x in six]
    # column i of the strided convolution ends at bar 2·i − 1
    torch.testing.assert_close(*(x[..., : (bar + 1) // 2] for x in first))


def test_the_series_row_of_a_surface_follows_the_measure_asked_for() -> None:
    """The simulated label asks for the butterfly, the real default for the skew."""
    assert build_model(config()).trunk.rows == {"chart": 3, "surface": 2}
    assert build_model(config("files")).trunk.rows == {"chart": 3, "surface": 1}


def test_the_newest_bar_reaches_the_output() -> None:
    """Where the next move is decided is read, on the image and on the series."""
    model = stirred(build_model(config(), variant="cnn"))
    inputs = batch(rows=2)
    image = inputs.image.clone()
    image[:, :, :, -1] += 0.5
    series = inputs.series.clone()
    series[:, 3, -1] += 0.5
    assert not torch.allclose(model(inputs._replace(image=image)).logit, model(inputs).logit)
    assert not torch.allclose(model(inputs._replace(series=series)).logit, model(inputs).logit)


def test_equal_seeds_build_equal_networks() -> None:
    """Weights come from torch's generator alone."""
    models = []
    for _ in range(2):
        torch.manual_seed(9)
        models.append(build_model(config()).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(m.values() for m in models), strict=True))


def test_an_unknown_variant_is_refused() -> None:
    """The message lists the variants there are."""
    with pytest.raises(ConfigError, match="variant 'transformer': expected one of cnn"):
        build_model(config(), variant="transformer")
