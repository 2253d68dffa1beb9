"""The pair in trial and its shadow log, read back from what a night's own functions wrote."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlas.config import PromotionConfig
from atlas.errors import DataError
from benchmarks.dashboard_store import TINY, make_store
from dashboard import evidence, shadow
from dashboard.registry import Registry, read_registry
from dashboard.trials import Trial, trial
from pipelines import pair
from pipelines.paths import Paths

KEYS = ["market", "symbol", "timestamp"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return make_store(tmp_path_factory.mktemp("home"), {"equity_daily": TINY["equity_daily"]})


def found(paths: Paths) -> Trial:
    held = trial(paths, read_registry(paths), PromotionConfig())
    assert held is not None
    return held


def test_the_evidence_of_every_night_is_what_the_night_decided_by(paths: Paths) -> None:
    """At the end of each night the line stands where `pipelines.pair` says that it stood."""
    held, state = found(paths), pair.load(paths, "2", "3")
    assert state is not None
    assert len(set(held.nights)) == 4
    for night in sorted(set(held.nights)):
        last = max(k for k, one in enumerate(held.nights) if one == night)
        before = {**state, "days": state["days"][: last + 1]}
        assert held.e_values[last] == pytest.approx(pair.evidence_of(before), rel=1e-12)
    assert held.is_of_this_code
    assert held.kept == pytest.approx(state["e"])


def test_the_pair_is_told_market_by_market(paths: Paths) -> None:
    """Rows and mean losses are those that `pipelines.pair` takes its plain mean of."""
    state = pair.load(paths, "2", "3")
    assert state is not None
    wanted = pair.losses(state)
    told = found(paths).markets
    assert {one.market: one.rows for one in told} == {n: own["rows"] for n, own in wanted.items()}
    assert [one.challenger - one.champion for one in told] == pytest.approx(
        [pair.difference(state)]
    )


def test_the_figure_has_a_dot_a_night_and_the_line_of_proof(paths: Paths) -> None:
    """E-values are drawn on a log axis that reaches the proof, with one dot for each night."""
    figure = evidence.trial_figure(found(paths))
    dots = next(t for t in figure["data"] if t["mode"] == "markers" and t["yaxis"] == "y2")
    assert len(dots["x"]) == 4
    axis = figure["layout"]["yaxis2"]
    assert axis["type"] == "log"
    assert axis["range"][1] > np.log10(20.0)
    assert 20.0 in [shape["y0"] for shape in figure["layout"]["shapes"]]


def test_a_pair_without_a_session_says_so(paths: Paths, tmp_path: Path) -> None:
    """Before its first judged session there is nothing to draw; without a challenger, no pair."""
    with pytest.raises(DataError, match="no session"):
        trial(Paths(tmp_path), read_registry(paths), PromotionConfig())
    assert trial(paths, Registry(()), PromotionConfig()) is None


def test_the_log_counts_what_was_said_and_what_was_not(paths: Paths) -> None:
    """Judged and silent rows of a version add up to those of the other that answered all."""
    log = shadow.read_log(paths)
    assert len(log.nights) == 4
    assert log.faults == []
    for night in log.nights:
        own = {one.role: one for one in log.said if one.night == night}
        champion, challenger = own["champion"], own["challenger"]
        assert champion.silent == 0
        assert challenger.silent > 0
        assert challenger.judged + challenger.silent == champion.judged
        assert challenger.live == champion.live - 1  # it abstains on one of the symbols


def test_live_rows_get_the_outcome_that_came_later(paths: Paths) -> None:
    """Each newest bar's outcome is that of the market, and right counts what was said of it."""
    log = shadow.read_log(paths)
    truth = pd.read_parquet(paths.model("moe_mlp") / "predictions.parquet").set_index(KEYS)["y"]
    night = log.nights[-1]
    lines = shadow.live_rows(log, night, "equity_daily")
    assert len(lines) == TINY["equity_daily"].symbols
    for line in lines.itertuples():
        assert line.y == truth[(line.market, line.symbol, line.timestamp)]
    said = next(one for one in log.said if one.night == night and one.role == "champion")
    right = ((lines["champion"] > 0.5) == (lines["y"] > 0.5)).mean()
    assert (said.matured, said.live_right) == (len(lines), pytest.approx(right))
    assert lines["challenger"].isna().sum() == 1


def test_an_outcome_that_nobody_knows_stays_open(paths: Paths, tmp_path: Path) -> None:
    """Without later nights and scored windows no live row has come out."""
    alone = Paths(tmp_path / "home")
    newest = max((paths.artifacts / "shadow").glob("*.parquet"))
    (alone.artifacts / "shadow").mkdir(parents=True)
    shutil.copy(newest, alone.artifacts / "shadow")
    log = shadow.read_log(alone)
    assert [one.matured for one in log.said] == [0, 0]
    assert log.live["y"].isna().all()
    assert log.faults  # the scored windows are missing, which is told


def test_a_broken_night_of_the_log_leaves_the_others(paths: Paths, tmp_path: Path) -> None:
    """The file that cannot be read is named; the other nights are shown."""
    own = Paths(tmp_path / "home")
    shutil.copytree(paths.artifacts, own.artifacts)
    oldest = min((own.artifacts / "shadow").glob("*.parquet"))
    oldest.write_bytes(b"PAR1")
    log = shadow.read_log(own)
    assert oldest.name in log.faults[0]
    assert len(log.nights) == 3
