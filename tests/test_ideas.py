"""Each idea changes what it says and nothing else, and none of them looks ahead."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from atlas.cuts import cut
from atlas.evaluation import POOLED
from atlas.inputs import gather
from atlas.kernels.bank import KernelBank, SeriesBank
from atlas.moe import AtlasMoE, Network
from atlas.windows import VARIANCE_FLOOR, MarketData, Panel, label
from benchmarks import idea_bench, ideas_score
from benchmarks.idea_bench import parted
from benchmarks.idea_data import COARSE, LONGER, coarser, longer, next_bar, price_range, relative
from benchmarks.idea_networks import SHORT
from benchmarks.idea_table import BLENDS, IDEAS, REREADINGS, USUAL
from benchmarks.ideas import chosen, seeds_of
from benchmarks.ideas_page import page, verdict
from benchmarks.units import PROJECT, Results
from tests.panels import panel_of, walk
from tests.test_moe import batch, config, stirred
from tests.toys import toy_charts, toy_config, toy_surfaces

BARS = 5  # of the second target
LOSSES = (("a", 0.001), ("b", -0.002), ("c", -0.001))


def market(panel: Panel, *, horizon: int = 1, skip: int = 0) -> MarketData:
    kind = "surface_change" if panel.modality == "surface" else "direction"
    asked = {"kind": kind, "measure": "butterfly", "horizon": horizon, "skip": skip}
    labels = label(panel, **asked, volatility_horizon=BARS)
    return MarketData(panel, labels, cut(panel, labels, test=40, validation=40, horizon=horizon))


def network(idea: str, seed: int = 5) -> Network:
    torch.manual_seed(seed)
    return IDEAS[idea].network(config()).eval()


def test_no_row_that_trains_tunes_or_judges_reads_a_bar_of_the_next_part() -> None:
    """Labels of each part end before the next part's first session; judged ones before the cut."""
    own = market(toy_charts(bars=900), horizon=3)
    day = 700
    data, test = parted(own, day=day, end=800, horizon=3)
    session, last = own.panel.session, own.labels.last
    split = data.split
    assert min(part.size for part in (*split.__dict__.values(), test) if np.ndim(part)) > 0
    assert session[last[split.test]].max() < day <= session[test].min()
    assert session[test].max() < 800
    assert session[last[split.validation]].max() < session[split.test].min()
    assert session[last[split.train]].max() < session[split.validation].min()
    assert np.unique(session[split.test]).size <= idea_bench.JUDGED
    for part in (split.test, test):
        assert own.panel.index[part].min() >= COARSE * 64 - 1


@pytest.mark.parametrize("make", [toy_charts, toy_surfaces])
def test_auxiliary_targets_read_no_bar_that_the_purge_does_not_know(make: object) -> None:
    """Bars after the last one of a row's usual targets may be anything: its targets stay."""
    assert callable(make)
    own = market(make(), skip=1)
    end = 200
    last = int(own.labels.last[end])
    values = own.panel.values.copy()
    after = slice(last + 1, int(own.panel.offsets[1]))
    values[(slice(None), after) if own.panel.modality == "chart" else after] *= 7.0
    poisoned = replace(own, panel=replace(own.panel, values=values))
    for shows in (price_range, next_bar):
        told, other = shows(own, BARS).labels, shows(poisoned, BARS).labels
        assert told.log_rv[end] == other.log_rv[end]
        assert np.isnan(told.log_rv[np.isnan(own.labels.log_rv)]).all()
        np.testing.assert_array_equal(told.direction, own.labels.direction)


def test_the_range_and_the_next_bar_are_what_their_names_say() -> None:
    """By hand: highest high over lowest low of the next five bars; the next return over vol30."""
    own = market(toy_charts())
    t, values = 150, own.panel.values
    span = np.log(values[1, t + 1 : t + 6].max()) - np.log(values[2, t + 1 : t + 6].min())
    assert price_range(own, BARS).labels.log_rv[t] == pytest.approx(np.log(span), rel=1e-5)
    move = np.log(values[3, t + 1] / values[3, t])
    vol30 = 0.02
    fingerprint = np.full_like(own.panel.fingerprint, vol30)
    known = replace(own, panel=replace(own.panel, fingerprint=fingerprint))
    assert next_bar(known, BARS).labels.log_rv[t] == pytest.approx(move / vol30, rel=1e-4)


@pytest.mark.parametrize("make", [toy_charts, toy_surfaces])
def test_coarser_bars_end_at_the_same_moment_and_know_nothing_later(make: object) -> None:
    """A row keeps moment, symbol and labels; its 64 columns are the newest 256 bars, no later."""
    assert callable(make)
    own = market(make(bars=500))
    shown = coarser(own, BARS)
    for part in ("train", "validation", "test"):
        ends, new = getattr(own.split, part), getattr(shown.split, part)
        kept = ends[own.panel.index[ends] >= COARSE * 64 - 1]
        rows = [sorted(zip(p.symbol_of(e), p.timestamp[e], strict=True)) for p, e in (
            (own.panel, kept), (shown.panel, new)
        )]  # fmt: skip
        assert rows[0] == rows[1]
    old = int(kept[3])
    symbol, time = own.panel.symbol_of(np.array([old]))[0], own.panel.timestamp[old]
    names = shown.panel.symbol_of(np.arange(shown.panel.timestamp.size))
    (place,) = np.flatnonzero((names == symbol) & (shown.panel.timestamp == time))
    assert shown.labels.direction[place] == own.labels.direction[old]
    values = own.panel.values.copy()
    later = slice(old + 1, None)
    values[(slice(None), later) if own.panel.modality == "chart" else later] = np.nan
    blind = coarser(replace(own, panel=replace(own.panel, values=values)), BARS)
    end = np.array([place])
    seen = [gather(one.panel, end, market_index=0) for one in (shown, blind)]
    for a, b in zip(*seen, strict=True):
        np.testing.assert_array_equal(a, b)
    if own.panel.modality == "chart":
        window = own.panel.values[:, old - 255 : old + 1].reshape(5, 64, COARSE)
        own_rows = shown.panel.values[:, place - 63 : place + 1]
        np.testing.assert_array_equal(own_rows[1], window[1].max(1))
        np.testing.assert_array_equal(own_rows[0], window[0][:, 0])
        np.testing.assert_array_equal(own_rows[4], window[4].sum(1))


def test_questions_change_where_they_say() -> None:
    """Five times every horizon; relative on charts alone, against the same moment's median."""
    plain = toy_config()
    for name in plain.markets:
        usual = plain.markets[name].label
        assert longer(plain).markets[name].label.horizon == LONGER * usual.horizon
        asked = relative(plain).markets[name].label.kind
        assert asked == ("surface_change" if name == "toy_surfaces" else "relative_direction")
    panel = walk("daily", symbols=3, bars=120, seed=4)
    t, values = 80, panel.values.copy()
    before = label(panel, kind="relative_direction").direction[t]
    others = np.flatnonzero((panel.timestamp != panel.timestamp[t + 1]) & (panel.timestamp > t))
    others = others[panel.timestamp[others] > panel.timestamp[t + 1]]
    values[:, others] *= 5.0
    again = label(replace(panel, values=values), kind="relative_direction").direction[t]
    assert before == again
    assert np.isfinite(before)


@pytest.mark.parametrize("idea", ["market_heads", "window_short", "no_skip"])
def test_networks_with_one_thing_changed_share_the_other_weights(idea: str) -> None:
    """From one seed they hold the very first weights of the usual mixture."""
    state, usual = network(idea).state_dict(), network(USUAL).state_dict()
    shared = set(state) & set(usual)
    assert len(shared) > 0.9 * len(usual)
    assert all(torch.equal(state[name], usual[name]) for name in shared)


def test_a_market_head_moves_its_own_market_alone() -> None:
    """Zero at the start: the usual mixture. Then one market's head changes that market's rows."""
    model, usual = network("market_heads"), network(USUAL)
    stirred(model)
    stirred(usual)
    torch.testing.assert_close(model(batch()).logit, usual(batch()).logit)
    with torch.no_grad():
        model.biases[1, 0] = 3.0
    moved = (model(batch()).logit - usual(batch()).logit).abs() > 1e-4
    assert torch.equal(moved, batch().market == 1)


def test_the_short_sighted_sees_no_older_bar() -> None:
    """Whatever stands left of the newest bars in image and series, the answer is the same."""
    model, usual = stirred(network("window_short")), stirred(network(USUAL))
    inputs = batch()
    image, series = inputs.image.clone(), inputs.series.clone()
    image[..., :-SHORT] = torch.rand_like(image[..., :-SHORT])
    series[..., :-SHORT] = torch.randn_like(series[..., :-SHORT])
    other = inputs._replace(image=image, series=series)
    assert torch.equal(model(inputs).logit, model(other).logit)
    assert not torch.equal(usual(inputs).logit, usual(other).logit)


def test_without_a_base_the_logit_starts_at_the_market_and_without_skip_none_counts() -> None:
    """The base's slopes, or the skip inputs' way into the body, are out of the answer."""
    bare, inputs = network("no_base"), batch()
    nn.init.normal_(bare.base.intercept)
    nn.init.normal_(bare.base.weight("chart"))
    torch.testing.assert_close(bare(inputs).logit, bare.base.intercept[inputs.market])
    model = stirred(network("no_skip"))
    other = inputs._replace(skip=torch.randn_like(inputs.skip))
    assert torch.equal(model(inputs).logit, model(other).logit)  # its base has not been fitted


def test_random_kernels_lose_the_shape_and_keep_everything_else() -> None:
    """Norm, place, zero mean and unit variance on a random walk stay; the likeness is gone."""
    model, usual = network("random_kernels"), network(USUAL)
    assert isinstance(model, AtlasMoE)
    pairs = zip(model.trunk.dictionary.modules(), usual.trunk.dictionary.modules(), strict=True)
    for bank, template in pairs:
        if not isinstance(bank, KernelBank):
            continue
        drawn, start = (KernelBank.kernels(one).detach().flatten(1) for one in (bank, template))
        assert not (drawn * (1 - bank.mask.flatten(1)))[:, :].any()
        long = bank.mask.flatten(1).sum(1) > 4
        likeness = torch.cosine_similarity(drawn, start)[long].abs()
        assert likeness.median() < 0.6 < torch.cosine_similarity(start, start).median()
        zero_mean = start.sum(1).abs() < 1e-5
        assert drawn.sum(1)[zero_mean].abs().max() < 1e-5 if zero_mean.any() else True
    series = model.trunk.dictionary.series
    assert isinstance(series, SeriesBank)
    steps = torch.randn(4_000, 64, generator=torch.Generator().manual_seed(1)) / 8**0.5
    answers = series(steps.cumsum(1)).detach()[:, : series.plain, -1]
    torch.testing.assert_close(answers.std(0), torch.ones(series.plain), atol=0.1, rtol=0)
    weights = [one.trunk.stem.convolution.weight for one in (model, usual)]
    norms = [weight.flatten(1).norm(dim=1) for weight in weights]
    torch.testing.assert_close(norms[0], norms[1])
    assert torch.equal(weights[0].abs().sum((2, 3)) > 0, weights[1].abs().sum((2, 3)) > 0)


def test_rereadings_change_the_calibration_and_no_weight() -> None:
    """Without Platt scaling the probability is the logit's own; without α the network counts."""
    for name, alpha in (("no_platt", 0.25), ("no_calibration", 1.0)):
        model = network(USUAL)
        model.calibration.platt.copy_(torch.tensor([2.0, 0.3]))
        model.calibration.alpha.fill_(0.25)
        REREADINGS[name].change(model)
        output = model(batch())
        own = model.probability(output, batch().market)
        torch.testing.assert_close(own, torch.sigmoid(output.logit))
        assert (model.calibration.alpha == alpha).all()


def test_scores_are_paired_by_row_and_pooled_over_markets() -> None:
    """A model that is surer of the truth is below its base rate; the mean is over markets."""
    rng = np.random.default_rng(3)
    frames = []
    for name, rows in (("a", 400), ("b", 100)):
        panel = panel_of(np.exp(rng.standard_normal(rows)))
        y = rng.integers(0, 2, rows).astype(float)
        frames.append(
            {
                "market": name,
                "symbol": "S0",
                "timestamp": panel.timestamp,
                "session": panel.session,
                "y": y,
                "probability": 0.5 + 0.1 * (y - 0.5),
                "base": 0.5,
            }
        )
    frame = ideas_score.pd.concat([ideas_score.pd.DataFrame(one) for one in frames])
    found = ideas_score.score([frame], ideas_score.base_of(frame))
    expected = -np.log(0.55) + np.log(0.5)
    for one in found.values():
        assert one["value"] == pytest.approx(expected)
        assert one["low"] <= one["value"] <= one["high"] < 0
        assert (one["hits"], one["other_hits"]) == (1.0, 0.5)
    assert ideas_score.same_rows(frame, frame)
    assert not ideas_score.same_rows(frame, frame.assign(y=1 - frame["y"]))


def test_the_page_is_what_the_results_say_and_the_choice_is_the_least() -> None:
    """A figure changed by hand is seen; what was tested, if anything, is what was chosen."""
    found = Results("ideas").read()
    text = (PROJECT / "docs" / "ideas.md").read_text(encoding="utf-8")
    assert text == page(found)
    units = found["units"]
    best = units.get("tested", {"chosen": chosen(units)})["chosen"]
    assert f"`{best}`" in verdict(units)
    assert chosen({f"compared {n}": {"base": {POOLED: {"value": v}}} for n, v in LOSSES}) == "b"
    judged = {key.split()[1] for key in units if key.startswith("compared ")}
    assert judged <= {*IDEAS, *REREADINGS, *BLENDS}
    assert all(seeds_of(name, 1) for name in judged)


def test_a_quiet_range_has_a_floor() -> None:
    """A flat market's range stays finite, as its variance does."""
    panel = panel_of(np.stack([np.full(200, 100.0)] * 4 + [np.ones(200)]))
    labels = label(panel, volatility_horizon=BARS)
    own = MarketData(panel, labels, market(toy_charts()).split)
    told = price_range(own, BARS).labels.log_rv
    assert np.isfinite(told[:190]).all()
    assert np.log(VARIANCE_FLOOR) < told[0] < 0
