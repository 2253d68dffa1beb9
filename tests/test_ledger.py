"""No scoring on a test span is forgotten, none counts twice, luck counts against the best."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from atlas.errors import HomeError
from pipelines import ledger, ledger_table
from pipelines.paths import Paths

SETTINGS = {"epochs": 4}


def _rows(seed=0, *, first=100, sessions=60, market="m", sharp=0.0):
    rng = np.random.default_rng(7)
    y = (rng.random(sessions * 3) < 0.5).astype(float)
    noise = np.random.default_rng(seed).normal(0, 0.02, y.size)
    days = first + np.repeat(np.arange(sessions), 3)
    return pd.DataFrame(
        {
            "market": market,
            "symbol": np.tile(list("ABC"), sessions),
            "timestamp": pd.to_datetime(days, unit="D", utc=True),
            "session": days,
            "y": y,
            "probability": 0.5 + sharp * (y - 0.5) + noise,
        }
    )


@pytest.fixture
def paths(tmp_path):
    return Paths(tmp_path)


def test_the_same_model_scored_twice_is_one_line(paths):
    """Same settings, same answers, in whatever order of rows: nothing is added."""
    rows = _rows()
    assert ledger.record(paths, {"moe_mlp": rows}, SETTINGS, seed=1) == 1
    before = ledger.ledger_path(paths).read_bytes()
    assert ledger.record(paths, {"moe_mlp": rows.sample(frac=1)}, SETTINGS, seed=1) == 0
    assert ledger.ledger_path(paths).read_bytes() == before


@pytest.mark.parametrize("changed", ["settings", "seed", "model", "answers"])
def test_whatever_makes_another_model_is_another_trial(paths, changed):
    """Other settings, another seed, another name, or code that answers otherwise."""
    ledger.record(paths, {"moe_mlp": _rows()}, SETTINGS, seed=1)
    name = "cnn" if changed == "model" else "moe_mlp"
    rows = _rows(seed=int(changed == "answers"))
    settings = {"epochs": 5} if changed == "settings" else SETTINGS
    assert ledger.record(paths, {name: rows}, settings, seed=1 + (changed == "seed")) == 1
    known = ledger.entries(paths)
    assert len(known) == 2
    assert ledger.trials(known, ledger.span_of(rows)) == 2
    assert known[0]["used"] == SETTINGS


def test_a_model_retrained_every_night_is_one_trial(paths):
    """Spans that overlap share sessions; the same settings on five nights are one look."""
    for night in range(5):
        ledger.record(paths, {"moe_mlp": _rows(night, first=100 + night)}, SETTINGS, seed=1)
    ledger.record(paths, {"cnn": _rows(first=104)}, SETTINGS, seed=1)
    known = ledger.entries(paths)
    assert len(known) == 6
    assert ledger.trials(known, ledger.span_of(_rows(first=104))) == 2
    assert ledger.trials(known, ledger.span_of(_rows(first=900))) == 1
    assert ledger.trials(known, ledger.span_of(_rows(market="other"))) == 1
    assert ledger.trials([], {}) == 1


def test_lines_are_only_added(paths):
    """What was there is a prefix of what is; the file holds one JSON document a line."""
    ledger.record(paths, {"cnn": _rows(1)}, SETTINGS)
    before = ledger.ledger_path(paths).read_bytes()
    ledger.record(paths, {"cnn": _rows(2)}, SETTINGS)
    after = ledger.ledger_path(paths).read_bytes()
    assert after.startswith(before)
    assert len([json.loads(line) for line in after.splitlines()]) == 2


@pytest.mark.parametrize("harm", ["removed", "changed", "torn"])
def test_a_line_taken_out_or_changed_is_noticed(paths, harm):
    """The next line no longer follows; nothing more is written over it."""
    for seed in range(3):
        ledger.record(paths, {"cnn": _rows(seed)}, SETTINGS)
    path = ledger.ledger_path(paths)
    lines = path.read_bytes().splitlines()
    lines = {
        "removed": [lines[0], lines[2]],
        "changed": [lines[0].replace(b'"cnn"', b'"mlp"'), *lines[1:]],
        "torn": [lines[0], lines[1][:40], lines[2]],
    }[harm]
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(HomeError, match=r"ledger.jsonl: line [23] does not follow"):
        ledger.record(paths, {"cnn": _rows(9)}, SETTINGS)


def test_two_writers_lose_no_line(paths):
    """Eight scorings at once are eight lines."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda s: ledger.record(paths, {"cnn": _rows(s)}, SETTINGS), range(8)))
    assert len(ledger.entries(paths)) == 8


def test_skill_is_deflated_by_the_trials(paths):
    """A sharp model scores far above 0 against the base rate; forty lucky ones raise the bar."""
    base = _rows().assign(probability=0.5)
    ledger.record(paths, {"base_rate": base}, {}, base=base)
    ledger.record(paths, {"sharp": _rows(sharp=0.2)}, SETTINGS, base=base)
    first = ledger.overview(paths)
    assert np.isnan(first["score"][0])
    assert first["score"][1] > 3
    lucky = {f"lucky_{seed}": _rows(seed + 50) for seed in range(40)}
    ledger.record(paths, lucky, SETTINGS, base=base)
    found = ledger.overview(paths)
    assert (found["trials"] == 42).all()
    assert found["skill"][1] < first["skill"][1]
    assert (found["skill"][2:] < 0.95).all()


def test_every_seed_is_a_trial(paths):
    """Three seeds of one model and the base rate are four lines; again, none is new."""
    base = _rows().assign(probability=0.5)
    scored = {"base_rate": [base], "cnn": [_rows(seed) for seed in range(3)]}
    assert ledger.record_seeds(paths, scored, SETTINGS) == 4
    assert ledger.record_seeds(paths, scored, SETTINGS) == 0
    known = ledger.entries(paths)
    assert [entry["seed"] for entry in known] == [0, 0, 1, 2]
    assert all("score" in entry for entry in known[1:])


def test_a_model_of_fewer_markets_is_scored_on_its_own(paths):
    """The base rate of the other market does not enter."""
    base = pd.concat([_rows(), _rows(market="other")]).assign(probability=0.5)
    ledger.record(paths, {"half": _rows(sharp=0.2)}, SETTINGS, base=base)
    entry = ledger.entries(paths)[0]
    assert list(entry["losses"]) == ["m"]
    assert entry["score"] > 0


def test_the_table_is_printed_and_an_empty_ledger_says_so(paths):
    """One line a model, the count below; before the first night there is a word of advice."""
    file = io.StringIO()
    ledger_table.show(paths, Console(file=file))
    assert "run `make nightly`" in file.getvalue()
    base = _rows().assign(probability=0.5)
    ledger.record(paths, {"base_rate": base, "cnn": _rows(sharp=0.2)}, SETTINGS, seed=3, base=base)
    ledger_table.show(paths, Console(file=file))
    text = file.getvalue()
    assert "1970-04-11 … 1970-06-09" in text
    assert "On the newest span 2 trials" in text
