"""The monitor: a daily look at a home, between nights, that changes nothing but its own files.

- What is watched: whether nights run and bars come, whether fingerprints and gate have drifted from
  what the champion was trained on, whether each expert is still asked, and whether the champion
  keeps its edge as outcomes become known. docs/monitoring.md tells what to do on each alarm.
- artifacts/monitor/<date>.json is what one day found, artifacts/monitor/history.parquet the checks
  of all days, a row each. A second run of a day replaces that day.
- An alarm is a finding, not a failure: the exit code is 0 and the notice goes out.
- What cannot be judged is a check too, with the reason.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from atlas.config import ATLASConfig
from atlas.errors import HomeError
from pipelines import notice
from pipelines.files import read_json, write_json, write_parquet
from pipelines.paths import Paths
from pipelines.watch import columns, experts, freshness, gauges, live
from pipelines.watch.answers import Champion, answers, champion
from pipelines.watch.checks import Check, as_row, unjudged

__all__ = ["FORMAT", "RETRAINS", "folder", "newest", "path_of", "run"]

FORMAT = 1
RETRAINS = ("drift", "gate", "live")  # alarms that a new night may mend


def run(
    paths: Paths, config: ATLASConfig, *, as_of: pd.Timestamp, address: str | None = None
) -> dict[str, Any]:
    """Watch a home as the night `as_of` knows it; write the day's file, tell of alarms.

    Args:
        address: of the webhook; see `pipelines.notice.send`.

    Returns:
        as_of, champion, checks, unjudged, alarms (how many), lines (the first ten alarms) and
        wants_night: whether params ask that such an alarm starts a night.

    Raises:
        HomeError: no night was ever begun in this home.
        ConfigError: `ATLAS_STATSD` is no address.
    """
    gauges.address_of_environment()
    if not paths.night.is_file():
        raise HomeError(
            f"{paths.home}: no night was begun here, so there is nothing to watch yet: run one "
            "(`make nightly`)"
        )
    held = champion(paths)
    rows = answers(paths, held) if held else None
    checks, details = _watched(paths, config, as_of, held, rows)
    every = [as_row(check) for check in checks]
    alarms = [row for row in every if row["alarm"]]
    day = str(as_of.date())
    document = {
        "format": FORMAT,
        "as_of": day,
        "champion": {"version": held.version, "as_of": str(held.as_of.date())} if held else None,
        "alarms": alarms,
        "checks": every,
        "markets": details,
    }
    write_json(path_of(paths, day), document)
    _remember(paths, day, every)
    lines = [row["line"] for row in alarms]
    if lines:
        told = "\n".join([f"the watch of {day} raised {_alarms(len(lines))}:", *lines])
        notice.send(paths, told, address)
    gauges.send(document)
    wants = config.monitor.trigger_nightly and any(row["kind"] in RETRAINS for row in alarms)
    return {
        "as_of": day,
        "champion": held.version if held else None,
        "checks": len(checks),
        "unjudged": sum(not check.judged for check in checks),
        "alarms": len(alarms),
        "lines": lines[:10],
        "wants_night": bool(wants),
    }


def folder(paths: Paths) -> Path:
    """Return where the monitor writes."""
    return paths.artifacts / "monitor"


def path_of(paths: Paths, day: str) -> Path:
    """Return where a day's document lies."""
    return folder(paths) / f"{day}.json"


def newest(paths: Paths) -> dict[str, Any] | None:
    """Return what the newest day found, or None before the first."""
    found = sorted(folder(paths).glob("[0-9]*-[0-9]*-[0-9]*.json"))
    return dict(read_json(found[-1])) if found else None


def _watched(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    held: Champion | None,
    rows: pd.DataFrame | None,
) -> tuple[list[Check], dict[str, Any]]:
    markets, settings = list(config.markets), config.monitor
    tested = sum(len(columns.names_of(config.markets[name])) + 1 for name in markets)
    rate = settings.false_alarms / tested  # the chances add up, whatever hangs together
    checks = [freshness.night_check(paths, as_of, settings.night_days)]
    details: dict[str, Any] = {}
    for market in markets:
        checks.append(freshness.market_check(paths, config.markets[market], market, as_of))
        found, detail = _drift(paths, config, as_of, market, held, rate)
        checks += found
        if held is not None and rows is not None:
            own = rows[rows["market"] == market]
            checks.append(experts.gate_check(own, market, settings.window, rate))
            detail["experts"] = {
                "reference": experts.shares(own[~own["is_live"]]),
                "live": experts.shares(own[own["is_live"]]),
            }
            detail["live"] = live.figures(rows, held, market)
        details[market] = detail
    if held is None or rows is None:
        checks.append(unjudged("live", "", "edge_lost", "there is no champion"))
        return checks, details
    checks += experts.expert_checks(rows, config, settings.dead_share)
    checks += live.live_checks(rows, held, markets, settings.evidence)
    return checks, details


def _drift(
    paths: Paths,
    config: ATLASConfig,
    as_of: pd.Timestamp,
    market: str,
    held: Champion | None,
    rate: float,
) -> tuple[list[Check], dict[str, Any]]:
    settings = config.markets[market]
    if not paths.fingerprints(market).is_file():
        why = "no fingerprints: run a night"
        return [unjudged("drift", market, name, why) for name in columns.names_of(settings)], {}
    rows = columns.read(paths, settings, market, as_of)
    days = np.unique(rows["session"].to_numpy(np.int64))
    first = held.first_test.get(market) if held else None
    if first is None and days.size > settings.cut.test:
        first = int(days[-settings.cut.test])
    spans = columns.spans_of(days, first, config.monitor.window) if first is not None else None
    if spans is None:
        why = "no complete session from before the test sessions, or none after them"
        return [unjudged("drift", market, name, why) for name in columns.names_of(settings)], {}
    checks = columns.column_checks(rows, settings, market, spans, rate)
    return checks, {
        "reference": [*(_date(day) for day in spans.reference), spans.reference_sessions],
        "window": [*(_date(day) for day in spans.window), spans.sessions],
    }


def _remember(paths: Paths, day: str, checks: list[dict[str, Any]]) -> None:
    path = folder(paths) / "history.parquet"
    own = pd.DataFrame(checks).assign(as_of=day).drop(columns="line")
    own[["value", "usual", "limit"]] = own[["value", "usual", "limit"]].astype(float)
    before = pd.read_parquet(path) if path.is_file() else own.iloc[:0]
    every = pd.concat([before[before["as_of"] != day], own], ignore_index=True)
    write_parquet(path, every.sort_values("as_of", kind="stable", ignore_index=True))


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _alarms(count: int) -> str:
    return "1 alarm" if count == 1 else f"{count} alarms"
