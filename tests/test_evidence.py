"""The long benchmark: units, what makes them stale, and a whole tiny run."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import yaml
from rich.console import Console

from atlas.config import ATLASConfig
from atlas.errors import ConfigError
from atlas.moe import build_model
from pipelines.evidence import drawn, latency, pages, plan, run, work
from pipelines.evidence.table import assemble
from pipelines.files import write_bytes
from pipelines.night import Night
from pipelines.paths import PROJECT, Paths

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")


def _config(**benchmark: object) -> ATLASConfig:
    """Two daily markets and one of surfaces: their paths need no month of minutes."""
    params = yaml.safe_load((PROJECT / "tests" / "params_tiny.yaml").read_text())
    kept = ("equity_daily", "options_skew", "low_vol_etf")
    params["markets"] = {name: params["markets"][name] for name in kept}
    params["simulated"]["markets"] = {name: params["simulated"]["markets"][name] for name in kept}
    sizes = {"seeds": [1, 2], "train_windows": 512, "test_windows": 300}
    params["benchmark"] = {**sizes, **benchmark}
    return ATLASConfig.parse(params)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A home with two seeds of yardsticks and of one network, and an untrained CNN to time."""
    paths, config = Paths(tmp_path_factory.mktemp("evidence")), _config()
    for unit in plan.draws(config):
        work.do(paths, config, unit, as_of=AS_OF)
    peer = build_model(config, variant="cnn").state_dict()
    write_bytes(
        plan.root(paths) / "simulated/1/cnn/model.safetensors", safetensors.torch.save(peer)
    )
    for unit in plan.units(config):
        if unit.model not in plan.NETWORKS or unit.model == "moe_mlp":
            work.do(paths, config, unit, as_of=AS_OF)
    return paths


def test_all_models_and_seeds_are_units() -> None:
    """Simulated: eight networks and the yardsticks; an archive: no oracle, a unit for each cut."""
    assert len(plan.units(_config())) == 2 * (len(plan.NETWORKS) + 3) + 1
    real = _config(cuts=["2021-01-01", "2022-01-01"]).model_copy(update={"source": "files"})
    names = {unit.model for unit in plan.units(real)}
    assert "moe_oracle" not in names
    assert len(plan.units(real)) == 2 * 2 * (len(names) - 1) + 1  # latency is timed once
    assert plan.draws(real) == ()


def test_a_unit_is_done_until_its_parameters_or_files_change(home: Paths) -> None:
    """More seeds and a rival more leave it done; other windows or a lost file do not."""
    unit = next(u for u in plan.units(_config()) if u.model == "moe_mlp")
    assert plan.is_done(home, _config(), unit)
    assert plan.is_done(home, _config(seeds=[1, 2, 3]), unit)
    assert plan.is_done(home, _config(models=["sklearn.naive_bayes:GaussianNB"]), unit)
    assert not plan.is_done(home, _config(test_windows=301), unit)
    path = plan.root(home) / unit.name / "moe_mlp.parquet"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1])
    assert not plan.is_done(home, _config(), unit)
    path.write_bytes(kept)
    assert plan.is_done(home, _config(), unit)


def test_windows_come_first_and_ceilings_last() -> None:
    """Networks do not wait for the posterior, ceilings do; nothing is lost or done twice."""
    first, left = list(plan.draws(_config())), list(plan.units(_config()))
    batches = run._batches(first, left)
    assert {unit.model for unit in batches[0]} == {plan.DRAW}
    assert batches[1][0].model == plan.POSTERIOR
    assert {unit.model for unit in batches[2]} == {plan.CEILINGS}
    assert [unit.model for unit in batches[3]] == [plan.LATENCY]
    assert sorted(u.name for b in batches for u in b) == sorted(u.name for u in [*first, *left])


def test_a_child_that_reads_the_params_anew_knows_the_same_units(home: Paths) -> None:
    """Keys in another order are the same parameters: what a child did counts as done."""
    values = _config().model_dump(mode="json")
    again = ATLASConfig.parse(yaml.safe_load(yaml.safe_dump(values, sort_keys=True)))
    unit = next(u for u in plan.units(again) if u.model == "moe_mlp")
    assert plan.is_done(home, again, unit)


def test_drawn_windows_come_back_as_they_were(home: Paths) -> None:
    """What is kept on disk is what was drawn, and each part has paths of its own."""
    own = drawn.drawn(home, 1)["equity_daily"]
    assert own.split.test.size == 300
    assert own.labels.question.horizon == 1
    symbols = [set(own.panel.symbol_of(getattr(own.split, part))) for part in ("train", "test")]
    assert not symbols[0] & symbols[1]
    again = drawn.drawn(home, 2)["equity_daily"]
    assert not np.array_equal(own.panel.values, again.panel.values)


def test_an_own_model_that_is_not_there_ends_it_before_it_begins(tmp_path: Path) -> None:
    """Half an hour later the user would learn the same."""
    night = Night(Paths(tmp_path), _config(models=["no_such_module:build"]), AS_OF, None)
    with pytest.raises(ConfigError, match="no_such_module"):
        run.everything(night, lambda *_: None, Console())
    assert not (tmp_path / "var").exists()


def test_every_model_is_scored_on_the_rows_of_all_seeds(home: Paths) -> None:
    """A row per market and model, seeds laid end to end, tests beside them."""
    found = assemble(home, _config())
    models = set(found.table["model"])
    assert {"base_rate", "reversal", "logistic", "lightgbm", "moe_mlp"} <= models
    assert {"bayes", "informed"} <= models
    own = found.table[found.table["market"] == "equity_daily"]
    assert (own["n"] == 600).all()
    assert found.table["lift"].notna().all()
    assert set(found.tests["against"]) == {found.rival}
    assert found.table.set_index(["market", "model"]).loc[("equity_daily", "bayes"), "lift"] == 1
    assert {"persistence", "har", "garch", "lightgbm", "moe_mlp"} <= set(found.volatility["model"])
    assert found.volatility["qlike"].notna().all()
    smeared = found.volatility["qlike"] != found.volatility["qlike_as_said"]
    assert smeared.all(), found.volatility[~smeared]
    rivals = {"persistence", "har", "harx", "garch", "lightgbm"}
    for table, column in (
        (found.volatility_tests, "qlike"),
        (found.volatility_tests_as_said, "qlike_as_said"),
    ):
        assert set(table["against"]) == rivals
        mean = found.volatility.set_index(["market", "model"])[column]["equity_daily"]
        told = table.set_index(["market", "against"])["qlike_difference"]["equity_daily"]
        assert told["har"] == pytest.approx(mean["moe_mlp"] - mean["har"], rel=0.05)
    targets = found.checks.set_index("figure")
    costs = found.table.set_index(["market", "model"])["latency"]
    assert 0.5 < costs["equity_daily", "moe_mlp"] < 5
    assert np.isnan(costs["equity_daily", "lightgbm"])
    assert targets.loc["informed_lift moe_mlp", "target"] == "≥ 0.97"
    assert not targets.loc["informed_lift moe_mlp", "met"]  # sixty steps of training
    named = targets.loc["law named by fingerprint and timeframe"]
    assert 0.5 < named["value"] <= 1
    assert named["met"] == (named["value"] <= 0.85)
    gates = found.curves["gates"]["moe_mlp"]
    assert sum(gates["options_skew"].values()) == pytest.approx(1, abs=1e-3)
    assert gates["options_skew"]["options_skew"] == pytest.approx(1)


def test_ties_are_counted_as_windows_are(home: Paths) -> None:
    """Of all seeds, each having windows of its own; and no count where one unit has none."""
    table = assemble(home, _config()).table.set_index("market")["ties"]
    splits = [own.split for seed in (1, 2) for own in drawn.drawn(home, seed).values()]
    assert table["mean over markets"].iloc[0] == sum(split.test_ties for split in splits)
    assert set(plan.facts(home, plan.units(_config()), "ties")) == {
        unit for unit in plan.units(_config()) if unit.model == plan.YARDSTICKS
    }
    more = assemble(
        home, _config(), [*plan.units(_config()), plan.Unit("2021-01-01", 1, plan.YARDSTICKS)]
    )
    assert more.table["ties"].isna().all()


def test_the_record_says_what_a_run_cost(home: Paths) -> None:
    """Wall time since the start, units done now and in all, and their processor time."""
    night = Night(home, _config(), AS_OF, None)
    took = pages.cost_of(night, pages.Took(time.monotonic() - 90, 3, 2))
    assert 90 <= took["wall_s"] < 100
    assert (took["done"], took["jobs"], took["units"]) == (3, 2, len(plan.units(_config())))
    assert took["cpu_s"] > 0


def test_an_unknown_unit_and_an_archive_without_cuts_are_refused(tmp_path: Path) -> None:
    """Both are named before anything runs."""
    night = Night(Paths(tmp_path), _config(), AS_OF, None)
    with pytest.raises(ConfigError, match="unit 'x': expected one such as simulated/1/"):
        run.one(night, "x")
    bare = _config().model_copy(update={"source": "files"})
    with pytest.raises(ConfigError, match=r"benchmark\.cuts"):
        run.everything(Night(Paths(tmp_path), bare, AS_OF, tmp_path), print, None)  # type: ignore[arg-type]


def test_a_ratio_is_of_times_taken_in_turns() -> None:
    """Twice the work costs about twice the peer's time; without a peer there is no ratio."""
    values = np.random.default_rng(0).normal(size=4_000)
    works = {"cnn": lambda: np.sort(values), "double": lambda: (np.sort(values), np.sort(values))}
    ratios = latency.ratios_to("cnn", works, rounds=40)
    assert ratios["cnn"] == 1
    assert 1.5 < ratios["double"] < 2.7
    assert latency.ratios_to("cnn", {"double": works["double"]}) == {}
