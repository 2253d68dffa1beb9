"""A night for which the histories are too short is refused before it starts."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from atlas.config import ATLASConfig
from atlas.errors import ConfigError
from pipelines import reach
from pipelines.night import open_night
from pipelines.paths import PROJECT
from tests.test_cli import _refused, _run

PARAMS = yaml.safe_load((PROJECT / "tests" / "params_tiny.yaml").read_text())


def night(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC")


def archive(folder: Path, periods: int = 70) -> tuple[ATLASConfig, Path]:
    (folder / "equity_daily").mkdir(parents=True)
    times = pd.bdate_range("2026-01-05", periods=periods, tz="UTC")
    frame = pd.DataFrame({"timestamp": times, "open": 9.0, "high": 9.0, "low": 9.0, "close": 9.0})
    frame.to_csv(folder / "equity_daily" / "AAA.csv", index=False)
    frame.iloc[-5:].to_parquet(folder / "equity_daily" / "BBB.parquet", index=False)
    return configuration(source="files"), folder


def configuration(**changed: Any) -> ATLASConfig:
    markets = {"equity_daily": PARAMS["markets"]["equity_daily"]}  # its cut is 40 + 20 sessions
    simulated = {**PARAMS["simulated"], "markets": {"equity_daily": {"symbols": 2, "sessions": 61}}}
    return ATLASConfig.parse({**PARAMS, "markets": markets, "simulated": simulated, **changed})


def test_an_archive_has_to_begin_before_the_night(tmp_path: Path) -> None:
    """The error names the market and the date of its first bar."""
    config, folder = archive(tmp_path)
    reach.require(config, folder, night("2026-11-20"))
    with pytest.raises(ConfigError, match=r"2026-01-05: expected a night after 2026-01-05, .*aily"):
        reach.require(config, folder, night("2026-01-05"))


def test_more_sessions_are_needed_than_the_cut_keeps(tmp_path: Path) -> None:
    """Counted by the night, over all symbols together, for archives and simulated markets."""
    config, folder = archive(tmp_path)
    reach.require(config, folder, night("2026-03-31"))  # knows 61
    with pytest.raises(ConfigError, match=r"equity_daily: .* 40 \+ 20 .* by 2026-03-30 it has 60"):
        reach.require(config, folder, night("2026-03-30"))
    simulated = configuration()
    reach.require(simulated, None, night("2026-11-20"))
    reach.require(simulated, None, night("2026-11-21"))
    with pytest.raises(ConfigError, match=r"needs more than 60; by 2026-11-19 it has 60: lower"):
        reach.require(simulated, None, night("2026-11-19"))


def test_a_market_that_may_be_absent_may_begin_later(tmp_path: Path) -> None:
    """It is left out of such a night, as if it had no files."""
    _, folder = archive(tmp_path)
    daily = {**PARAMS["markets"]["equity_daily"], "required": False}
    config = configuration(source="files", markets={"equity_daily": daily})
    reach.require(config, folder, night("2025-01-01"))


def test_the_command_says_so_before_any_work(tmp_path: Path) -> None:
    """Exit 2, one line, and no home is made; an ingest alone may take any range."""
    _, folder = archive(tmp_path / "bars", 30)
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(configuration(source="files").model_dump(mode="json")))
    home = tmp_path / "home"
    given = ("--home", home, "--params", params, "--data", folder)
    _refused(_run("all", *given), "40 + 20", "it has 30", "markets.equity_daily.cut")
    assert not home.exists()


def test_own_models_are_made_before_the_night(tmp_path: Path) -> None:
    """A bad entry of benchmark.models is told by `check` and when a night begins."""
    values = configuration().model_dump(mode="json")
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({**values, "benchmark": {"models": ["nowhere:build"]}}))
    with pytest.raises(ConfigError, match=r"benchmark.models 'nowhere:build'"):
        open_night(tmp_path / "home", params, trains=True)
    assert not (tmp_path / "home").exists()
