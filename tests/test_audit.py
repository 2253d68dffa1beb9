"""The audit is green on the walk as it is, and red for every leak that is laid on purpose.

Each test opens one trap by the mutation it names, in the function that the stages use.
"""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

import atlas.base
import atlas.inputs
import atlas.prediction
from atlas import audit, luck
from atlas.bars import Timeframe
from atlas.calendars import bar_opens, sessions
from atlas.config import ATLASConfig
from atlas.cuts import cut
from atlas.data_fingerprint import fingerprint
from atlas.surfaces import DELTAS
from atlas.windows import MarketData, Split, label
from pipelines import __main__ as command_line
from pipelines import audit as stage
from pipelines import fingerprint as fingerprint_stage
from pipelines import samples, store
from pipelines.paths import Paths
from tests.judged import judge
from tests.panels import walk

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")
PARAMS = {
    "source": "files",  # labels as given here; the simulated source has its own
    "markets": {
        "daily": {"timeframe": "1d", "calendar": "24/7", "cut": {"test": 60, "validation": 40}},
        "closing": {
            "timeframe": "5min",
            "calendar": "XNYS",
            "label": {"horizon": 6},
            "volatility_horizon": 12,
            "cut": {"test": 3, "validation": 2},
        },
        "surfaces": {
            "timeframe": "1d",
            "calendar": "24/7",
            "modality": "surface",
            "label": {"kind": "surface_change", "skip": 1},
            "cut": {"test": 60, "validation": 40},
        },
    },
    "simulated": {"as_of": "2026-11-20", "markets": {}},
    "model": {"chart_width": 2, "series_width": 4, "hidden": 8},
}


def _bars(times, seed):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.004 * rng.standard_normal(len(times))))
    opens = np.concatenate([close[:1], close[:-1]])
    wick = 0.002 * close * rng.random(len(times))
    frame = {"timestamp": times, "open": opens, "high": np.maximum(opens, close) + wick}
    frame |= {"low": np.minimum(opens, close) - wick, "close": close}
    return pd.DataFrame(frame | {"volume": np.exp(8 + rng.standard_normal(len(times)))})


def _surfaces(times, seed):
    rng = np.random.default_rng(seed)
    keys = [(time, tenor, delta) for time in times for tenor in (1, 2, 3) for delta in DELTAS]
    frame = pd.DataFrame(keys, columns=["timestamp", "tenor", "delta"])
    return frame.assign(iv=0.3 + 0.01 * rng.standard_normal(len(frame)))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Three small markets, judged and fingerprinted, and their configuration."""
    paths, config = Paths(tmp_path_factory.mktemp("home")), ATLASConfig.parse(PARAMS)
    days = pd.date_range(end="2026-11-19", periods=340, freq="D", tz="UTC", unit="us")
    open_days = sessions("XNYS", pd.Timestamp("2026-11-03"), pd.Timestamp("2026-11-19"))
    minutes = bar_opens("XNYS", Timeframe.parse("5min"), open_days)
    for seed in range(3):
        step = Timeframe.parse("1d")
        store.write_bars(paths, "daily", f"D{seed}", _bars(days, seed), step, "chart")
        store.write_bars(
            paths, "closing", f"C{seed}", _bars(minutes, seed + 9), Timeframe.parse("5min"), "chart"
        )
    surfaces = _surfaces(days, 5)
    store.write_bars(paths, "surfaces", "V", surfaces, Timeframe.parse("1d"), "surface")
    for market in config.markets:
        judge(paths, market, AS_OF)
        fingerprint_stage.run(paths, config, as_of=AS_OF, market=market)
    return paths, config


def _red(home, market):
    """Audit one market and return the checks that are red."""
    paths, config = home
    found = stage.run(paths, config, as_of=AS_OF, markets=[market])
    return {(one.check, one.cut) if one.cut else one.check for one in found if one.changed}


@pytest.mark.parametrize("market", list(PARAMS["markets"]))
def test_the_walk_is_tight(home, market):
    """Nothing leaks on charts of either kind nor on surfaces; every check looked at rows."""
    paths, config = home
    found = stage.run(paths, config, as_of=AS_OF, markets=[market])
    assert {one.verdict for one in found} == {"tight"}
    assert all(one.looked > 0 for one in found)
    assert len({one.cut for one in found}) == 3  # none, nightly, a date


def test_a_fingerprint_one_bar_ahead_is_seen(home, monkeypatch):
    """Mutation: fingerprint() returns the row of the bar after; gate and prediction change too."""

    def ahead(*args, **kwargs):
        found = fingerprint(*args, **kwargs)
        return found.shift(-1).ffill().astype(found.dtypes)

    monkeypatch.setattr(fingerprint_stage, "fingerprint", ahead)
    red = _red(home, "daily")
    assert {"fingerprint as stored", "future, fingerprint", "future, other inputs"} <= red
    assert {"future, gate", "future, prediction"} <= red
    assert "future, chart" not in red


def test_a_chart_one_bar_ahead_is_seen(home, monkeypatch):
    """Mutation: render() draws the window that ends a bar later."""
    true = atlas.inputs.render
    monkeypatch.setattr(
        atlas.inputs,
        "render",
        lambda bars, ends, out: true(bars, np.minimum(ends + 1, bars.shape[1] - 1), out),
    )
    red = _red(home, "daily")
    assert "future, chart" in red
    assert "future, fingerprint" not in red


def _longer(panel, *, horizon, **asked):
    found = label(panel, horizon=horizon + 1, **asked)
    return dataclasses.replace(found, question=found.question._replace(horizon=horizon))


def test_a_label_that_reads_a_bar_more_is_seen(home, monkeypatch):
    """Mutation: the horizon is a bar longer than the label says."""
    monkeypatch.setattr(samples, "label", _longer)
    assert "future, label" in _red(home, "daily")


def test_a_label_across_the_close_is_seen(home, monkeypatch):
    """Mutation: the market is labelled as if it never closed."""

    def open_all_night(panel, **asked):
        return label(dataclasses.replace(panel, has_close=False), **asked)

    monkeypatch.setattr(samples, "label", open_all_night)
    assert _red(home, "closing") == {"label, close"}


def test_a_label_across_the_cut_is_seen(home, monkeypatch):
    """Mutation: rows are purged by their own bar, not by the last bar their label reads."""

    def unpurged(panel, labels, **asked):
        own = np.arange(labels.last.size)
        return cut(panel, dataclasses.replace(labels, last=own), **asked)

    monkeypatch.setattr(samples, "cut", unpurged)
    red = _red(home, "daily")
    assert {("purge", "nightly"), ("embargo", "nightly")} <= red
    assert len(red) == 2  # the other cut is as it was


def test_the_shared_cut_is_audited_too(home, monkeypatch):
    """Mutation: the benchmark's cut lets the session before the cut in without an embargo."""
    true = stage.cut_at

    def unpurged(panel, labels, **asked):
        return true(panel, dataclasses.replace(labels, last=np.arange(labels.last.size)), **asked)

    monkeypatch.setattr(stage, "cut_at", unpurged)
    red = _red(home, "daily")
    assert {check for check, _ in red} == {"purge", "embargo"}
    assert all(day != "nightly" for _, day in red)


def test_a_purge_without_embargo_is_seen(home, monkeypatch):
    """Mutation: rows whose label ends before the cut stay, however near."""

    def near(panel, labels, **asked):
        split = cut(panel, labels, **asked)
        day = panel.session[split.validation].min()
        rows = (labels.last < panel.reached(day)) & np.isfinite(labels.direction)
        return dataclasses.replace(split, train=np.flatnonzero(rows & (panel.index >= 63)))

    monkeypatch.setattr(samples, "cut", near)
    assert _red(home, "daily") == {("embargo", "nightly")}


def test_rows_chosen_by_next_valid_label_are_seen(home, monkeypatch):
    """Mutation: where a test row has no label, the next row that has one takes its place."""

    def next_valid(panel, labels, **asked):
        split = cut(panel, labels, **asked)
        rows = np.arange(split.test.min(), labels.direction.size)
        rows = rows[rows % labels.question.horizon == 0]
        valid = np.flatnonzero(np.isfinite(labels.direction))
        places = np.searchsorted(valid, rows)
        chosen = valid[places[places < valid.size]]
        day = panel.session[split.test].min()
        return dataclasses.replace(split, test=np.unique(chosen[panel.session[chosen] >= day]))

    monkeypatch.setattr(samples, "cut", next_valid)
    assert ("grid before labels", "nightly") in _red(home, "closing")


def test_test_rows_in_train_are_seen(home, monkeypatch):
    """Mutation: training goes on into validation."""

    def mixed(panel, labels, **asked):
        split = cut(panel, labels, **asked)
        return dataclasses.replace(split, train=np.union1d(split.train, split.validation))

    monkeypatch.setattr(samples, "cut", mixed)
    assert ("order of parts", "nightly") in _red(home, "surfaces")


def test_scaling_on_all_data_is_seen(home, monkeypatch):
    """Mutation: the base and its standardization are fitted on every row there is."""
    true = atlas.base.training_rows

    def everything(data, **asked):
        rows = {
            market: dataclasses.replace(
                own, split=Split(np.arange(63, own.panel.timestamp.size), *[np.zeros(0, int)] * 2)
            )
            for market, own in data.items()
        }
        return true(rows, **asked)

    monkeypatch.setattr(atlas.base, "training_rows", everything)
    assert _red(home, "surfaces") == {"scaling"}


def _walk(kind="daily", leak=False, seed=3):
    panel = walk(kind, symbols=4, bars=900, seed=seed)
    labels = label(panel)
    if leak:
        fingerprint = panel.fingerprint.copy()
        fingerprint[:, 3] = labels.direction  # NaN stays: a tie is no answer
        panel = dataclasses.replace(panel, fingerprint=fingerprint)
    return MarketData(panel, labels, cut(panel, labels, test=200, validation=60, horizon=1))


def test_skill_on_shuffled_time_is_a_leak():
    """Mutation: one column of the fingerprint knows the next move; without it nothing is found."""
    assert luck.check_shuffled(_walk()).verdict == "tight"
    found = luck.check_shuffled(_walk(leak=True))
    assert found.verdict == "leak"
    assert "accuracy 100.0" in found.note


def test_an_audit_that_cannot_see_says_so(monkeypatch):
    """With inputs that show nothing, labels moved into the window are not found: blind."""
    assert luck.check_shifted(_walk()).verdict == "tight"
    monkeypatch.setattr(
        "atlas.baselines.table", lambda inputs: np.zeros((inputs.market.size, 3), np.float32)
    )
    assert luck.check_shifted(_walk()).verdict == "blind"


@pytest.mark.parametrize("kind", ["daily", "surface"])
def test_shuffled_bars_keep_their_moves_and_their_contract(kind):
    """The sizes of moves are the same in another order; highs and lows hold the bodies."""
    panel = walk(kind, symbols=2, bars=200, seed=1)
    true, values = np.array(panel.values), luck.shuffled_values(panel)
    assert values.shape == true.shape
    if kind == "surface":
        before, after = np.log(true[:200, 0, 2]), np.log(values[:200, 0, 2])
    else:
        before, after = np.log(true[3, :200]), np.log(values[3, :200])
        opens, highs, lows, closes = values[:4]
        assert (highs >= np.maximum(opens, closes)).all()
        assert (lows <= np.minimum(opens, closes)).all()
    sizes = [np.sort(np.abs(np.diff(x)))[-150:] for x in (before, after)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.2, atol=1e-9)
    assert not np.allclose(before, after)


def test_nothing_to_look_at_is_not_tight():
    """A check without rows is unknown."""
    assert audit.finding("m", "purge", 0, 0).verdict == "unknown"


def test_changed_rows_are_told_to_the_bit():
    """NaN equals NaN, the last bit counts, and any cell of a row."""
    a = np.array([[1.0, np.nan], [0.1 + 0.2, 1], [5, 5]])
    b = np.array([[1.0, np.nan], [0.3, 1], [5, 6]])
    np.testing.assert_array_equal(audit.changed_rows(a, b), [False, True, True])


def _command(monkeypatch, tmp_path, paths, *extra):
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({**PARAMS, "source": "simulated"}))
    arguments = ["audit", "--home", str(paths.home), "--params", str(params), *extra]
    monkeypatch.setattr(sys, "argv", ["pipelines", *arguments])
    monkeypatch.setattr(command_line, "console", Console(width=200))
    try:
        return command_line.main()
    except SystemExit as end:
        return end.code or 0


def test_the_command_exits_0_1_and_2(home, monkeypatch, tmp_path, capsys):
    """Tight is 0, a leak is 1 and named, an unknown market is 2."""
    paths, _ = home
    arguments = ("--market",)
    assert _command(monkeypatch, tmp_path, paths, *arguments, "surfaces") == 0
    assert "0 leaks or blind" in capsys.readouterr().out
    assert _command(monkeypatch, tmp_path, paths, *arguments, "nowhere") == 2
    assert "market 'nowhere' is not in params.yaml" in capsys.readouterr().err
    monkeypatch.setattr(samples, "label", _longer)
    assert _command(monkeypatch, tmp_path, paths, *arguments, "surfaces") == 1
    assert "LEAK surfaces: future, label" in capsys.readouterr().out
