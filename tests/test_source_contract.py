"""One contract, kept by every source: what ingest may rely on, whoever gives the bars."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from atlas.bars import check_bars
from atlas.config import ATLASConfig
from atlas.errors import ConfigError, DataError
from pipelines.sources import Source, source_for
from pipelines.store import known_by, symbol_name
from tests.stand_ins import Exchange, Yahoo, served

MARKET = "equity_daily"
LATE = pd.Timestamp("2026-02-04", tz="UTC")
EARLY = pd.Timestamp("2026-02-02", tz="UTC")
LIVE = {
    "ccxt": {"exchange": "binance", "symbols": ["BTC/USDT"], "since": "2026-01-30"},
    "yfinance": {"symbols": ["ACME"], "since": "2026-01-01"},
}


def config(name: str) -> ATLASConfig:
    """Return params in which the market alone has the source; the others' is another one."""
    market = {
        "timeframe": "1min" if name == "ccxt" else "1d",
        "calendar": "24/7" if name == "ccxt" else "XNYS",
        "source": name,
        "live": LIVE.get(name),
    }
    return ATLASConfig.parse(
        {
            "source": "simulated",
            "markets": {MARKET: market},
            "simulated": {
                "as_of": "2026-02-04",
                "markets": {MARKET: {"symbols": 2, "sessions": 60}},
            },
        }
    )


@pytest.fixture(params=["simulated", "files", "ccxt", "yfinance"])
def source(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Source]:
    name = request.param
    days = pd.bdate_range("2026-01-05", "2026-02-06")
    (tmp_path / MARKET).mkdir()
    frame = pd.DataFrame({"timestamp": days, "open": 9.0, "high": 9.5, "low": 8.5, "close": 9.0})
    frame.to_csv(tmp_path / MARKET / "AAA.csv", index=False)
    with served(Exchange(minutes=7 * 1440)) as exchange, served(Yahoo(days)) as yahoo:
        fast = "?retry_s=0.001&rate_limit_ms=0.001"
        monkeypatch.setenv("AIRFLOW_CONN_ATLAS_BINANCE", f"{exchange.base}{fast}")
        monkeypatch.setenv("AIRFLOW_CONN_ATLAS_YFINANCE", f"{yahoo.base}{fast}")
        yield source_for(config(name), MARKET, tmp_path)


def test_every_source_keeps_the_contract(source: Source) -> None:
    """Safe names; checked, complete, ordered bars; a night is a prefix of a later one."""
    settings = source.config.markets[MARKET]  # type: ignore[attr-defined]
    names = source.symbols(MARKET)
    assert names == sorted(names)
    assert names
    source.check_rows(MARKET)
    assert source.as_of(MARKET) == source.as_of(MARKET).floor("D")
    assert source.is_live == (source.digest(MARKET) == "")
    for name in names:
        assert symbol_name(name) == name
        late = source.fetch(MARKET, name, as_of=LATE)
        early = source.fetch(MARKET, name, as_of=EARLY)
        bars = check_bars(late, symbol=name)
        assert bars.index.is_monotonic_increasing
        assert bars.index.is_unique
        assert known_by(late["timestamp"], LATE, settings).all()
        assert 0 < len(early) < len(late)
        pd.testing.assert_frame_equal(early, late.iloc[: len(early)].reset_index(drop=True))
        part = source.fetch(MARKET, name, as_of=LATE, start=EARLY)
        expected = late[late["timestamp"] >= EARLY]
        pd.testing.assert_frame_equal(part.reset_index(drop=True), expected.reset_index(drop=True))
        pd.testing.assert_frame_equal(source.fetch(MARKET, name, as_of=LATE), late)


def test_every_source_names_what_it_does_not_have(source: Source) -> None:
    """A symbol that is not the market's is an error, whoever is asked."""
    with pytest.raises((DataError, ConfigError), match="NOPE"):
        source.fetch(MARKET, "NOPE", as_of=LATE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "ccxt"}, "needs a block live: with symbols and since"),
        ({"source": "ccxt", "live": LIVE["yfinance"]}, "live.exchange is the id"),
        ({"source": "yfinance", "live": LIVE["ccxt"]}, "live.exchange is the id"),
        ({"source": "kraken"}, "markets.equity_daily.source"),
        ({"live": {**LIVE["yfinance"], "api_key": "x"}}, "unknown key .*api_key"),
    ],
)
def test_params_that_no_source_can_serve_are_refused(
    changes: dict[str, object], message: str
) -> None:
    """Missing and foreign keys are named; a credential in params is an unknown key."""
    values = config("simulated").model_dump(mode="json")
    values["markets"][MARKET].update(changes)
    with pytest.raises(ConfigError, match=message):
        ATLASConfig.parse(values)
