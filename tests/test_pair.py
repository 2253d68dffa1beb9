"""A champion and its challenger: which sessions count, each once, and what guards the office."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.config import PromotionConfig
from atlas.evaluation import Interval
from pipelines import guards, pair, shadow
from pipelines.paths import Paths

SETTINGS = PromotionConfig()
NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
TODAY = 20_777  # days since 1970-01-01
LOADS = {"champion": {"chart": {"a": 0.9, "b": 0.1}}, "challenger": {"chart": {"a": 0.9, "b": 0.1}}}


def _rows(sessions: range, gain: float = 0.1, *, market: str = "m", seed: int = 1) -> pd.DataFrame:
    """Eight rows a session; the challenger is nearer to what happened by `gain`."""
    rng = np.random.default_rng(seed)
    session = np.repeat(list(sessions), 8)
    y = (rng.random(session.size) < 0.5).astype(float)
    near = np.clip(
        np.where(y > 0, 0.5 + gain, 0.5 - gain) + rng.normal(0, 0.05, y.size), 0.01, 0.99
    )
    return pd.DataFrame(
        {
            "market": market,
            "symbol": "s",
            "timestamp": np.arange(session.size) + session * 1000,
            "session": session,
            "y": y,
            "champion": 0.5,
            "challenger": near,
            "said_champion": True,
            "said_challenger": True,
        }
    )


def _state(*markets: str) -> pair.State:
    return pair.opened("1", "2", list(markets or ("m",)), SETTINGS)


def _night(state: pair.State, night: str, rows: pd.DataFrame) -> pair.State:
    return pair.add(state, night, pair.unjudged(rows, state), LOADS)


def test_nights_in_parts_or_again_give_the_state_of_one() -> None:
    """Sessions seen before are left out, whatever the night brings again."""
    whole = _night(_state(), "b", _rows(range(100, 140)))
    parts = _night(_state(), "a", _rows(range(100, 140)).query("session < 120"))
    parts = _night(parts, "b", _rows(range(100, 140)))
    again = _night(parts, "b", _rows(range(100, 140)))
    assert again == parts
    assert [day["difference"] for day in parts["days"]] == [
        day["difference"] for day in whole["days"]
    ]
    assert parts["e"] == whole["e"] > 20
    assert parts["nights"] == ["a", "b"]


def test_a_worse_challenger_gathers_no_evidence_and_its_worseness_does() -> None:
    """Evidence falls for one that is worse; the reverse bet proves it."""
    state = _night(_state(), "a", _rows(range(40), -0.1))
    assert state["e"] < 1
    assert pair.evidence_of(state, reverse=True) > 20
    assert pair.difference(state) > 0


def test_a_session_is_the_mean_over_markets_whatever_their_rows() -> None:
    """A market with ten times the rows weighs no more; an absent one counts 0."""
    many = pd.concat([_rows(range(1), seed=seed) for seed in range(10)])
    few = _rows(range(1), -0.2, market="few")
    state = _night(_state("m", "few"), "a", pd.concat([many, few]))
    alone = [_night(_state(name), "a", rows) for name, rows in (("m", many), ("few", few))]
    expected = np.mean([one["days"][0]["difference"] for one in alone])
    assert state["days"][0]["difference"] == pytest.approx(expected)
    lonely = _night(_state("m", "few"), "a", many)
    assert lonely["days"][0]["difference"] == pytest.approx(alone[0]["days"][0]["difference"] / 2)


def test_a_session_waits_for_every_market_that_still_moves() -> None:
    """Crypto's weekend waits for Monday's stocks; nobody waits for a market that has ended."""
    crypto, stocks = _rows(range(TODAY - 9, TODAY), market="c"), _rows(range(TODAY - 9, TODAY - 2))
    both = pair.ready(pd.concat([crypto, stocks]), NIGHT)
    assert both["session"].max() == TODAY - 3
    ended = _rows(range(100, 110), market="ended")
    assert pair.ready(pd.concat([crypto, ended]), NIGHT)["session"].max() == TODAY - 1
    assert pair.ready(ended, NIGHT)["session"].max() == 109


def test_silence_counts_as_the_base_rate() -> None:
    """Rows that a version abstains on, or leaves out, get the base rate's probability."""
    rows = _rows(range(2))[[*pair.KEYS, "session", "y"]].assign(base=0.3)
    said = rows[pair.KEYS].assign(probability=0.9, abstain=np.arange(16) % 2 == 0).iloc[:8]
    both = pair.filled(rows, "champion", said)
    assert both["champion"].tolist() == [0.3, 0.9] * 4 + [0.3] * 8
    assert both["said_champion"].sum() == 4


def test_the_state_survives_as_it_was_written(tmp_path: Path) -> None:
    """What is read is what was kept; a pair without a night has no state."""
    state = _night(_state(), "a", _rows(range(5)))
    pair.save(Paths(tmp_path), state)
    assert pair.load(Paths(tmp_path), "1", "2") == state
    assert pair.load(Paths(tmp_path), "1", "3") is None


def test_guards_name_what_fails() -> None:
    """A dead expert, a boasting slope, a plain loss and old evidence each hold the office."""
    state = _night(_state(), "a", _rows(range(TODAY - 40, TODAY)))
    honest = Interval(1.3, 0.9, 1.7)
    assert guards.unmet(state, honest, NIGHT, SETTINGS) == []
    dead = {**state, "loads": {**LOADS, "challenger": {"chart": {"a": 0.996, "b": 0.004}}}}
    assert "its expert b has died" in guards.unmet(dead, honest, NIGHT, SETTINGS)[0]
    boasting = guards.unmet(state, Interval(0.6, 0.5, 0.7), NIGHT, SETTINGS)
    assert "recalibration slope is 0.60 [0.50, 0.70]" in boasting[0]
    late = NIGHT + pd.Timedelta(days=20)
    assert "21 days old" in guards.unmet(state, honest, late, SETTINGS)[0]
    slow = {**state, "latency_ms": {"champion": 2.0, "challenger": 250.0}}
    assert "takes it 250.0 ms, more than 100" in guards.unmet(slow, honest, NIGHT, SETTINGS)[0]
    worse = _night(_state(), "a", _rows(range(TODAY - 40, TODAY), -0.1))
    assert "plain mean log-loss is not lower" in guards.unmet(worse, honest, NIGHT, SETTINGS)[0]


def test_loads_are_shares_of_places_by_modality() -> None:
    """Markets weigh equally; abstentions do not count."""
    answers = pd.DataFrame(
        {
            "market": ["m", "m", "n", "o"],
            "expert_ids": ["a,b", "a", "a", "c"],
            "abstain": [False, False, False, False],
        }
    )
    silent = pd.DataFrame({"market": ["n"], "expert_ids": ["b"], "abstain": [True]})
    kinds = {"m": "chart", "n": "chart", "o": "surface"}
    found = guards.loads(pd.concat([answers, silent]), kinds)
    assert found["chart"] == pytest.approx({"a": (2 / 3 + 1) / 2, "b": 1 / 6})
    assert found["surface"] == {"c": 1.0}


def test_the_log_keeps_what_was_said_first(tmp_path: Path) -> None:
    """A second run of a night adds the rows it lacks, and changes none."""
    paths, rows = Paths(tmp_path), _rows(range(3))[[*pair.KEYS, "session", "y"]]
    said = rows[pair.KEYS].assign(
        probability=0.6, volatility=0.1, expert_ids="a", abstain=False, reason=""
    )
    half = shadow.keep(paths, "n", rows.iloc[:8], [("champion", "1", said.iloc[:8])])
    changed = said.assign(probability=0.7)
    rest = shadow.keep(paths, "n", rows, [("champion", "1", changed)])
    assert (half, rest) == (8, 16)
    kept = shadow.read(paths)
    assert kept["probability"].tolist() == [0.6] * 8 + [0.7] * 16
    assert shadow.nights(paths) == ["n"]
    assert shadow.keep(paths, "n", rows, [("champion", "1", said)]) == 0
