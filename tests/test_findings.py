"""No figure of the pages of findings was typed, and honest trees know nothing of a random walk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from atlas.moe import AtlasMoE, build_model
from benchmarks import leaks
from benchmarks.document import results
from benchmarks.findings import findings, why_not_65
from benchmarks.learned import drift, page
from benchmarks.units import PROJECT, Results
from tests.test_moe import config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("findings", findings),
        ("why-not-65", why_not_65),
        ("learned", lambda: page(Results("learned").read())),
    ],
)
def test_the_page_is_what_the_results_say(name: str, text: object) -> None:
    """A figure changed by hand, or results without a new page, are seen."""
    assert callable(text)
    assert Path(PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8") == text()


def test_what_readme_says_of_real_markets_holds_in_the_results() -> None:
    """No model is surely below the base rate; of volatility five of six markets, by the base."""
    found = results("files")
    assert found is not None
    pooled = [row for row in found["table"] if row["market"] == "mean over markets"]
    (base,) = [row["log_loss"] for row in pooled if row["model"] == "base_rate"]
    assert all(row["log_loss_high"] >= base for row in pooled)
    for rival, sure in (("har", 4), ("lightgbm", 2)):
        gaps = [
            row["qlike_difference"]
            for row in found["volatility_tests"]
            if (row["model"], row["against"]) == ("moe_mlp", rival)
        ]
        assert len(gaps) == 7  # six markets and their mean
        assert sum(gap < 0 for gap in gaps[:-1]) == 5
        assert gaps[-1] < 0
        adjusted = [
            row["dm_p_holm"]
            for row in found["volatility_tests"]
            if (row["model"], row["against"]) == ("moe_mlp", rival) and row["qlike_difference"] < 0
        ]
        assert sum(p is not None and p < 0.05 for p in adjusted) == sure
    qlike = {
        row["model"]: row["qlike"]
        for row in found["volatility"]
        if row["market"] == "mean over markets"
    }
    by_its_base = (qlike["har"] - qlike["harx"]) / (qlike["har"] - qlike["moe_mlp"])
    assert by_its_base > 0.9  # nearly all of what it knows more


def test_a_mistake_is_told_from_honest_work() -> None:
    """On one walk: a half where nothing is wrong, far more where an average looks ahead."""
    honest = leaks.MISTAKES["none: one bar"](np.random.default_rng(1))
    ahead = leaks.MISTAKES["an average that reaches two bars ahead"](np.random.default_rng(1))
    assert abs(honest - 0.5) < 0.04  # 1,780 rows: 3.4 standard errors
    assert ahead > 0.7


def test_a_kernel_that_has_not_moved_has_no_drift() -> None:
    """Its own weights: 0; negated ones: 2; only the kernel that was changed."""
    model = build_model(config(), variant="moe_mlp")
    assert isinstance(model, AtlasMoE)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert max(map(abs, drift(model, state).values())) < 1e-6
    place = model.trunk.dictionary.chart.names.index("diagonal_up")
    state["trunk.dictionary.chart.weight"][place] *= -1
    fresh = build_model(config(), variant="moe_mlp")
    fresh.load_state_dict(model.state_dict())
    moved = drift(fresh, state)
    assert moved.pop("diagonal_up") == pytest.approx(2, abs=1e-6)
    assert max(map(abs, moved.values())) < 1e-6
    assert torch.equal(
        fresh.state_dict()["trunk.dictionary.chart.weight"][place],
        state["trunk.dictionary.chart.weight"][place],
    )
