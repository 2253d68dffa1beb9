"""params.yaml is checked once, at the edge."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from atlas.config import ATLASConfig, market_name
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
    with pytest.raises(ConfigError, match="market name"):
        market_name(name)
    params["markets"][name] = params["markets"]["crypto_1min"]
    with pytest.raises(ConfigError, match="market name"):
        ATLASConfig.parse(params)


def test_simulated_markets_ask_for_the_next_move(params: dict[str, Any]) -> None:
    """SIMULATION.md fixes horizon 1, skip 0 and the butterfly; real bars keep their own label."""
    simulated = ATLASConfig.parse(params)
    real = ATLASConfig.parse({**params, "source": "files"})
    assert simulated.label("crypto_1min").horizon == 1
    assert simulated.label("options_skew").measure == "butterfly"
    assert simulated.label("options_skew").skip == 0
    assert real.label("crypto_1min").horizon == 15
    assert real.label("options_skew").skip == 1
