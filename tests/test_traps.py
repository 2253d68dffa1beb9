"""Where there is nothing to find, a trained network finds nothing; each leak is named and seen.

The other traps stand where their code is: `test_windows` (grid, purge, close), `test_audit` (every
leak laid on purpose), `test_comparison` (no lucky seed), `test_shares` (no share above 1).
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from atlas.baselines import LightGBM, LightGBMSettings, ReversalRule
from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.cuts import cut
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, fingerprint, fingerprint_surfaces
from atlas.evaluation import session_interval
from atlas.metrics import hits
from atlas.moe import build_model
from atlas.prediction import predict
from atlas.rule import hysteresis, rule_experts
from atlas.sampling import spread_evenly
from atlas.training import train
from atlas.windows import MarketData, label
from tests.panels import walk

SURE = 0.999
TESTED = 1_000
SMALL = LightGBMSettings(rows=4_000, rounds=30, learning_rate=0.15, leaves=15, min_leaf=50)
CONFIG = ATLASConfig.parse(
    {
        "source": "files",
        "markets": {
            "crypto": {
                "timeframe": "1min",
                "calendar": "24/7",
                "label": {"horizon": 15},
                "volatility_horizon": 60,
                "cut": {"test": 10, "validation": 2},
            },
            "intraday": {
                "timeframe": "5min",
                "calendar": "24/7",
                "label": {"horizon": 6},
                "volatility_horizon": 12,
                "cut": {"test": 60, "validation": 20},
            },
            "daily": {
                "timeframe": "1d",
                "calendar": "24/7",
                "cut": {"test": 500, "validation": 100},
            },
            "relative": {
                "timeframe": "1d",
                "calendar": "24/7",
                "label": {"kind": "relative_direction"},
                "cut": {"test": 500, "validation": 100},
            },
            "surface": {
                "timeframe": "1d",
                "calendar": "24/7",
                "modality": "surface",
                "label": {"kind": "surface_change", "skip": 1},
                "cut": {"test": 500, "validation": 100},
            },
        },
        "simulated": {"as_of": "2026-11-20", "markets": {}},
        "model": {"chart_width": 2, "series_width": 4, "hidden": 8},
        "training": {"epochs": 1, "windows_per_epoch": 1_200, "batch": 120},
    }
)
BARS = {"crypto": 1440 * 16, "intraday": 78 * 100, "daily": 1_000}


def _described(panel):
    """Give a panel the fingerprints and verdicts of its own bars, symbol by symbol."""
    table = np.empty_like(panel.fingerprint)
    rule = np.empty_like(panel.rule)
    for start, stop in zip(panel.offsets[:-1], panel.offsets[1:], strict=True):
        times = pd.to_datetime(panel.timestamp[start:stop], unit="us", utc=True)
        if panel.modality == "surface":
            rows = fingerprint_surfaces(times, np.array(panel.values)[start:stop])
        else:
            columns = ["open", "high", "low", "close", "volume"]
            bars = pd.DataFrame(np.array(panel.values)[:, start:stop].T, times, columns)
            bars.index.name = "timestamp"
            rows = fingerprint(bars, panel.timeframe.name)
        own = rows[list(FINGERPRINT_COLUMNS)].to_numpy(np.float32)
        table[start:stop] = own
        rule[start:stop] = hysteresis(rule_experts(own, panel.modality, panel.timeframe))
    return dataclasses.replace(panel, fingerprint=table, rule=rule)


def _market(name, *, spoil=None):
    """Take a random walk through fingerprints, labels and cut, as a market's bars go."""
    kind = "daily" if name == "relative" else name
    panel = walk(kind, symbols=4, bars=BARS.get(kind, 1_000), seed=len(name))
    panel = _described(dataclasses.replace(panel, market=name))
    settings, ask = CONFIG.markets[name], CONFIG.label(name)
    asked = {"kind": ask.kind, "measure": ask.measure, "skip": ask.skip, "horizon": ask.horizon}
    labels = label(panel, **asked, volatility_horizon=settings.volatility_horizon)
    if spoil is not None:
        panel = spoil(panel, labels)
    days = {"test": settings.cut.test, "validation": settings.cut.validation}
    return MarketData(panel, labels, cut(panel, labels, **days, horizon=ask.horizon))


def _interval(own, ends, probability):
    right = hits(own.labels.direction[ends].astype(np.float64), probability)
    return session_interval(right, own.panel.session[ends], confidence=SURE)


def _trained(data):
    torch.manual_seed(1)
    model = build_model(CONFIG, variant="moe_mlp")
    train(model, data, CONFIG.training, seed=1)
    return model


@pytest.fixture(scope="module")
def network():
    """A small mixture, trained on walks of every kind of market, and the walks."""
    data = {name: _market(name) for name in CONFIG.markets}
    return _trained(data), data


@pytest.mark.parametrize("name", list(CONFIG.markets))
def test_a_random_walk_scores_a_half_through_the_whole_path(network, name):
    """Fingerprint, chart, label, cut, training, calibration and prediction: 50 within 99.9 %."""
    model, data = network
    own = data[name]
    ends = spread_evenly(own.split.test, TESTED)
    found = predict(model, own, ends, market_index=model.markets.index(name))
    interval = _interval(own, ends, found["probability"])
    assert interval.low <= 0.5 <= interval.high
    assert interval.high - interval.low < 0.25  # a leak of a bar would be far outside


def test_the_same_path_sees_a_leak():
    """Mutation: a fingerprint that is one label ahead is found, in a chart and in a surface."""

    def ahead(panel, labels):
        table = panel.fingerprint.copy()
        table[:, FINGERPRINT_COLUMNS.index("trend_r2")] = labels.direction
        return dataclasses.replace(panel, fingerprint=table)

    data = {name: _market(name, spoil=ahead) for name in ("daily", "surface")}
    model = _trained(data)
    for name, own in data.items():
        ends = spread_evenly(own.split.test, 400)
        found = predict(model, own, ends, market_index=model.markets.index(name))
        assert _interval(own, ends, found["probability"]).low > 0.6
    # and the network's gate, experts and base all stand on that row
    assert set(found["expert_ids"].ravel()) == {EXPERT_IDS.index("options_skew")}


def _noise(skip):
    panel = walk("surface", symbols=30, bars=700, seed=5, iid=True)
    labels = label(panel, kind="surface_change", measure="butterfly", skip=skip)
    return MarketData(panel, labels, cut(panel, labels, test=250, validation=80, horizon=1))


def test_iid_noise_is_no_skill_with_a_bar_between():
    """At skip 1 nobody finds anything: reversal and boosted trees score 50 within 99.9 %."""
    own = _noise(1)
    ends = spread_evenly(own.split.test, 3_000)
    for model in (ReversalRule(), LightGBM(SMALL)):
        interval = _interval(own, ends, model.fit({"market": own}).predict("market", ends))
        assert interval.low <= 0.5 <= interval.high


def test_without_that_bar_iid_noise_looks_like_skill():
    """Mutation: skip 0. Noise in today's quote is in input and label both: reversal gets 2/3.

    Who knows how far off the quote is gets 3/4, the most there is: above that is a leak.
    """
    own = _noise(0)
    ends = spread_evenly(own.split.test, 3_000)
    rule, trees = (
        _interval(own, ends, model.fit({"market": own}).predict("market", ends))
        for model in (ReversalRule(), LightGBM(SMALL))
    )
    assert rule.low < 2 / 3 < rule.high
    assert trees.low < 3 / 4
    assert min(rule.low, trees.low) > 0.55
