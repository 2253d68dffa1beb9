"""What the command `ingest` shows people."""

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from atlas.config import ATLASConfig
from pipelines.ingest_command import ingest_markets
from pipelines.night import Night
from pipelines.paths import Paths


def test_a_dry_run_fits_a_narrow_terminal(tmp_path: Path) -> None:
    """Symbol, from, to, bars and pieces (one a month) stand whole in eighty columns."""
    live = {"exchange": "binance", "symbols": ["BTC/USDT"], "since": "2026-01-30"}
    config = ATLASConfig.parse(
        {
            "source": "ccxt",
            "markets": {"coins": {"timeframe": "1min", "calendar": "24/7", "live": live}},
            "simulated": {"as_of": "2026-11-20", "markets": {}},
        }
    )
    night = Night(Paths(tmp_path), config, pd.Timestamp("2026-02-03", tz="UTC"), None)
    said = io.StringIO()
    ingest_markets(
        night,
        ["coins"],
        Console(file=said, width=80),
        lambda *_: pytest.fail("a dry run does nothing"),
        start=None,
        dry_run=True,
    )
    (row,) = [line for line in said.getvalue().splitlines() if "BTC-USDT" in line]
    assert row.split() == ["BTC-USDT", "2026-01-30", "00:00", "2026-02-03", "00:00", "5760", "2"]
