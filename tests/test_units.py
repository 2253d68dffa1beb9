"""Long benchmarks keep what they measured, and their pages say nothing else."""

import json
from pathlib import Path

import pytest

from atlas.errors import DataError
from benchmarks import balance, condconv, cross_asset_page, mutants, pretraining_page, units

PROJECT = Path(__file__).parent.parent
PAGES = {
    "balance": balance,
    "condconv": condconv,
    "pretraining": pretraining_page,
    "cross-asset": cross_asset_page,
    "mutants": mutants,
}
MEASURED = [name for name in PAGES if units.Results(name).read()]
SCORE = {"lift": 0.8, "gain": 0.6, "dead": 1, "largest": 0.5, "load": [0.2] * 6}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of results."""
    monkeypatch.setattr(units, "RESULTS", tmp_path)
    return tmp_path


def run(settings: dict[str, int], done: list[str], *, broken: str = "", minutes: float = 1) -> None:
    """Run units a, b, c; `broken` is where the process is killed."""

    def unit(key: str) -> dict[str, str]:
        if key == broken:
            raise KeyboardInterrupt
        done.append(key)
        return {"key": key}

    own = {key: lambda key=key: unit(key) for key in "abc"}
    units.resumed("toy", "python -m benchmarks.toy", 1, settings, own, minutes)


def test_a_killed_benchmark_goes_on_where_it_was(results: Path) -> None:
    """What was measured is in the file; the next run measures the rest, and only that."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run({"n": 1}, done, broken="b")
    run({"n": 1}, done)
    assert done == ["a", "b", "c"]
    found = json.loads((results / "toy.json").read_text(encoding="utf-8"))
    assert found["units"]["c"] == {"key": "c"}
    assert found["metadata"]["command"] == "python -m benchmarks.toy"


def test_no_unit_is_begun_after_the_minutes(results: Path) -> None:
    """A call ends in time and leaves the rest to the next."""
    done: list[str] = []
    run({"n": 1}, done, minutes=-1)
    assert not done
    assert not list(results.iterdir())


@pytest.mark.usefixtures("results")
def test_results_of_other_settings_are_not_gone_on_with() -> None:
    """Figures of two settings never stand in one file."""
    run({"n": 1}, [])
    with pytest.raises(DataError, match="delete the file to measure anew"):
        run({"n": 2}, [])


@pytest.mark.parametrize("name", MEASURED)
def test_a_page_is_what_its_results_say(name: str) -> None:
    """A figure changed by hand, or results without a new page, are seen."""
    text = (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert text == PAGES[name].page()


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_pages_show_what_is_there_and_name_what_is_not(seeds: tuple[int, ...]) -> None:
    """Trainings of some seeds make a page of these seeds; the others are asked for."""
    settings = {"epochs": 2, "windows_per_epoch": 12_000, "explore_share": 0.8, "tested": 2_000}
    settings |= {"weight": 0.01, "warm": 0.1}
    facts = {"command": "python", "commit": "0" * 40}
    keys = [
        f"{kind} {warm} {seed}"
        for kind in balance.KINDS
        for warm in ("warm", "cold")
        for seed in seeds
    ]
    trained = {key: SCORE | {"lift": 0.7 + 0.01 * i} for i, key in enumerate(keys)}
    document = {"metadata": facts, "settings": settings}
    units.Results("balance").write(document | {"units": trained})
    own = {f"train {form} {seed}": SCORE for form in condconv.COMPARED for seed in seeds}
    units.Results("condconv").write(document | {"units": own})
    complete = len(seeds) == 3
    assert ("Not trained yet" in balance.page()) != complete
    assert "| entropy | yes | 0.7" in balance.page()
    text = condconv.page()
    assert "lift +0.1" in text or "lift +0.090" in text  # .8 against .70, .71, .72
    assert ("lift and gain with seed 2" in text) != complete
    assert "Not measured yet: sizes, latency" in text


def test_mutants_are_all_changes_of_what_runs_once_each() -> None:
    """cosmic-ray's, annotations left out; in a fixed order, so that a seed draws the same."""
    text = "def area(side: int | None) -> int:\n    return side * side + 2\n"
    found = mutants.mutants_of({"area.py": text})
    changed = [mutant.source(text) for mutant in found]
    assert found == mutants.mutants_of({"area.py": text})
    assert len(set(changed)) == len(found)
    assert text.replace("+ 2", "- 2") in changed
    assert all(
        "int | None" in source and mutant.line == 2
        for mutant, source in zip(found, changed, strict=True)
    )
    assert all(mutant.is_python(text) for mutant in found)
