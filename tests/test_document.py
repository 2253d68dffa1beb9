"""No figure of the documents was typed: each is in the results file that the page names."""

from pathlib import Path

import pytest

from benchmarks import document

PROJECT = Path(__file__).parent.parent


def test_the_page_is_what_the_results_say() -> None:
    """A figure changed by hand, or results without a new page, are seen."""
    assert (PROJECT / "docs" / "benchmark.md").read_text(encoding="utf-8") == document.page()


def test_readme_quotes_the_results() -> None:
    """The block between README's markers is written from the same files."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert document.readme(text) == text


def test_results_name_their_command_and_commit() -> None:
    """Whoever doubts a figure can run it again."""
    kept = [found for source in document.SOURCES if (found := document.results(source))]
    assert kept
    for found in kept:
        facts = found["metadata"]
        seeds = facts["params"]["benchmark"]["seeds"]
        assert facts["command"].startswith(f"python -m pipelines evidence --seeds {len(seeds)}")
        assert len(facts["commit"]) == 40


def test_a_changed_figure_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page follows the results to the last digit shown."""
    source = next(name for name in document.SOURCES if document.results(name))
    found = document.results(source)
    assert found is not None
    before = document.page()
    found["table"][0]["log_loss"] += 0.001
    monkeypatch.setattr(document, "results", lambda name: found if name == source else None)
    assert document.page() != before
