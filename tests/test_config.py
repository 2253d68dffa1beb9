"""params.yaml is checked once, at the edge."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from atlas.config import ATLASConfig
from atlas.errors import ConfigError

PARAMS = Path(__file__).parents[1] / "params.yaml"


@pytest.fixture
def params() -> dict[str, Any]:
    """The project's own params.yaml as plain values."""
    return yaml.safe_load(PARAMS.read_text())


def test_project_params_hold_the_seed_moe_block(params: dict[str, Any]) -> None:
    """The seed's `moe:` block (§5.2) is accepted as written and keeps its six experts and k = 2."""
    config = ATLASConfig.parse(params)
    assert config.moe.enabled
    assert config.moe.k == 2
    assert config.moe.experts == (
        "crypto_hft",
        "equity_intraday",
        "equity_daily",
        "futures_trend",
        "options_skew",
        "low_vol_etf",
    )


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (("moee",), "moee"),
        (("moe", "top_k"), "moe.top_k"),
        (("markets", "crypto_1min", "label", "lag"), "markets.crypto_1min.label.lag"),
    ],
)
def test_unknown_key_is_refused_by_its_full_name(
    params: dict[str, Any], path: tuple[str, ...], named: str
) -> None:
    """A misspelled key anywhere is an error that names it, so that it cannot be ignored."""
    inner = params
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = 1
    with pytest.raises(ConfigError, match=f"unknown key '{named}'"):
        ATLASConfig.parse(params)


def test_unknown_expert_is_named(params: dict[str, Any]) -> None:
    """An expert that no catalogue row describes is refused."""
    params["moe"]["experts"] = ["equity_daily", "meme_stocks"]
    with pytest.raises(ConfigError, match="meme_stocks"):
        ATLASConfig.parse(params)


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".hidden", "Crypto", "x" * 65])
def test_market_name_that_could_leave_its_folder_is_refused(
    params: dict[str, Any], name: str
) -> None:
    """A market's name becomes a folder's, so dots and slashes never pass."""
    params["markets"][name] = params["markets"]["crypto_1min"]
    with pytest.raises(ConfigError, match="market name"):
        ATLASConfig.parse(params)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("markets", "equity_daily", "timeframe"), "7 parsecs", "timeframe: .*'7 parsecs'.*5min"),
        (("markets", "equity_daily", "timeframe"), "2w", "between 1s and 1w"),
        (("markets", "equity_daily", "calendar"), "XNOPE", "calendar: .*'XNOPE'.*such as XNYS"),
        (
            ("markets", "equity_daily", "label", "kind"),
            "surface_change",
            "markets.equity_daily: .*'surface_change' does not fit modality 'chart'",
        ),
        (
            ("markets", "options_skew", "label", "kind"),
            "direction",
            "markets.options_skew: .*'direction' does not fit modality 'surface'",
        ),
        (("tuning",), "../../etc", "tuning: .*pattern.*etc"),
        (("training", "experts"), {"meme": {}}, "training.experts: .*equity_daily.*'meme'"),
        (("training", "gate"), {"optimizer": "lion"}, "training.gate.optimizer: .*'lion'"),
        (("moe", "k"), 7, "moe.k: .*less than or equal to 6; got 7"),
    ],
)
def test_a_value_that_could_only_fail_later_is_refused(
    params: dict[str, Any], path: tuple[str, ...], value: object, message: str
) -> None:
    """Each is named with its key, what was expected and what came."""
    inner = params
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ConfigError, match=message):
        ATLASConfig.parse(params)


def test_a_simulated_market_needs_a_law_of_its_modality(params: dict[str, Any]) -> None:
    """What no law can make is refused where markets are simulated, and is fine for an archive."""
    markets, sizes = params["markets"], params["simulated"]["markets"]
    markets["moon_hourly"] = markets["equity_daily"]
    sizes["moon_hourly"] = {"symbols": 1, "sessions": 100}
    with pytest.raises(ConfigError, match=r"no law makes 'moon_hourly'; expected some of crypto_1"):
        ATLASConfig.parse(params)
    ATLASConfig.parse({**params, "source": "files"})
    del sizes["moon_hourly"]
    markets["low_vol_etf"] = markets["options_skew"]
    with pytest.raises(ConfigError, match=r"'low_vol_etf': its law makes a chart, not a surface"):
        ATLASConfig.parse(params)


def test_importing_the_configuration_builds_no_calendar_and_compiles_nothing() -> None:
    """A task that only needs names of settings does not pay for calendars and laws."""
    code = "import sys, atlas.config; print({'numba', 'exchange_calendars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_simulated_markets_ask_for_the_next_move(params: dict[str, Any]) -> None:
    """SIMULATION.md fixes horizon 1, skip 0 and the butterfly; real bars keep their own label."""
    simulated = ATLASConfig.parse(params)
    real = ATLASConfig.parse({**params, "source": "files"})
    assert simulated.label("crypto_1min").horizon == 1
    assert simulated.label("options_skew").measure == "butterfly"
    assert simulated.label("options_skew").skip == 0
    assert real.label("crypto_1min").horizon == 15
    assert real.label("options_skew").skip == 1
