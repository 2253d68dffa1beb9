"""Markets drawn in memory are what a home would hold, and every set of them is independent."""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.draws import draw_markets
from atlas.errors import ConfigError, DataError
from atlas.inputs import gather
from atlas.synthetic import LAWS
from atlas.windows import WINDOW, MarketData, told_law

PARAMS = Path(__file__).parent.parent / "params.yaml"


@cache
def config() -> ATLASConfig:
    return ATLASConfig.parse(yaml.safe_load(PARAMS.read_text(encoding="utf-8")))


@cache
def drawn(seed: int = 101) -> dict[str, MarketData]:
    return draw_markets(config(), seed=seed, train=50, validation=20, test=40, paths=5)


def test_each_part_has_the_windows_asked_for() -> None:
    """Exactly so many, every one labelled, with a whole window and 64 returns of its own path."""
    for market, own in drawn().items():
        sizes = [len(part) for part in (own.split.train, own.split.validation, own.split.test)]
        assert sizes == [50, 20, 40], market
        ends = np.concatenate(_ends(own))
        assert np.isfinite(own.labels.direction[ends]).all()
        assert (own.panel.index[ends] >= WINDOW).all()
        assert np.isfinite(own.panel.fingerprint[ends, 0]).all()


def _ends(own: MarketData) -> list[np.ndarray]:
    return [own.split.train, own.split.validation, own.split.test]


def test_no_path_serves_two_parts() -> None:
    """What is learned and what is scored share no level, no law and no luck."""
    for own in drawn().values():
        parts = [set(own.panel.symbol_of(ends)) for ends in _ends(own)]
        assert [len(part) for part in parts] == [5, 5, 5]
        assert len(set.union(*parts)) == 15


def test_the_truth_beside_the_bars_is_the_next_bars() -> None:
    """Moves come true as often as p says, and the law is one of the market's."""
    data = draw_markets(config(), seed=301, test=2_000, paths=20)
    assert list(data) == list(config().markets)
    for market, own in data.items():
        ends = own.split.test
        y, p = own.labels.direction[ends].astype(float), own.panel.probability[ends]
        error = (y - p).mean() / np.sqrt((p * (1 - p)).mean() / len(p))
        assert abs(error) < 4
        assert ((p - 0.5) * (y - 0.5)).mean() > 0.01  # a truth shifted by a bar would say nothing
        laws = {EXPERT_IDS[code] for code in own.panel.law[ends]}
        assert LAWS[market].expert_id in laws
        assert (len(laws) > 1) == (own.panel.modality == "chart")


def test_equal_seeds_draw_equal_bits_and_others_do_not() -> None:
    """A set is named by its seed."""
    again = draw_markets(config(), seed=101, train=50, validation=20, test=40, paths=5)
    for market, own in drawn().items():
        np.testing.assert_array_equal(own.panel.values, again[market].panel.values)
        np.testing.assert_array_equal(own.panel.fingerprint, again[market].panel.fingerprint)
        np.testing.assert_array_equal(own.split.test, again[market].split.test)
        other = drawn(102)[market].panel.values
        assert other.shape != own.panel.values.shape or (other != own.panel.values).any()


def test_a_test_set_never_repeats_the_homes_paths() -> None:
    """The seed of the stored markets is refused, and so are real bars and an empty question."""
    with pytest.raises(ConfigError, match=r"other than simulated.seed \(7\)"):
        draw_markets(config(), seed=7, test=10)
    real = config().model_copy(update={"source": "files"})
    with pytest.raises(ConfigError, match="got source files"):
        draw_markets(real, seed=8, test=10)
    with pytest.raises(ConfigError, match="windows of at least one part"):
        draw_markets(config(), seed=8)


def test_only_the_oracle_is_told_the_law() -> None:
    """Truth turned upside down changes no input of any model; `told_law` changes the rule alone."""
    for own in drawn().values():
        panel, ends = own.panel, own.split.test
        blind = dataclasses.replace(
            panel, law=(panel.law + 1) % 6, probability=1 - panel.probability
        )
        seen, told = gather(panel, ends, market_index=0), told_law(own).panel
        for field, other, oracle in zip(
            seen._fields,
            gather(blind, ends, market_index=0),
            gather(told, ends, market_index=0),
            strict=True,
        ):
            np.testing.assert_array_equal(getattr(seen, field), other)
            expected = panel.law[ends] if field == "rule" else getattr(seen, field)
            np.testing.assert_array_equal(oracle, expected)


def test_an_oracle_without_truth_is_refused() -> None:
    """Real bars have no known law."""
    own = drawn()["equity_daily"]
    for law in (None, np.full(len(own.panel.law), -1, np.int8)):
        real = dataclasses.replace(own, panel=dataclasses.replace(own.panel, law=law))
        with pytest.raises(DataError, match="equity_daily: expected a known law for every bar"):
            told_law(real)
