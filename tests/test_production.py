"""No figure of docs/operations.md and docs/scale.md was typed; losses and overlaps are counted."""

import datetime as dt
from collections import Counter
from itertools import pairwise

import pytest

from benchmarks.backfill import overlaps
from benchmarks.fault_kinds import KINDS, STAGES
from benchmarks.fault_rig import marks, named
from benchmarks.faults import TOGETHER, plan
from benchmarks.production_page import BLOCKS, PAGES, RESULTS, written
from pipelines.files import read_json
from pipelines.paths import Paths


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_page_is_what_the_results_say(page) -> None:
    """A figure changed by hand, or results without a new page, are seen."""
    text = page.read_text(encoding="utf-8")
    assert written(text) == text


def test_every_block_has_its_place() -> None:
    """Each result is quoted by a page."""
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(f"<!-- {name}: written by benchmarks -->" in texts for name in BLOCKS)


def test_nights_lose_every_kind_alike_each_in_a_later_stage() -> None:
    """Sixty losses are each kind five times; no loss can be mended by the next one's help."""
    nights = plan(60, list(KINDS))
    losses = [loss for night in nights for loss in night]
    assert len(losses) == 60
    assert set(Counter(loss.kind for loss in losses).values()) == {60 // len(KINDS)}
    assert {loss.stage for loss in losses} == set(STAGES)
    assert all(loss.stage in KINDS[loss.kind].stages for loss in losses)
    for night in nights:
        assert len(night) == TOGETHER
        places = [STAGES.index(loss.stage) for loss in night]
        assert all(one < other for one, other in pairwise(places))
        assert {"markets.validate", "markets.fingerprint"} - {loss.stage for loss in night}
    assert nights == plan(60, list(KINDS))
    assert nights != plan(60, list(KINDS), seed=1)


def test_a_cause_is_looked_for_between_two_losses(tmp_path) -> None:
    """A line from before the loss names nothing, nor does one from after the next loss."""
    paths = Paths(tmp_path)
    log = paths.var / "logs" / "scheduler.log"
    log.parent.mkdir(parents=True)
    seen = []
    for line in ("lost one", "nothing", "lost two"):
        seen.append(marks(paths))
        with log.open("a") as file:
            file.write(f"{line}\n")
    assert named(paths, "lost", seen[0], {}) == ""  # no log was there when the next was lost
    assert named(paths, "lost", seen[0], seen[1]) == "scheduler.log: lost one"
    assert named(paths, "lost", seen[1], seen[2]) == ""
    assert named(paths, "lost", seen[1]) == "scheduler.log: lost two"


def test_tasks_of_two_nights_at_once_are_counted() -> None:
    """Tasks that touch do not overlap; one that lies within another does; those of a night may."""
    night = [_span(0, 10), _span(5, 20)]
    assert overlaps([night, [_span(20, 30)]]) == 0
    assert overlaps([night, [_span(6, 7), _span(19, 30)]]) == 3
    assert overlaps([night]) == 0


def test_kept_results_hold_no_path_of_a_machine() -> None:
    """Lines of logs are kept as evidence, but not where they lay."""
    for source in {source for source, _ in BLOCKS.values()}:
        path = RESULTS / f"{source}.json"
        if path.is_file():
            text = str(read_json(path))
            assert "/tmp/" not in text  # noqa: S108
            assert "/home/" not in text


def _span(first: int, last: int) -> tuple[dt.datetime, dt.datetime]:
    start = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    return start + dt.timedelta(seconds=first), start + dt.timedelta(seconds=last)
