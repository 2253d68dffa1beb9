"""The watch says what is wrong in a line, and nothing where nothing is."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlas.config import ATLASConfig
from atlas.data_fingerprint import FINGERPRINT_COLUMNS, LOOKBACK
from atlas.errors import ConfigError, HomeError
from pipelines import monitor, night, shadow
from pipelines.files import read_json, write_json, write_parquet
from pipelines.paths import PROJECT, Paths
from pipelines.watch import experts, freshness, gauges, live
from pipelines.watch.answers import Champion, answers
from pipelines.watch.columns import column_checks, spans_of

MARKET = "equity_daily"
NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
SYMBOLS = 8
SESSIONS = LOOKBACK + 500  # 400 of the reference, 100 of test
PROMISED = {"accuracy": 0.65, "log_loss": 0.62, "base_log_loss": 0.69}


@pytest.fixture(scope="module")
def config() -> ATLASConfig:
    whole = night.read_config(PROJECT / "params.yaml")
    markets = {MARKET: whole.markets[MARKET].model_copy(update={"calendar": "24/7"})}
    return whole.model_copy(update={"markets": markets})


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A home with fingerprints of one market, whose first bars are not complete, and its bars."""
    monkeypatch.delenv("ATLAS_WEBHOOK", raising=False)
    monkeypatch.delenv(gauges.VARIABLE, raising=False)
    paths = Paths(tmp_path)
    write_json(paths.night, {"as_of": "2026-11-20"})
    write_parquet(paths.fingerprints(MARKET), _fingerprints())
    for symbol in ("A", "B"):
        write_parquet(
            paths.bars(MARKET) / f"{symbol}.parquet", pd.DataFrame({"timestamp": _days()})
        )
    return paths


def _days() -> pd.DatetimeIndex:
    return pd.date_range(end="2026-11-19", periods=SESSIONS, freq="D", tz="UTC").as_unit("us")


def _fingerprints() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    parts = []
    for place in range(SYMBOLS):
        rows = pd.DataFrame(
            rng.normal(size=(SESSIONS, len(FINGERPRINT_COLUMNS))).astype(np.float32),
            columns=list(FINGERPRINT_COLUMNS),
        )
        rows.iloc[: LOOKBACK - 1] = np.nan
        rule = rng.choice(["equity_daily", "low_vol_etf"], SESSIONS, p=[0.8, 0.2])
        parts.append(
            rows.assign(symbol=f"S{place}", timestamp=_days(), vol30_short=False, rule=rule)
        )
    return pd.concat(parts, ignore_index=True)


def _day(text: str) -> int:
    return int(np.datetime64(text, "D").astype(int))


def _champion(**changes: Any) -> Champion:
    held = Champion("3", NIGHT - pd.Timedelta(days=90), "moe_mlp", {}, {MARKET: PROMISED})
    return held._replace(**changes)


def _said(edge: float, *, sessions: int = 120, rows: int = 20, seed: int = 0) -> pd.DataFrame:
    """Answers that are right with a chance of ½ + edge and say so where the edge is .15."""
    rng = np.random.default_rng(seed)
    size = sessions * rows
    y = rng.integers(2, size=size).astype(float)
    right = rng.random(size) < 0.5 + edge
    said = np.where(right, y, 1 - y)
    asked = rng.choice(["equity_daily,low_vol_etf", "equity_daily,futures_trend"], size)
    return pd.DataFrame(
        {
            "market": MARKET,
            "symbol": np.tile([f"S{n}" for n in range(rows)], sessions),
            "session": np.repeat(_day("2026-08-22") - 30 + np.arange(sessions), rows),
            "y": y,
            "base": 0.5,
            "probability": np.where(said > 0, 0.65, 0.35),
            "expert_ids": asked,
            "is_live": np.repeat(np.arange(sessions) >= 30, rows),
        }
    )


def test_a_home_in_order_raises_no_alarm(paths: Paths, config: ATLASConfig) -> None:
    """Every column is judged by its own limit; the day is in its file and in the history, once."""
    for _ in range(2):
        summary = monitor.run(paths, config, as_of=NIGHT)
    assert (summary["alarms"], summary["lines"], summary["wants_night"]) == (0, [], False)
    found = read_json(monitor.path_of(paths, "2026-11-20"))
    judged = {row["name"] for row in found["checks"] if row["kind"] == "drift" and row["judged"]}
    assert judged == {*FINGERPRINT_COLUMNS, "rule"} - {"trend_r2_null", "skew_iv"}
    assert found["markets"][MARKET]["window"][1:] == ["2026-11-19", 12]
    history = pd.read_parquet(monitor.folder(paths) / "history.parquet")
    assert len(history) == len(found["checks"])
    assert set(history["as_of"]) == {"2026-11-20"}


def test_a_column_that_has_moved_is_named(
    paths: Paths, config: ATLASConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """Its line stands in the file, the summary and the notice; nothing else is an alarm."""
    rows = _fingerprints()
    late = rows["timestamp"] >= pd.Timestamp("2026-11-10", tz="UTC")
    rows.loc[late, "spread"] += 3
    write_parquet(paths.fingerprints(MARKET), rows)
    eager = config.model_copy(
        update={"monitor": config.monitor.model_copy(update={"trigger_nightly": True})}
    )
    with caplog.at_level(logging.ERROR):
        summary = monitor.run(paths, eager, as_of=NIGHT)
    assert summary["alarms"] == 1
    assert summary["wants_night"]
    assert summary["lines"][0].startswith(
        f"{MARKET}: spread is no longer distributed as in training: PSI "
    )
    assert summary["lines"][0] in caplog.text


def test_values_that_stop_coming_are_a_drift(paths: Paths, config: ATLASConfig) -> None:
    """Missing values have a bin of their own, but for a symbol's first bars."""
    rows = _fingerprints()
    rows.loc[rows["timestamp"] >= pd.Timestamp("2026-11-10", tz="UTC"), "volume_z"] = np.nan
    write_parquet(paths.fingerprints(MARKET), rows)
    assert [line.split()[1] for line in monitor.run(paths, config, as_of=NIGHT)["lines"]] == [
        "volume_z"
    ]


def test_the_reference_is_what_the_champion_has_seen(config: ATLASConfig) -> None:
    """It ends before the first unseen session; the window is the newest, never in both."""
    spans = spans_of(np.arange(1_000), 900, 20)
    assert spans is not None
    assert (spans.reference, spans.window) == ((0, 899), (980, 999))
    spans = spans_of(np.arange(1_000), 995, 20)
    assert spans is not None
    assert (spans.window, spans.sessions) == ((995, 999), 5)
    assert spans_of(np.arange(10), 10, 20) is None
    rows = pd.DataFrame({"session": [0, 1], "vol30_short": False, "rule": "x"})
    rows[list(FINGERPRINT_COLUMNS)] = np.nan
    spans = spans_of(np.arange(2), 1, 20)
    assert spans is not None
    found = column_checks(rows, config.markets[MARKET], MARKET, spans, 0.01)
    assert not any(check.judged or check.alarm for check in found)


def test_bars_and_nights_that_stopped(paths: Paths, config: ATLASConfig) -> None:
    """A market is late by its calendar's sessions, a home by days; each says what to look at."""
    settings = config.markets[MARKET]
    found = freshness.market_check(paths, settings, MARKET, NIGHT + pd.Timedelta(days=3))
    assert (found.value, found.alarm) == (3, False)
    found = freshness.market_check(paths, settings, MARKET, NIGHT + pd.Timedelta(days=4))
    assert (found.value, found.alarm) == (4, True)
    assert "no new bar for 4 sessions, the last is of 2026-11-19 00:00 UTC" in found.line
    assert "no bar is stored" in freshness.market_check(paths, settings, "other", NIGHT).line
    late = freshness.night_check(paths, NIGHT + pd.Timedelta(days=5), 4)
    assert late.alarm
    assert "5 days ago" in late.line
    assert not freshness.night_check(paths, NIGHT + pd.Timedelta(days=4), 4).alarm


def test_a_kept_edge_is_no_alarm_and_a_lost_one_is() -> None:
    """.15 is promised; the alarm needs proof, market by market and for their mean."""
    kept = live.live_checks(_said(0.15), _champion(), [MARKET], 20)
    assert [check.market for check in kept] == [MARKET, ""]
    assert not any(check.alarm for check in kept)
    lost = live.live_checks(_said(-0.05), _champion(), [MARKET], 20)
    assert all(check.alarm for check in lost)
    assert "has lost more than half of its edge on the base rate" in lost[0].line
    assert lost[0].limit == 40


def test_an_edge_that_is_kept_is_never_lost_by_looking_often() -> None:
    """Looked at again and again, 12 champions that keep their edge raise no alarm."""
    for seed in range(12):
        rows = _said(0.15, sessions=90, rows=6, seed=seed)
        newest = rows["session"].max()
        for day in range(newest - 59, newest + 1, 20):
            checks = live.live_checks(rows[rows["session"] <= day], _champion(), [MARKET], 20)
            assert not any(check.alarm for check in checks)


def test_live_figures_wait_for_outcomes() -> None:
    """Rows without an outcome are counted, and no figure is made of none."""
    rows = _said(0.15)
    found = live.figures(rows, _champion(), MARKET)
    low, high = found["accuracy"][1:]
    assert low < 0.65 < high
    assert (found["rows"], found["sessions"], found["waiting"]) == (1800, 90, 0)
    assert found["promised"]["log_loss"] == 0.62
    waiting = live.figures(rows.assign(y=np.nan), _champion(), MARKET)
    assert (waiting["rows"], waiting["waiting"]) == (0, 1800)
    assert "accuracy" not in waiting
    checks = live.live_checks(rows.assign(y=np.nan), _champion(), [MARKET], 20)
    assert [check.line for check in checks] == ["no live answer has met its outcome yet"]


def test_answers_get_their_outcome_from_the_newest_benchmark(paths: Paths) -> None:
    """A row logged before its outcome is completed later; abstentions do not count."""
    stamps = _days()[-3:]
    rows = pd.DataFrame({"market": MARKET, "symbol": "A", "timestamp": stamps})
    scored = rows.iloc[:1].assign(session=_day("2026-11-17"), y=1.0)
    said = rows.assign(
        probability=0.6,
        volatility=0.01,
        expert_ids="equity_daily",
        abstain=[False, True, False],
        reason="",
    )
    shadow.keep(paths, "2026-11-20", scored, [("champion", "3", said), ("challenger", "4", said)])
    held = _champion(as_of=pd.Timestamp("2026-11-18", tz="UTC"))
    before = answers(paths, held)
    assert before["y"].isna().tolist() == [False, True]
    table = rows.assign(session=_day("2026-11-19"), y=0.0, probability=0.55)
    table = table.assign(model="base_rate", split="test")
    write_parquet(paths.benchmark / "predictions.parquet", table)
    after = answers(paths, held)
    assert after["y"].tolist() == [1.0, 0.0]
    assert after["is_live"].tolist() == [False, True]
    assert after["base"].tolist() == [0.55, 0.55]


def test_a_gate_that_asks_others_now() -> None:
    """The places of the newest live sessions are compared with those before the night."""
    rows = _said(0.15, sessions=300)
    rows["is_live"] = np.repeat(np.arange(300) >= 260, 20)
    assert not experts.gate_check(rows, MARKET, 20, 0.001).alarm
    newest = rows["session"] > rows["session"].max() - 20
    moved = rows.assign(expert_ids=rows["expert_ids"].where(~newest, "crypto_hft,low_vol_etf"))
    found = experts.gate_check(moved, MARKET, 20, 0.001)
    assert found.alarm
    assert found.line.startswith(
        f"{MARKET}: routing is no longer distributed as before the champion"
    )
    nobody = experts.gate_check(rows[~rows["is_live"]], MARKET, 20, 0.001)
    assert (nobody.judged, nobody.line) == (False, "no live answer yet")


def test_a_dead_expert_is_named_where_the_catalogue_expects_it(config: ATLASConfig) -> None:
    """A daily expert that takes nothing of the daily market is dead; others are not judged."""
    found = {check.name: check for check in experts.expert_checks(_said(0.1), config, 0.005)}
    assert not found["equity_daily"].alarm
    assert not found["low_vol_etf"].alarm
    assert not found["crypto_hft"].judged
    only = _said(0.1).assign(expert_ids="equity_daily,futures_trend")
    found = {check.name: check for check in experts.expert_checks(only, config, 0.005)}
    assert found["low_vol_etf"].alarm
    assert f"expert low_vol_etf is dead: it takes 0.00% of the places in {MARKET}" in (
        found["low_vol_etf"].line
    )


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)
        yield udp


def test_gauges_reach_a_statsd(
    paths: Paths, config: ATLASConfig, statsd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every judged check arrives over UDP as a gauge, the number of alarms first."""
    monkeypatch.setenv(gauges.VARIABLE, f"127.0.0.1:{statsd.getsockname()[1]}")
    monitor.run(paths, config, as_of=NIGHT)
    found = read_json(monitor.path_of(paths, "2026-11-20"))
    expected = list(gauges.gauges(found))
    came = [statsd.recv(1_000).decode() for _ in expected]
    assert came[0] == "atlas.monitor.alarms:0|g"
    assert f"atlas.monitor.freshness.{MARKET}.sessions_behind:0|g" in came
    assert all(text.startswith("atlas.monitor.") and text.endswith("|g") for text in came)


def test_bad_input_is_refused_in_words(
    paths: Paths, config: ATLASConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home without a night has nothing to watch; a StatsD has a host and a port."""
    with pytest.raises(HomeError, match="no night was begun here"):
        monitor.run(Paths(tmp_path / "empty"), config, as_of=NIGHT)
    monkeypatch.setenv(gauges.VARIABLE, "localhost")
    with pytest.raises(ConfigError, match="expected host:port, such as"):
        monitor.run(paths, config, as_of=NIGHT)


def test_the_document_is_plain_json(paths: Paths, config: ATLASConfig) -> None:
    """Numbers that are not there are null, and every check has the fields that are documented."""
    monitor.run(paths, config, as_of=NIGHT)
    text = monitor.path_of(paths, "2026-11-20").read_text()
    found = json.loads(text)
    assert "NaN" not in text
    fields = {"kind", "market", "name", "value", "usual", "limit", "alarm", "judged", "line"}
    assert all(set(row) == fields for row in found["checks"])
    assert monitor.newest(paths) == found
