"""From a store to a table: samples are aligned, the stage writes and skips, the report tells."""

import io

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from atlas.catalogue import EXPERT_IDS
from atlas.config import ATLASConfig
from atlas.cuts import cut
from atlas.errors import DataError, ModelError
from pipelines import benchmark, fingerprint, ingest, report, samples, validate
from pipelines.files import read_json, write_json
from pipelines.paths import PROJECT, Paths

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")
MARKETS = ("equity_5min", "options_skew")


def _config(**changes):
    params = yaml.safe_load((PROJECT / "tests" / "params_tiny.yaml").read_text())
    for block in (params["markets"], params["simulated"]["markets"]):
        for name in set(block) - set(MARKETS):
            del block[name]
    return ATLASConfig.parse({**params, **changes})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with two small markets, fingerprints and one candidate's predictions."""
    paths, config = Paths(tmp_path_factory.mktemp("home")), _config()
    for market in MARKETS:
        ingest.run(paths, config, as_of=AS_OF, market=market, folder=None)
        validate.run(paths, config, as_of=AS_OF, market=market)
        fingerprint.run(paths, config, as_of=AS_OF, market=market)
    data = samples.load(paths, config, AS_OF)
    for name, sharp in (("cnn", 0.3), ("moe_rule", 0.6), ("moe_mlp", 0.9)):
        rows = benchmark.score_yardstick(_Knowing(sharp), data)
        paths.model(name).mkdir(parents=True)
        rows.to_parquet(paths.model(name) / "predictions.parquet", index=False)
    return paths


class _Knowing:
    """A model that knows the law, and tells a share of it."""

    def __init__(self, sharp):
        self.sharp = sharp

    def fit(self, data):
        self.data = data
        return self

    def predict(self, market, ends):
        return 0.5 + self.sharp * (self.data[market].panel.probability[ends] - 0.5)


def test_samples_align_bars_fingerprints_and_truth(home):
    """Every symbol's rows stand side by side, in order, known by the night."""
    data = samples.load(home, _config(), AS_OF)
    assert list(data) == list(MARKETS)
    panel = data["equity_5min"].panel
    assert np.unique(panel.session).size == 16
    assert (np.diff(panel.offsets) == 16 * 78).all()
    assert (panel.timestamp + 300_000_000 <= AS_OF.value // 1_000).all()
    stored = pd.read_parquet(home.fingerprints("equity_5min"))
    own = stored[stored["symbol"] == panel.symbols[1]].sort_values("timestamp")
    part = slice(panel.offsets[1], panel.offsets[2])
    np.testing.assert_array_equal(panel.fingerprint[part, 0], own["vol30"].to_numpy(np.float32))
    truth = pd.read_parquet(home.truth("equity_5min"))
    own = truth[truth["symbol"] == panel.symbols[1]].sort_values("timestamp")
    np.testing.assert_array_equal(panel.probability[part], own["p"])
    assert [EXPERT_IDS[code] for code in panel.law[part]] == own["law"].to_list()
    assert (panel.rule >= 0).all()
    assert np.shape(data["options_skew"].panel.values)[1:] == (3, 9)


def test_the_known_probability_is_that_of_the_label(home):
    """Where the law says .6 and more, more labels are up: truth and label are not shifted."""
    for own in samples.load(home, _config(), AS_OF).values():
        known = np.isfinite(own.labels.direction)
        p, y = own.panel.probability[known], own.labels.direction[known]
        assert y[p > 0.6].mean() > 0.58
        assert y[p < 0.4].mean() < 0.42


def test_an_earlier_night_sees_less_and_the_same(home):
    """Bars after as_of are not there; those before are as they were."""
    earlier = pd.Timestamp("2026-11-18", tz="UTC")
    settings = _config().markets["equity_5min"]
    now = samples.load_panel(home, settings, "equity_5min", AS_OF)
    then = samples.load_panel(home, settings, "equity_5min", earlier)
    assert then.session.max() < now.session.max()
    bars = then.offsets[1]
    before, after = np.asarray(then.values), np.asarray(now.values)
    np.testing.assert_array_equal(before[:, :bars], after[:, :bars])


def test_missing_fingerprints_are_named_and_a_spare_market_is_left_out(home, tmp_path):
    """A required market stops the night, another is left out."""
    with pytest.raises(DataError, match=r"equity_5min: expected validated bars.*run validate"):
        samples.load(Paths(tmp_path), _config(), AS_OF)
    stored = home.fingerprints("options_skew")
    kept = stored.read_bytes()
    params = _config().model_dump(mode="json")
    params["markets"]["options_skew"]["required"] = False
    try:
        stored.unlink()
        with pytest.raises(DataError, match="fingerprint --market options_skew"):
            samples.load(home, _config(), AS_OF)
        assert list(samples.load(home, ATLASConfig.parse(params), AS_OF)) == ["equity_5min"]
        pd.read_parquet(io.BytesIO(kept)).iloc[5:].to_parquet(stored)
        with pytest.raises(DataError, match="5 have none"):
            samples.load(home, _config(), AS_OF)
    finally:
        stored.write_bytes(kept)


def test_a_market_counts_only_if_it_passed_validation_in_this_night(home):
    """After a failed gate, or on another night, an earlier night's fingerprints do not count."""
    path = home.validation("options_skew")
    kept = path.read_bytes()
    params = _config().model_dump(mode="json")
    params["markets"]["options_skew"]["required"] = False
    optional = ATLASConfig.parse(params)
    try:
        write_json(path, {**read_json(path), "passed": False})
        assert list(samples.load(home, optional, AS_OF)) == ["equity_5min"]
        with pytest.raises(DataError, match=r"options_skew: .*failed it in the night of 2026"):
            samples.load(home, _config(), AS_OF)
    finally:
        path.write_bytes(kept)
    with pytest.raises(DataError, match=r"equity_5min: .*night of 2026-11-19; got those of"):
        samples.load(home, optional, AS_OF - pd.Timedelta(days=1))


@pytest.fixture(scope="module")
def summary(home):
    return benchmark.run(home, _config(), as_of=AS_OF)


def test_the_stage_writes_the_table_of_all_models(home, summary):
    """Six models by two markets and their mean; candidates are compared on validation."""
    table = pd.read_parquet(home.benchmark / "table.parquet")
    assert summary["rows"] == len(table) == 18
    assert list(table["model"].unique()) == list(benchmark.MODELS)
    losses = summary["candidate_validation_log_loss"]
    assert summary["best_candidate"] == "moe_mlp"
    assert losses["moe_mlp"] < losses["moe_rule"] < losses["cnn"]
    written = read_json(home.benchmark / "table.json")
    assert (written["as_of"], len(written["rows"])) == ("2026-11-20", 18)
    assert "<html>" in (home.benchmark / "accuracy.html").read_text()
    lines = (home.benchmark / "table.txt").read_text().splitlines()
    assert max(map(len, lines)) <= 120
    rows = pd.read_parquet(home.benchmark / "predictions.parquet")
    assert set(rows["model"]) == {"base_rate", "reversal", "lightgbm"}
    keys = ["market", "symbol", "timestamp", "split", "y"]
    own = pd.read_parquet(home.model("cnn") / "predictions.parquet")[keys]
    pd.testing.assert_frame_equal(
        rows.loc[rows["model"] == "lightgbm", keys].reset_index(drop=True), own
    )


def test_a_second_run_does_nothing_and_new_predictions_do(home, summary):
    """The stage is skipped until what it reads changes."""
    assert not summary["skipped"]
    assert benchmark.run(home, _config(), as_of=AS_OF)["skipped"]
    changed = _config(promotion={"resamples": 150, "confidence": 0.95})
    assert not benchmark.run(home, changed, as_of=AS_OF)["skipped"]


def test_the_best_on_test_is_not_picked(home, summary):
    """Mutation: a candidate that knows every test label stays second if validation says so."""
    path = home.model("moe_rule") / "predictions.parquet"
    kept, rows = path.read_bytes(), pd.read_parquet(path)
    test = rows["split"] == "test"
    rows.loc[test, "probability"] = 0.5 + 0.49 * (2 * rows.loc[test, "y"] - 1)
    try:
        rows.to_parquet(path, index=False)
        found = benchmark.run(home, _config(), as_of=AS_OF)
        assert not found["skipped"]
        assert found["best_candidate"] == summary["best_candidate"] == "moe_mlp"
        losses = "candidate_validation_log_loss"
        assert found[losses] == summary[losses]
        assert found["trials_on_span"] == summary["trials_on_span"] + 1
    finally:
        path.write_bytes(kept)


@pytest.mark.usefixtures("summary")
def test_predictions_of_another_night_are_refused(home):
    """A variant that was trained on another cut cannot enter the table."""
    path = home.model("cnn") / "predictions.parquet"
    kept = path.read_bytes()
    try:
        pd.read_parquet(path).iloc[3:].to_parquet(path)
        with pytest.raises(ModelError, match="train both for the same night"):
            benchmark.run(home, _config(), as_of=AS_OF)
    finally:
        path.write_bytes(kept)


def test_no_trained_variant_is_an_error_that_says_what_to_do(tmp_path):
    """There is nothing to compare before training."""
    with pytest.raises(ModelError, match="python -m pipelines train"):
        benchmark.run(Paths(tmp_path), _config(), as_of=AS_OF)


def test_a_yardstick_of_ones_own_enters_by_fit_and_predict(home):
    """Any class with the two methods is scored on the same rows."""
    data = samples.load(home, _config(), AS_OF)
    rows = benchmark.score_yardstick(_Knowing(1.0), data)
    assert len(rows) == sum(d.split.test.size + d.split.validation.size for d in data.values())
    own = data["equity_5min"]
    again = cut(own.panel, own.labels, test=4, validation=2, horizon=1)
    np.testing.assert_array_equal(again.test, own.split.test)


def _printed(paths):
    console = Console(file=io.StringIO(), width=120)
    report.show(paths, console)
    return console.file.getvalue()


@pytest.mark.usefixtures("summary")
def test_the_report_tells_table_champion_and_reason_plainly(home):
    """Off a terminal there is no color; paths are whole; the reason is the one promote wrote."""
    write_json(
        home.artifacts / "promotion.json",
        {"champion_version": "3", "promoted": True, "reason": "lower [by far]", "candidate": "moe"},
    )
    text = _printed(home)
    assert "\x1b" not in text
    for wanted in ("equity_5min", "mean over markets", "version 3", "lower [by far]", "moe_mlp"):
        assert wanted in text
    assert str(home.benchmark / "accuracy.html") in text
    told = report.run(home, _config(), as_of=AS_OF)
    assert (told["champion_version"], told["promoted"], told["is_current"]) == ("3", True, True)
    assert set(told["accuracy"]) == set(benchmark.MODELS)


def test_the_report_of_an_empty_home_says_so(tmp_path):
    """A night that failed early still has a report."""
    text = _printed(Paths(tmp_path))
    assert "No benchmark table yet" in text
    assert "Champion: none" in text
    assert report.run(Paths(tmp_path), _config(), as_of=AS_OF)["champion_version"] is None
