"""What can be known of the simulated markets: exact if told the law, fair if not."""

import dataclasses

import numpy as np
import pytest

from atlas.catalogue import EXPERT_IDS
from atlas.ceilings import (
    bayes,
    check_posterior,
    fit_law_posterior,
    informed,
    law_named_by_fingerprint,
    law_posterior,
)
from atlas.draws import draw_markets
from atlas.errors import DataError
from atlas.laws import CHART_LAWS, chart_probabilities, sign_evidence
from atlas.metrics import gain, lift
from atlas.windows import MarketData, Split
from tests.test_draws import config


@pytest.fixture(scope="module")
def learned() -> dict[str, MarketData]:
    return draw_markets(config(), seed=901, train=1_000, paths=25)


@pytest.fixture(scope="module")
def asked() -> dict[str, MarketData]:
    return draw_markets(config(), seed=201, test=400, paths=15)


@pytest.fixture(scope="module")
def posterior(learned: dict[str, MarketData]) -> str:
    return fit_law_posterior(learned)


def _charts(data: dict[str, MarketData]) -> list[MarketData]:
    return [own for own in data.values() if own.panel.modality == "chart"]


def _law(own: MarketData) -> np.ndarray:
    columns = [CHART_LAWS.index(name) if name in CHART_LAWS else -1 for name in EXPERT_IDS]
    return np.asarray(columns)[own.panel.law[own.split.test]]


def test_every_law_can_be_read_at_every_window(asked: dict[str, MarketData]) -> None:
    """The followed law's column is the truth that the source wrote, to the last digit."""
    for own in _charts(asked):
        ends = own.split.test
        p = chart_probabilities(own.panel.values[3], ends)
        assert p.shape == (len(ends), 5)
        np.testing.assert_array_equal(p[np.arange(len(ends)), _law(own)], bayes(own, ends))


def test_evidence_reads_the_window_and_nothing_else(asked: dict[str, MarketData]) -> None:
    """Poisoned closes outside the 64 of the window change no evidence; inside, they do."""
    own = asked["equity_daily"]
    end, closes = own.split.test[:1], own.panel.values[3]
    outside, inside = closes.copy(), closes.copy()
    outside[: end[0] - 63] *= 2
    outside[end[0] + 1 :] *= 2
    inside[end[0] - 3] *= 1.05
    np.testing.assert_array_equal(sign_evidence(outside, end), sign_evidence(closes, end))
    assert (sign_evidence(inside, end) != sign_evidence(closes, end)).any()


def test_the_informed_ceiling_lies_below_bayes_and_above_chance(
    posterior: str, asked: dict[str, MarketData]
) -> None:
    """It mixes the true laws by a posterior: never better than who is told the law."""
    for own in asked.values():
        ends = own.split.test
        p, q = bayes(own, ends), informed(posterior, own, ends)
        assert ((q > 0) & (q < 1)).all()
        if own.panel.modality == "surface":
            np.testing.assert_array_equal(q, p)
            continue
        assert 0.5 < lift(p, q) < 1
        assert 0.3 < gain(p, q, p) < 1
        np.testing.assert_allclose(law_posterior(posterior, own, ends).sum(axis=1), 1)


def test_the_posterior_is_judged_on_paths_it_never_saw(
    posterior: str, asked: dict[str, MarketData]
) -> None:
    """Better than the prior, and calibrated as far as 75 paths can tell."""
    found = check_posterior(posterior, asked)
    prior = -(0.7 * np.log(0.7) + 0.3 * np.log(0.075))
    assert found.windows == 2_000
    assert found.log_loss < 0.7 * prior
    assert found.accuracy > 0.8
    assert found.calibration_error < 0.1


def test_a_classifier_names_the_law_from_the_fingerprint(
    learned: dict[str, MarketData], asked: dict[str, MarketData]
) -> None:
    """More often than the market's own law is followed; shuffled fingerprints tell nothing."""
    assert law_named_by_fingerprint(learned, asked) > 0.8
    mixed = {}
    for market, own in asked.items():
        order = np.random.default_rng(1).permutation(len(own.panel.fingerprint))
        panel = dataclasses.replace(own.panel, fingerprint=np.roll(own.panel.fingerprint[order], 1))
        mixed[market] = dataclasses.replace(own, panel=panel)
    assert law_named_by_fingerprint(learned, mixed) < 0.75


def test_real_bars_have_no_ceiling(asked: dict[str, MarketData]) -> None:
    """Without truth every question is refused by the market's name."""
    own = asked["futures_30min"]
    panel = dataclasses.replace(own.panel, law=None, probability=None)
    real = dataclasses.replace(own, panel=panel)
    with pytest.raises(DataError, match="futures_30min: expected a known probability"):
        bayes(real, own.split.test)
    with pytest.raises(DataError, match="futures_30min: expected known laws"):
        fit_law_posterior({"m": dataclasses.replace(real, split=_all_train(own))})
    with pytest.raises(DataError, match="train windows of a chart market"):
        fit_law_posterior({"futures_30min": own})


def _all_train(own: MarketData) -> Split:
    return dataclasses.replace(own.split, train=own.split.test)
