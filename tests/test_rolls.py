"""No label reads from one futures contract into the next, and the audit sees one that does."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from atlas.bars import Timeframe
from atlas.calendars import bar_opens, sessions
from atlas.config import ATLASConfig
from atlas.windows import label
from pipelines import audit as stage
from pipelines import fingerprint as fingerprint_stage
from pipelines import samples, store
from pipelines.paths import Paths
from tests.judged import judge
from tests.panels import panel_of

AS_OF = pd.Timestamp("2026-11-20", tz="UTC")
STEP = Timeframe.parse("30min")
CONFIG = ATLASConfig.parse(
    {
        "source": "files",
        "markets": {
            "futures": {
                "timeframe": "30min",
                "calendar": "CMES",
                "label": {"horizon": 3},
                "volatility_horizon": 5,
                "cut": {"test": 3, "validation": 2},
            }
        },
        "simulated": {"as_of": "2026-11-20", "markets": {}},
        "model": {"chart_width": 2, "series_width": 4, "hidden": 8},
    }
)


def _panel(contracts):
    closes = 100 + np.arange(len(contracts), dtype=np.float64)
    panel = panel_of(closes, per_session=len(contracts), timeframe="30min")
    return dataclasses.replace(panel, contract=np.asarray(contracts, np.float64))


def test_labels_stop_before_a_roll():
    """Of ten bars, five a contract: a horizon of two loses the two bars before the roll."""
    found = label(_panel([202603] * 5 + [202606] * 5), horizon=2, volatility_horizon=3)
    assert np.flatnonzero(np.isfinite(found.direction)).tolist() == [0, 1, 2, 5, 6, 7]
    assert np.flatnonzero(np.isfinite(found.log_rv)).tolist() == [0, 1, 5, 6]
    assert found.last.max() == 9  # and what is not asked reads nothing
    assert found.last[[3, 4]].tolist() == [3, 4]


def test_a_contract_that_comes_back_is_two_rolls():
    """One bar of another contract inside the horizon is enough, whatever the last bar is of."""
    found = label(_panel([1, 1, 1, 2, 1, 1, 1, 1]), horizon=3, volatility_horizon=3)
    assert np.flatnonzero(np.isfinite(found.direction)).tolist() == [4]


def test_a_bar_without_a_contract_is_in_no_label():
    """NaN is no contract: not the one before, nor that of another bar without one."""
    found = label(_panel([1, 1, np.nan, np.nan, 1, 1, 1]), horizon=1, volatility_horizon=1)
    assert np.flatnonzero(np.isfinite(found.direction)).tolist() == [0, 4, 5]


def _bars(times, seed, contract):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.004 * rng.standard_normal(len(times))))
    frame = {"timestamp": times, "open": close, "high": 1.01 * close, "low": 0.99 * close}
    frame |= {"close": close, "volume": 1 + rng.random(len(times))}
    return pd.DataFrame(frame | ({} if contract is None else {"contract": contract}))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two symbols of a futures market, one of which names its contracts and rolls in a session."""
    paths = Paths(tmp_path_factory.mktemp("home"))
    days = sessions("CMES", pd.Timestamp("2026-10-20"), pd.Timestamp("2026-11-18"))
    times = bar_opens("CMES", STEP, days)
    rolls = 202612.0 + 91 * (np.arange(len(times)) > len(times) - 70)
    for symbol, contract in (("ES", rolls), ("ZB", None)):
        frame = _bars(times, len(symbol), contract)
        store.write_bars(paths, "futures", symbol, frame, STEP, "chart")
    judge(paths, "futures", AS_OF)
    fingerprint_stage.run(paths, CONFIG, as_of=AS_OF, market="futures")
    return paths


def _found(home):
    found = stage.run(home, CONFIG, as_of=AS_OF, markets=["futures"])
    return {one.check: one for one in found}


def test_the_audit_looks_at_rolls(home):
    """A contract goes from the stored bars into labels; a symbol that names none is labelled."""
    found = _found(home)["label, roll"]
    assert (found.verdict, found.note) == ("tight", "rolls: 1")
    own = samples.load_market(home, CONFIG, "futures", AS_OF)
    first, second = (slice(*own.panel.offsets[[i, i + 1]]) for i in (0, 1))
    known = np.isfinite(own.labels.direction)
    assert known[second].sum() - known[first].sum() == 3  # the horizon, once


def test_a_label_across_a_roll_is_seen(home, monkeypatch):
    """Mutation: labels are made as if bars named no contract."""

    def rolled(panel, **asked):
        return label(dataclasses.replace(panel, contract=None), **asked)

    monkeypatch.setattr(samples, "label", rolled)
    one = _found(home)["label, roll"]
    assert (one.verdict, one.changed) == ("leak", 5)  # the longer of both horizons


def test_without_contracts_a_roll_cannot_be_seen(home, monkeypatch):
    """The audit of futures that name none says `unknown`, not `tight`."""
    true = samples.load_panel
    monkeypatch.setattr(
        samples, "load_panel", lambda *a: dataclasses.replace(true(*a), contract=None)
    )
    assert _found(home)["label, roll"].verdict == "unknown"
