"""The cross-asset expert: what it sees, when it is asked, and what stays as it was without it."""

from dataclasses import replace
from typing import cast

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from torch import Tensor

from atlas.basket_config import HEDGED
from atlas.baskets import Basket, Closes, absent_basket, build_basket
from atlas.catalogue import CROSS_ASSET, EXPERT_IDS, expert_spec
from atlas.config import ATLASConfig
from atlas.errors import ConfigError
from atlas.experts import Expert
from atlas.hedge import HedgedMoE, build_network, with_hedges
from atlas.inputs import gather
from atlas.kernels.registry import TEMPLATES
from atlas.metrics import log_loss
from atlas.moe import build_model
from atlas.onnx_export import export, input_names
from atlas.prediction import predict, to_tensors
from atlas.training import train
from atlas.windows import MarketData, label
from tests.toys import toy_config, toy_data

DAY = 86_400_000_000
NAMES = ("tips", "energy", "gold")
SERIES = {name: f"toy_more/{name.upper()}" for name in NAMES}
BARS = 260


def config(**training: object) -> ATLASConfig:
    """The toy's, with a basket for one of its two chart markets."""
    values = toy_config(**training).model_dump(mode="json")
    return ATLASConfig.parse(values | {"basket": {"series": SERIES, "markets": ["toy_charts"]}})


def basket_beside(own: MarketData, lines: np.ndarray) -> Basket:
    """Lay daily series (3, T) of log closes beside a toy market."""
    closed = (1 + np.arange(lines.shape[1])) * DAY
    return build_basket(
        {name: Closes(SERIES[name], closed, line) for name, line in zip(NAMES, lines, strict=True)},
        market="toy_charts",
        symbols=own.panel.symbols,
        offsets=own.panel.offsets,
        asked=own.panel.timestamp + DAY,
        log_close=np.log(own.panel.values[3]),
        stale_days=5,
    )


def hedged(data: dict[str, MarketData], lines: np.ndarray) -> dict[str, MarketData]:
    """Give the first market its basket, the second an absent one, the surfaces none."""
    first, second, surfaces = data.values()
    absent = absent_basket(NAMES, second.panel.timestamp.size)
    return {
        "toy_charts": with_hedges(first, basket_beside(first, lines)),
        "toy_more": replace(second, panel=replace(second.panel, basket=absent)),
        "toy_surfaces": surfaces,
    }


def walks(seed: int = 5) -> np.ndarray:
    return np.cumsum(0.01 * np.random.default_rng(seed).standard_normal((3, BARS)), axis=1)


@pytest.fixture(scope="module")
def data() -> dict[str, MarketData]:
    return toy_data(bars=BARS, test=40, validation=40)


def built() -> HedgedMoE:
    torch.manual_seed(3)
    return cast(HedgedMoE, build_network(config(), variant=HEDGED))


def awake(model: HedgedMoE) -> HedgedMoE:
    """Give heads weights, so that what experts see reaches the answer."""
    for name, weight in model.named_parameters():
        if ".head." in name:
            torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(7))
    return model.eval()


def answers(model: HedgedMoE, own: MarketData, ends: np.ndarray) -> dict[str, np.ndarray]:
    return predict(model, own, ends, market_index=model.markets.index(own.panel.market))


def test_the_row_of_the_catalogue_names_what_exists() -> None:
    """Its kernels are templates, its range is the basket's, the six keep their places."""
    (row,) = CROSS_ASSET
    assert expert_spec("inflation_hedge") is row
    assert row.id not in EXPERT_IDS
    assert set(row.kernels) <= {template.owner for template in TEMPLATES.values()}
    assert [(limit.column, limit.low) for limit in row.ranges] == [("hedge_corr", 0.3)]


def test_the_network_without_it_is_the_same_to_the_bit(data: dict[str, MarketData]) -> None:
    """Trunk and six experts start as those of `moe_mlp`, which reads no basket."""
    torch.manual_seed(3)
    plain = build_model(toy_config(), variant="moe_mlp")
    mine = built().state_dict()
    shared = {name for name in plain.state_dict() if not name.startswith("gate.")}
    assert all(torch.equal(mine[name], plain.state_dict()[name]) for name in shared)
    beside = hedged(data, walks())["toy_charts"]
    own = replace(beside, panel=replace(beside.panel, rule=data["toy_charts"].panel.rule))
    ends, plain = own.split.test, plain.eval()
    pairs = (
        predict(plain, own, ends, market_index=0),
        predict(plain, data["toy_charts"], ends, market_index=0),
    )
    for name in pairs[0]:
        np.testing.assert_array_equal(pairs[0][name], pairs[1][name])


def test_the_expert_is_asked_only_where_the_basket_is_known(data: dict[str, MarketData]) -> None:
    """No weight before the series overlap, in a market without a basket, or for surfaces."""
    lines = walks()
    lines[2, :130] = np.nan  # gold begins late
    markets, model = hedged(data, lines), awake(built())
    model.gate.k = 6  # all that are allowed
    place = model.expert_ids.index("inflation_hedge")
    for market, ends, asked in (
        ("toy_charts", np.arange(200, 230), True),
        ("toy_charts", np.arange(100, 130), False),
        ("toy_more", np.arange(200, 230), False),
        ("toy_surfaces", np.arange(200, 230), False),
    ):
        probs = answers(model, markets[market], ends)["gate_probs"][:, place]
        assert (probs > 0).all() == asked
        assert (probs > 0).any() == asked


def test_a_basket_that_is_not_asked_changes_nothing(data: dict[str, MarketData]) -> None:
    """Under weights that leave the expert out, other lines give the same hidden vectors."""
    model, own = awake(built()), hedged(data, walks())["toy_charts"]
    inputs = to_tensors(gather(own.panel, own.split.test, market_index=0))
    other = inputs._replace(basket=inputs.basket.flip(0) + 1)
    weights = torch.full((len(inputs.skip), len(model.expert_ids)), 0.2)
    place = model.expert_ids.index("inflation_hedge")

    def said(batch: object, hedge: float) -> Tensor:
        weights[:, place] = hedge
        return model.mixed(batch, model.features(batch), weights)  # type: ignore[arg-type]

    with torch.inference_mode():
        assert torch.equal(said(inputs, 0.0), said(other, 0.0))
        assert not torch.allclose(said(inputs, 0.2), said(other, 0.2))


def test_what_the_series_do_later_changes_no_answer(data: dict[str, MarketData]) -> None:
    """Poisoning all closes of the basket after bar t leaves gate and prediction at t alone."""
    lines, t = walks(), 200
    poisoned = lines.copy()
    poisoned[:, t + 1 :] *= -30
    model, ends = awake(built()), np.array([t])
    model.gate.k = 6
    first, second = (
        answers(model, hedged(data, each)["toy_charts"], ends) for each in (lines, poisoned)
    )
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    now = lines.copy()
    now[:, t] += 0.05
    third = answers(model, hedged(data, now)["toy_charts"], ends)
    assert third["logit"][0] != first["logit"][0]


def test_its_graph_of_charts_answers_as_it_does(data: dict[str, MarketData]) -> None:
    """ONNX Runtime, asked with the basket's two inputs beside the others, says the same."""
    model, own = awake(built()), hedged(data, walks())["toy_charts"]
    inputs = to_tensors(gather(own.panel, own.split.test[:7], market_index=0))
    names = input_names(model)
    assert {"basket", "basket_fingerprint"} <= set(names)
    session = onnxruntime.InferenceSession(
        export(model, inputs), providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {name: getattr(inputs, name).numpy() for name in names})
    with torch.inference_mode():
        expected = model(inputs)
    np.testing.assert_allclose(found[0], expected.logit, atol=1e-5)
    np.testing.assert_allclose(found[1], expected.log_rv, atol=1e-5)


def test_the_rule_names_it_where_its_range_holds(data: dict[str, MarketData]) -> None:
    """A basket made of the market itself is followed; a stranger is not; unknown never is."""
    own = data["toy_charts"]
    closes = np.log(own.panel.values[3, :BARS])
    follower = np.stack([closes + 0.001 * walk for walk in walks()])
    named = with_hedges(own, basket_beside(own, follower)).panel.rule[:BARS]
    code = len(EXPERT_IDS)
    assert not (named[:63] == code).any()
    assert (named[80:] == code).all()
    follower[2, 200:] = np.nan
    ended = with_hedges(own, basket_beside(own, follower)).panel.rule[:BARS]
    assert (ended[80:200] == code).all()
    assert not (ended[200:] == code).any()  # hysteresis would still name it for four bars
    strangers = with_hedges(own, basket_beside(own, walks(8))).panel.rule[:BARS]
    assert (strangers == code).mean() < 0.1
    assert set(strangers) - {code} <= set(own.panel.rule)
    model = built()
    columns = model.rule_columns(torch.tensor([2, code, -1]))
    assert columns.tolist() == [2, len(EXPERT_IDS), -1]


def test_training_finds_what_only_the_basket_tells() -> None:
    """Where a follower's next move is gold's last, the expert calls it; without a basket, nobody.

    The other experts' rows over the basket are still zero after training.
    """
    bars, rng = 700, np.random.default_rng(4)
    steps = 0.01 * np.random.default_rng(5).standard_normal((3, bars))
    lagged = np.roll(np.sign(steps[2]), 1)  # at each bar gold's move of the bar before
    moves = 0.008 * np.abs(rng.standard_normal((3, bars))) * lagged + 0.6 * steps.mean(axis=0)
    close = 100 * np.exp(np.cumsum(moves, axis=1)).ravel()
    toy = toy_data(bars=bars, test=120, validation=60)["toy_charts"]
    values = np.stack([close, 1.01 * close, 0.99 * close, close, np.ones_like(close)])
    panel = replace(toy.panel, values=values)
    own = MarketData(panel, label(panel), toy.split)
    follower = with_hedges(own, basket_beside(own, np.cumsum(steps, axis=1)))
    settings = config(epochs=2, windows_per_epoch=32 * 40, batch=32, learning_rate=0.02)
    torch.manual_seed(3)
    model = build_network(settings, variant=HEDGED)
    train(model, {"toy_charts": follower}, settings.training, seed=3)
    y, losses = own.labels.direction[own.split.test].astype(np.float64), []
    absent = replace(own, panel=replace(panel, basket=absent_basket(NAMES, 3 * bars)))
    for seen in (follower, absent):
        found = predict(model, seen, own.split.test, market_index=0)
        losses.append(log_loss(y, found["probability"]))
    assert losses[0] < 0.6 < losses[1]
    assert isinstance(model, HedgedMoE)
    rows = {name: cast(Expert, expert).scale for name, expert in model.experts.items()}
    own_row = rows.pop("inflation_hedge")["basket"]
    assert not torch.allclose(own_row, torch.ones_like(own_row))
    blind = [row["basket"] for row in rows.values() if "basket" in row]
    assert len(blind) == len(EXPERT_IDS) - 1
    assert not any(row.any() for row in blind)


@pytest.mark.parametrize(
    ("basket", "told"),
    [
        ({"series": {"tips": "a/B"}, "markets": ["toy_charts"]}, r"\['energy', 'gold'\] missing"),
        ({"series": {**SERIES, "gold": "GOLD"}, "markets": ["toy_charts"]}, "'gold': 'GOLD'"),
        ({"series": SERIES, "markets": ["toy_surfaces"]}, "basket.markets 'toy_surfaces'"),
        ({"series": {**SERIES, "gold": "x/GOLD"}, "markets": ["toy_charts"]}, "series.gold 'x/GO"),
        ({"series": {**SERIES, "gold": SERIES["tips"]}, "markets": ["toy_charts"]}, "distinct"),
        ({"series": SERIES, "markets": ["toy_charts"], "stale": 3}, "basket.stale"),
    ],
)
def test_a_wrong_basket_is_refused_by_name(basket: dict[str, object], told: str) -> None:
    """Missing series, markets that are none or hold surfaces, doubles and misspelled keys."""
    values = yaml.safe_load(yaml.safe_dump(toy_config().model_dump(mode="json")))
    with pytest.raises(ConfigError, match=told):
        ATLASConfig.parse(values | {"basket": basket})


def test_it_is_not_built_without_a_basket_or_a_gate() -> None:
    """Params without the block, with one expert or with banks of their own are told what to do."""
    with pytest.raises(ConfigError, match="expected a block basket"):
        build_network(toy_config(), variant=HEDGED)
    for moe in ({"enabled": False}, {"bank": "expert"}):
        values = config().model_dump(mode="json")
        values["moe"] |= moe
        with pytest.raises(ConfigError, match="leave the basket out"):
            build_network(ATLASConfig.parse(values), variant=HEDGED)
