"""With and without pre-trained kernels: the differences that are shown, and the page."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import units
from benchmarks.pretraining_page import page
from benchmarks.pretraining_tests import real, simulated

MARKETS = ("one", "two")
SESSIONS, ROWS = 40, 20


def _rows(sharpness: float, seed: int = 0) -> pd.DataFrame:
    """Forecasts that know the truth the better the nearer `sharpness` is to 1."""
    rng = np.random.default_rng(seed)
    frames = []
    for market in MARKETS:
        count = SESSIONS * ROWS
        p = rng.uniform(0.2, 0.8, count)
        log_rv = rng.standard_normal(count)
        frames.append(
            pd.DataFrame(
                {
                    "market": market,
                    "symbol": "S",
                    "timestamp": pd.date_range("2026-01-01", periods=count, freq="h", tz="UTC"),
                    "session": np.repeat(np.arange(SESSIONS), ROWS),
                    "y": (rng.random(count) < p).astype(np.float64),
                    "p": p,
                    "probability": 0.5 + sharpness * (p - 0.5),
                    "log_rv": log_rv,
                    "log_variance_predicted": log_rv + (1 - sharpness) * rng.standard_normal(count),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def test_a_better_arm_gains_in_every_market_and_in_the_mean() -> None:
    """The sign of a difference says who is ahead; swapped arms change it."""
    ahead = simulated(_rows(0.9), _rows(0.5))["rows"]
    assert [row["market"] for row in ahead] == [*MARKETS, "mean over markets"]
    for row in ahead:
        value, low, high = row["gain_difference"]
        assert 0 < low < value < high
        assert value == pytest.approx(row["pretrained"]["gain"][0] - row["cold"]["gain"][0])
        assert row["loss_difference"][0] < 0
        assert row["p"] < 1e-6
    behind = simulated(_rows(0.5), _rows(0.9))["rows"][-1]
    assert behind["gain_difference"][0] == pytest.approx(-ahead[-1]["gain_difference"][0])


def test_arms_that_say_the_same_are_no_different() -> None:
    """No difference is p 1, on both kinds of markets."""
    rows = _rows(0.7)
    for found in (simulated(rows, rows)["rows"], real([rows], [rows])["rows"]):
        assert all(row["p"] == 1.0 for row in found)
    assert all(row["qlike_p"] == 1.0 for row in real([rows], [rows])["rows"])


def test_losses_are_averaged_over_seeds_before_they_are_tested() -> None:
    """A seed in which both arms say the same halves the difference of one in which they do not."""
    found = real([_rows(0.9), _rows(0.9)], [_rows(0.5), _rows(0.9)])["rows"][0]
    alone = real([_rows(0.9)], [_rows(0.5)])["rows"][0]
    for name in ("loss_difference", "qlike_difference"):
        assert found[name][0] == pytest.approx(alone[name][0] / 2)
    assert found["qlike_difference"][2] < 0
    assert found["cold"]["qlike"] > found["pretrained"]["qlike"]


def _document(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    epoch = {"epoch": 1, "step": 9, "learned": 1.0, "held": 0.98, "held_move": 1, "held_size": 0.9}
    share = {market: {"both": 0.98, "move": 0.99, "size": 0.95} for market in MARKETS}
    made: dict[str, Any] = {}
    for source, own in rows.items():
        made[f"{source} kernels 1"] = {"history": [epoch], "markets": share, "cpu_s": 90.0}
        made[f"{source} cold 1"] = made[f"{source} pretrained 1"] = {"best": 0.6, "cpu_s": 80.0}
        made[f"{source} compared 1"] = {"rows": own}
    for name in ("none", "4 4"):
        made[f"tried {name} 1"] = {"held_move": 0.9, "held_size": 0.9, "validation": 0.65}
    settings = {"epochs": 4, "windows_per_epoch": 48_000, "drawn": 32_000, "tested": 10_000}
    settings |= {"rate": 0.25, "block": [4, 4]}
    tried = {"epochs": 2, "windows_per_epoch": 12_000, "pretraining": 48_000}
    facts = {"command": "python", "commit": "0" * 40}
    return {"metadata": facts, "settings": settings | {"tried": tried}, "units": made}


@pytest.mark.parametrize(
    ("better", "said"),
    [
        (0.9, "**Proven better: gain of the simulated markets, log-loss of the real ones"),
        (0.5, "**No gain in the mean is proven; proven worse: gain of the simulated markets"),
    ],
)
def test_the_page_says_what_was_found_and_what_is_missing(
    better: float, said: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict follows from the pooled rows; seeds that lack are named."""
    monkeypatch.setattr(units, "RESULTS", tmp_path)
    rows = {
        "simulated": simulated(_rows(better), _rows(0.7))["rows"],
        "files": real([_rows(better)], [_rows(0.7)])["rows"],
    }
    units.Results("pretraining").write(_document(rows))
    text = page()
    assert said in text
    assert "simulated, 1 of 3 seeds; files, 1 of 3 seeds" in text
    assert "pre-training 90 s" in text
    assert "| 4 | 4 | 0.900 | 0.900 | +0.000 | 1 |" in text
