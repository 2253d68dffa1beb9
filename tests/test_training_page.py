"""No figure in the tables of two pages was typed; pieces of small benchmarks do what they say."""

import numpy as np
import pytest

from benchmarks.retraining import NIGHTS, night
from benchmarks.training_page import PAGES, PROJECT, written
from benchmarks.tuning import trials_to
from tests.toys import toy_data


@pytest.mark.parametrize("page", list(PAGES))
def test_the_page_is_what_the_results_say(page: str) -> None:
    """A figure changed by hand, or results without a new page, are seen."""
    text = (PROJECT / "docs" / page).read_text(encoding="utf-8")
    assert written(page, text) == text


def test_trials_are_counted_up_to_the_first_that_reaches_the_goal() -> None:
    """Where none does it is one more than all."""
    assert trials_to(0.5, [0.7, 0.5, 0.4]) == 2
    assert trials_to(0.3, [0.7, 0.5, 0.4]) == 4


@pytest.mark.parametrize("window", ["expanding", "sliding"])
def test_nights_step_on_and_no_label_crosses_an_edge(window: str) -> None:
    """What trains is known before the first validation bar, that before the first test bar."""
    own = toy_data(bars=260, test=40, validation=40)["toy_charts"]
    nights = [night(own, place, window) for place in range(NIGHTS)]
    for one in nights:
        split, times, last = one.split, one.panel.timestamp, one.labels.last
        assert times[last[split.train]].max() < times[split.validation].min()
        assert times[last[split.validation]].max() < times[split.test].min()
    starts = [one.panel.timestamp[one.split.train].min() for one in nights]
    ends = [one.panel.timestamp[one.split.test].min() for one in nights]
    assert (np.diff(ends) > 0).all()
    assert (np.diff(starts) > 0).all() == (window == "sliding")
