"""The networks: what is shared, what is mixed, what may not meet, and where training starts."""

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from atlas import catalogue
from atlas.catalogue import CATALOGUE, EXPERT_IDS, ExpertSpec, Range
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, ModelError
from atlas.experts import Dictionary, Expert, Mixture
from atlas.gate import Gate, MLPGate, RandomGate, RuleGate, UniformGate
from atlas.inputs import Inputs
from atlas.moe import VARIANTS, AtlasMoE, AtlasNet, Network, build_model

PARAMS = """
moe:
  enabled: true
  experts: [crypto_hft, equity_intraday, equity_daily, futures_trend, options_skew, low_vol_etf]
  k: 2
markets:
  btc: {timeframe: 1min, calendar: 24/7}
  stocks: {timeframe: 1d, calendar: XNYS}
  smiles: {timeframe: 1d, calendar: XNYS, modality: surface, label: {kind: surface_change}}
simulated: {as_of: 2026-11-20, markets: {}}
model: {chart_width: 4, series_width: 6, hidden: 16}
"""


def config(source: str = "simulated", **moe: object) -> ATLASConfig:
    params = yaml.safe_load(PARAMS)
    params["source"] = source
    params["moe"] |= moe
    return ATLASConfig.parse(params)


def batch(modality: str = "chart", rows: int = 8, seed: int = 0) -> Inputs:
    """A batch of random walks as tensors; the rule names each expert of the modality in turn."""
    random = torch.Generator().manual_seed(seed)
    shape = (4, 32, 64) if modality == "chart" else (2, 3, 9, 64)
    experts = [0, 1, 2, 3, 5] if modality == "chart" else [4]
    fingerprint = torch.rand(rows, 11, generator=random)
    fingerprint[0, 3] = torch.nan
    series = torch.randn(rows, 5, 64, generator=random).cumsum(2) / 8**0.5
    return Inputs(
        modality,
        torch.rand(rows, *shape, generator=random),
        series - series[:, :, -1:],
        fingerprint,
        torch.randn(rows, 9, generator=random),
        torch.randn(rows, 3, generator=random) - 9,
        torch.tensor([experts[i % len(experts)] for i in range(rows)]),
        torch.tensor([(0, 1, -1)[i % 3] if modality == "chart" else 2 for i in range(rows)]),
        torch.full((rows,), 11.4),
        torch.randn(rows, generator=random),
    )


def stirred(model: Network, seed: int = 3) -> Network:
    """Give every weight and row a random value, as if trained; return the model."""
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if ".head." in name or ".scale." in name or ".shift." in name:
            nn.init.normal_(weight, std=0.5)
    return model.eval()


class FixedGate(Gate):
    """The same probabilities for every window, all experts of the modality kept."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__(len(weights))
        self.weights = torch.tensor(weights)

    def probabilities(self, features, rule, allowed):  # noqa: ARG002
        """Return them."""
        own = self.weights * allowed
        return (own / own.sum()).expand(len(features), -1)


@pytest.mark.parametrize("variant", [*VARIANTS, None])
def test_every_variant_scores_both_modalities(variant: str | None) -> None:
    """Two finite outputs a window, a routing whose weights sum to 1, and gradients."""
    model = stirred(build_model(config(), variant=variant))
    for modality in ("chart", "surface"):
        output = model(batch(modality))
        assert output.logit.shape == output.log_rv.shape == (8,)
        assert output.logit.isfinite().all()
        torch.testing.assert_close(output.routing.expert_weights.sum(1), torch.ones(8))
        (output.logit.sum() + output.log_rv.sum()).backward()
        probability = model.probability(output, batch(modality).market)
        assert ((probability > 0) & (probability < 1)).all()
    assert model.trunk.dictionary.series.weight.grad.abs().sum() > 0


def _base(model: Network, inputs: Inputs) -> tuple[Tensor, Tensor]:
    seen = torch.cat([inputs.skip, model.features(inputs)], 1)
    log_rv = model.base.log_rv(inputs.har, seen, inputs.market, "chart")
    return model.base.logit(seen, inputs.market, "chart"), log_rv


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_network_starts_as_its_base(variant: str) -> None:
    """Before training the heads are zero: the outputs are the base's to the last bit."""
    model = build_model(config(), variant=variant)
    nn.init.normal_(model.base.intercept)
    nn.init.normal_(model.base.weight("chart"))
    nn.init.normal_(model.base.beside("chart"))
    inputs = batch()
    output = model(inputs)
    expected, log_rv = _base(model, inputs)
    torch.testing.assert_close(output.logit, expected, atol=0, rtol=0)
    torch.testing.assert_close(output.log_rv, log_rv, atol=0, rtol=0)
    assert expected.abs().sum() > 0


def test_alpha_scales_what_the_network_adds() -> None:
    """With α = 0 a market keeps its base, whatever was learned; others do not."""
    model = stirred(build_model(config(), variant="moe_mlp"))
    inputs = batch()
    base = _base(model, inputs)[0]
    deep = model(inputs).logit - base
    model.calibration.alpha[0] = torch.tensor([0.0, 1.0])
    model.calibration.alpha[1] = torch.tensor([0.5, 1.0])
    added = model(inputs).logit - base
    scale = torch.tensor([0.0, 0.5, 1.0])[inputs.market]
    torch.testing.assert_close(added, scale * deep)


def test_the_experts_are_a_module_dict_of_the_seeds_ids() -> None:
    """Each owns scales and shifts of its modality's kernels and two head rows."""
    model = build_model(config())
    assert isinstance(model, AtlasMoE)
    assert isinstance(model.experts, nn.ModuleDict)
    assert tuple(model.experts) == EXPERT_IDS == model.expert_ids
    for expert_id, expert in model.experts.items():
        places = {"series", "chart"} | ({"surface"} if expert_id == "options_skew" else set())
        assert set(expert.scale) == set(expert.shift) == places
        assert expert.head.weight.shape == (2, 16)


def test_an_expert_starts_on_its_own_kernels_and_the_shared_blocks() -> None:
    """Scale one there, near zero on the other experts' kernels, no shift anywhere."""
    model = build_model(config())
    owners = model.trunk.dictionary.owners["series"]
    scale = dict(zip(owners, model.experts["low_vol_etf"].scale["series"].tolist(), strict=True))
    assert scale["mean_crossover"] == scale["gaussian_11"] == scale["sma"] == 1
    assert scale["momentum_comb"] == scale["double_bottom"] == pytest.approx(0.1)
    assert not any(e.shift[p].any() for e in model.experts.values() for p in e.shift)


def test_the_plain_networks_row_starts_on_every_kernel() -> None:
    """It has nobody to leave kernels to."""
    model = build_model(config(), variant="cnn")
    assert isinstance(model, AtlasNet)
    for row in model.rows.values():
        assert all((scale == 1).all() for scale in row.scale.values())


def test_mixing_rows_before_the_nonlinearity_is_exact() -> None:
    """Σ gₑ(sₑ·(W∗x) + bₑ) equals (Σ gₑsₑ)·(W∗x) + Σ gₑbₑ for every window's own weights."""
    torch.manual_seed(4)
    bank = Dictionary(("chart",))
    count = len(bank.owners["series"])
    scale, shift, weights = torch.randn(3, count), torch.randn(3, count), torch.rand(5, 3)
    path = torch.randn(5, 64).cumsum(1)
    mixture = Mixture([bank], [{"series": weights @ scale}], {"series": weights @ shift})
    one_by_one = sum(
        weights[:, e, None, None] * (scale[e, :, None] * bank.series(path) + shift[e, :, None])
        for e in range(3)
    )
    torch.testing.assert_close(mixture.respond("series", path), one_by_one, atol=1e-4, rtol=1e-4)


def test_top_two_blends_the_heads_of_the_chosen_experts_only() -> None:
    """Changing a third expert's head or row changes nothing."""
    model = stirred(build_model(config(k=2), variant="moe_mlp"))
    model.gate = FixedGate([0.6, 0.4, 0, 0, 0, 0])
    before = model(batch()).logit
    nn.init.ones_(model.experts["futures_trend"].head.weight)
    nn.init.ones_(model.experts["low_vol_etf"].scale["chart"])
    torch.testing.assert_close(model(batch()).logit, before, atol=0, rtol=0)
    nn.init.ones_(model.experts["crypto_hft"].head.weight)
    assert not torch.allclose(model(batch()).logit, before)


@pytest.mark.parametrize("modality", ["chart", "surface"])
def test_merge_folds_a_fixed_gate_into_a_plain_network(modality: str) -> None:
    """Outputs agree to 1e-5, and the merged network shares no tensor with the mixture."""
    model = stirred(build_model(config(), variant="moe_mlp"))
    weights = [0.4, 0.1, 0.2, 0.3, 1.0, 0.0]
    model.gate = FixedGate(weights)
    nn.init.normal_(model.base.intercept)
    merged = model.merge(dict(zip(EXPERT_IDS, weights, strict=True)))
    assert isinstance(merged, AtlasNet)
    ours, theirs = model(batch(modality)), merged(batch(modality))
    torch.testing.assert_close(theirs.logit, ours.logit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(theirs.log_rv, ours.log_rv, atol=1e-5, rtol=1e-5)
    mine = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert not mine & {tensor.data_ptr() for tensor in merged.state_dict().values()}


@pytest.mark.parametrize(
    "gate",
    [
        {"crypto_hft": 1.0},
        {"crypto_hft": -1.0, "equity_daily": 2.0, "options_skew": 1.0},
        {"crypto_hft": float("inf"), "options_skew": 1.0},
    ],
)
def test_merge_needs_weight_in_every_modality(gate: dict[str, float]) -> None:
    """A gate that leaves a modality without experts, subtracts one or is endless is refused."""
    with pytest.raises(ModelError, match="merge: expected weights >= 0, one above 0"):
        build_model(config()).merge(gate)


def test_experts_with_banks_of_their_own_do_not_merge() -> None:
    """Their kernels differ, so no single convolution stands for them."""
    with pytest.raises(ModelError, match=r"moe\.bank: dictionary"):
        build_model(config(bank="expert")).merge(dict.fromkeys(EXPERT_IDS, 1.0))


def test_whole_banks_per_expert_equal_the_dictionary_while_they_are_equal() -> None:
    """`moe.bank: expert` is the literal reference: same kernels, same output; then they part."""
    shared = stirred(build_model(config(), variant="moe_mlp"))
    own = build_model(config(bank="expert"), variant="moe_mlp")
    own.load_state_dict(shared.state_dict(), strict=False)
    own.eval()
    for modality in ("chart", "surface"):
        for expert in own.experts.values():
            expert.dictionary.load_state_dict(shared.trunk.dictionary.state_dict())
        inputs = batch(modality)
        torch.testing.assert_close(own(inputs).logit, shared(inputs).logit, atol=1e-5, rtol=1e-5)
    nn.init.normal_(own.experts["equity_daily"].dictionary.series.weight)
    changed = (own(batch()).logit - shared(batch()).logit).abs() > 1e-6
    chosen = (own(batch()).routing.expert_ids == 2).any(1)
    assert torch.equal(changed, chosen)


def test_not_enabled_is_the_single_expert_equity_daily() -> None:
    """`enabled: false`, and a list of that one expert, build the very same network."""
    torch.manual_seed(1)
    off = build_model(config(enabled=False))
    torch.manual_seed(1)
    one = build_model(config(experts=["equity_daily"]))
    assert tuple(off.experts) == ("equity_daily",)
    assert off.modalities == ("chart",)
    for (name, mine), (other, theirs) in zip(
        off.state_dict().items(), one.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(mine, theirs)
    assert not off.gate_learns


def test_one_expert_in_the_list_equals_that_expert_alone() -> None:
    """Whatever the rule says, its row and head answer, as a plain network's would."""
    model = stirred(build_model(config(experts=["futures_trend"])))
    output = model(batch())
    assert (output.routing.gate_probs == 1).all()
    assert output.load_balancing_loss == 0
    alone = model.merge({"futures_trend": 1.0})(batch())
    torch.testing.assert_close(output.logit, alone.logit, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("measure", "row"), [("skew", 1), ("butterfly", 2)])
def test_kernels_of_a_surface_act_on_the_row_that_its_label_measures(
    measure: str, row: int
) -> None:
    """The market's label says which; charts read the close line whatever surfaces do."""
    params = yaml.safe_load(PARAMS) | {"source": "files"}  # simulated ones are of butterflies
    params["markets"]["smiles"]["label"]["measure"] = measure
    trunk = build_model(ATLASConfig.parse(params)).trunk
    assert trunk.rows == {"chart": 3, "surface": row}


def test_a_market_without_an_expert_is_refused_by_name() -> None:
    """Charts alone: a surface is not scored by experts that never saw one."""
    with pytest.raises(ModelError, match="modality 'surface' came to a model for chart"):
        build_model(config(enabled=False))(batch("surface"))


def test_surfaces_and_charts_never_share_an_expert() -> None:
    """Turning all chart experts over leaves surfaces as they were, and the other way round."""
    model = stirred(build_model(config(k=6), variant="moe_mlp"))
    charts, surfaces = model(batch()), model(batch("surface"))
    assert (charts.routing.gate_probs[:, 4] == 0).all()
    assert (surfaces.routing.expert_ids == 4).all()
    assert charts.routing.expert_ids.shape == (8, 5)
    nn.init.normal_(model.experts["options_skew"].head.weight)
    torch.testing.assert_close(model(batch()).logit, charts.logit, atol=0, rtol=0)
    before = model(batch("surface")).logit
    for expert_id in set(EXPERT_IDS) - {"options_skew"}:
        nn.init.normal_(model.experts[expert_id].head.weight)
    torch.testing.assert_close(model(batch("surface")).logit, before, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("gate", "kind"),
    [
        ("rule", RuleGate),
        ("mlp", MLPGate),
        ("uniform", UniformGate),
        ("random", RandomGate),
        ("oracle", RuleGate),
    ],
)
def test_the_configuration_names_the_gate(gate: str, kind: type[Gate]) -> None:
    """`moe.gate` and the variant build the same; only the MLP gate learns."""
    model = build_model(config(gate=gate))
    assert isinstance(model.gate, kind)
    assert isinstance(build_model(config(), variant=f"moe_{gate}").gate, kind)
    assert model.gate_learns == (gate == "mlp")


def test_the_rule_reaches_the_rule_gate_as_an_index_of_the_catalogue() -> None:
    """Dropped experts fall to the modality's default, or to its first."""
    ids = ["low_vol_etf", "equity_daily", "options_skew", "crypto_hft"]
    model = build_model(config(experts=ids), variant="moe_rule")
    assert model.rule_columns(torch.arange(-1, 6)).tolist() == [-1, 3, -1, 1, -1, 2, 0]
    chosen = model(batch(rows=5)).routing.expert_ids[:, 0]
    assert [ids[i] for i in chosen] == [
        "crypto_hft",
        "equity_daily",
        "equity_daily",
        "equity_daily",
        "low_vol_etf",
    ]
    left = build_model(config(experts=["low_vol_etf", "crypto_hft"]), variant="moe_rule")
    assert left(batch(rows=2)).routing.expert_ids[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize("kind", ["entropy", "switch"])
def test_the_balancing_loss_is_the_learned_gates_alone(kind: str) -> None:
    """Zero when even, positive when collapsed, weight beside it; no loss without a choice."""
    model = build_model(config(balance={"kind": kind, "weight": 0.5}, k=1), variant="moe_mlp")
    assert model.balance_weight == 0.5
    assert model(batch("surface")).load_balancing_loss == 0
    last = model.gate.layers[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    with torch.no_grad():
        even = float(model(batch()).load_balancing_loss)
        last.bias[2] = 20.0
        collapsed = float(model(batch()).load_balancing_loss)
    assert even == pytest.approx(0, abs=1e-5)
    assert collapsed == pytest.approx(np.log(5) if kind == "entropy" else 4.0, abs=1e-3)
    assert build_model(config(), variant="moe_rule")(batch()).load_balancing_loss == 0


def test_the_load_of_every_expert_and_market_comes_with_the_output() -> None:
    """A row a market, the last for those the model does not know; each window counts k times."""
    model = stirred(build_model(config(), variant="moe_mlp"))
    inputs = batch(rows=9)
    output = model(inputs)
    assert output.load.shape == (4, 6)
    for market in (0, 1, -1):
        ids = output.routing.expert_ids[inputs.market == market]
        assert output.load[market].tolist() == torch.bincount(ids.ravel(), minlength=6).tolist()
    assert output.load.sum() == 18
    rule = build_model(config(), variant="moe_rule")(inputs).load
    assert rule.sum() == 9  # the second choice of a rule has no weight
    assert build_model(config(), variant="cnn")(inputs).load.tolist() == [[3], [3], [0], [3]]


def test_a_mixture_stores_nothing_that_follows_from_its_configuration() -> None:
    """Which experts are allowed, and where a kernel's bars lie, are no weights of a file."""
    stored = {name.rpartition(".")[2] for name in build_model(config()).state_dict()}
    assert not {"bars", "columns_of_rule", "allowed_chart", "allowed_surface"} & stored


def test_a_mixture_of_one_learns_no_gate_and_asks_for_no_balance() -> None:
    """Whatever gate it is handed: there is nothing to choose and nothing to balance."""
    built = build_model(config(experts=["equity_daily"]))
    gate, modality_of = MLPGate(26, 1, 2), {"equity_daily": "chart"}
    one = AtlasMoE(built.trunk, built.experts, gate, built.markets, modality_of=modality_of)
    assert not one.gate_learns
    assert one.balance_weight == 0


def test_a_head_row_learns_at_the_first_step() -> None:
    """Heads start at zero but not stuck: their gradient is not."""
    model = build_model(config(), variant="moe_rule")
    model(batch()).logit.sum().backward()
    expert = model.experts["crypto_hft"]
    assert isinstance(expert, Expert)
    assert expert.head.weight.grad[0].abs().sum() > 0


def test_a_seventh_expert_is_one_row_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the row, configuration, gate and network know it; without it, they refuse its name."""
    row = ExpertSpec(
        id="bond_weekly",
        archetype="Bonds",
        prime_uses="Treasury futures",
        timeframes=("1d", "1w"),
        modality="chart",
        ranges=(Range("vol30", high=0.002),),
        kernels=("mean_crossover",),
    )
    ids = (*EXPERT_IDS, row.id)
    with pytest.raises(ConfigError, match="bond_weekly"):
        config(experts=list(ids))
    monkeypatch.setattr(catalogue, "CATALOGUE", (*CATALOGUE, row))
    for module in ("catalogue", "config", "moe"):  # all of them derived from the catalogue's rows
        monkeypatch.setattr(f"atlas.{module}.EXPERT_IDS", ids)
    model = stirred(build_model(config(experts=list(ids)), variant="moe_rule"))
    assert tuple(model.experts) == ids
    chosen = model(batch(rows=2)._replace(rule=torch.tensor([6, 0]))).routing.expert_ids
    assert chosen[:, 0].tolist() == [6, 0]
    for variant in ("moe_mlp", "moe_uniform"):
        output = build_model(config(experts=list(ids)), variant=variant)(batch())
        assert output.routing.gate_probs.shape == (8, 7)
