"""No figure of docs/speed.md was typed: each is in the results file of its benchmark."""

from pathlib import Path

import pytest

from benchmarks import speed

PROJECT = Path(__file__).parent.parent


def test_the_page_is_what_the_results_say() -> None:
    """A figure changed by hand, or results without a new page, are seen."""
    assert (PROJECT / "docs" / "speed.md").read_text(encoding="utf-8") == speed.page()


@pytest.mark.parametrize("name", [name for name in speed.NAMES if speed.results(name)])
def test_a_changed_figure_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page follows the results, which name their command and commit, met or not."""
    found = speed.results(name)
    assert found is not None
    assert found["metadata"]["command"].startswith(f"python -m benchmarks {name}")
    assert len(found["metadata"]["commit"]) == 40
    before = speed.page()
    claim = next(row for row in found["ratios"] if row["target"] is not None)
    claim["value"] *= 1.5
    real = speed.results
    monkeypatch.setattr(speed, "results", lambda other: found if other == name else real(other))
    assert speed.page() != before
