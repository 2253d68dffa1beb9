"""What is wrong with a row: every rule, its limits, and who is told, as rows of data.

- A rule reads one column, or compares two. What takes several rows (a key that comes twice, a price
  on another scale, a stuck quote) is measured by `atlas.measures` first, as a column like another.
- A rule that does not only warn makes a row bad: no reader gets it. One that warns is for people:
  a crash is a fact of the market, and stays.
- Validation (as a Great Expectations suite), the reader of archives and serving all judge by these
  rows, so that none of them passes what another refuses.
- What a column does not say breaks no rule, but for the columns that must be there.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.bars import PRICES
from atlas.surfaces import TENORS

__all__ = [
    "BAR_RULES",
    "LARGEST_IV",
    "LEAST_IV",
    "SESSION_RULES",
    "SURFACE_RULES",
    "Rule",
    "any_broken",
    "broken_by",
]

LARGEST = 1e300  # what is above it is infinite
LEAST_IV, LARGEST_IV = 0.01, 5.0  # 1 % and 500 % a year
DELTA_TOLERANCE = 1e-6  # deltas of some archives went through single precision
SCALE = 8.0  # times the last good close, within one bar; no stock known has done that
STUCK_BARS = 5  # bars in a row with the same four prices
STUCK_QUOTES = 24  # bars in a row with the same bid and ask
STUCK_SNAPSHOTS = 5  # snapshots in a row with the same iv of one tenor and delta
JUMP = 1.25  # times the bar before, with nothing in between: less than a split of 3 for 2
OUTLIER = 10.0  # robust standard deviations
IV_OUTLIER = 25.0  # the same of iv, whose quotes are rougher
WING = 4.0  # times the iv at the money, or a part of it

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Rule(NamedTuple):
    """One claim about every row: a column within limits, or not below another column.

    Attributes:
        name: as in reports.
        column: what it reads.
        low: the least value; excluded if `above`.
        high: the largest value.
        above: whether `low` itself breaks the rule.
        other: a column that `column` must not be below, instead of limits.
        required: whether a missing value breaks the rule; it has no limits then.
        warns: whether a row that breaks it stays, and is only reported.
    """

    name: str
    column: str
    low: float = 0.0
    high: float = LARGEST
    above: bool = False
    other: str | None = None
    required: bool = False
    warns: bool = False

    @property
    def columns(self) -> set[str]:
        """The columns the rule reads."""
        return {self.column} if self.other is None else {self.column, self.other}


def _present(column: str) -> Rule:
    return Rule(f"{column}_present", column, required=True)


_COMMON = (
    _present("timestamp"),
    Rule("key_unique", "copies", low=1, high=1),
    Rule("time_in_order", "seconds_since_previous"),
    Rule("known_by_night", "seconds_before_night"),
)
BAR_RULES = (
    *_COMMON,
    *(_present(price) for price in PRICES),
    *(Rule(f"{price}_positive", price, above=True) for price in PRICES),
    Rule("adj_close_positive", "adj_close", above=True),
    Rule("high_covers_open_and_close", "high", other="body_high"),
    Rule("low_covers_open_and_close", "body_low", other="low"),
    Rule("volume_not_negative", "volume"),
    Rule("turnover_not_negative", "turnover"),
    Rule("bid_positive", "bid", above=True),
    Rule("ask_positive", "ask", above=True),
    Rule("spread_not_negative", "ask", other="bid"),
    Rule("on_scale", "times_last_close", high=SCALE),
    Rule("not_a_copy_of_the_bar_before", "repeats", high=0),
    Rule("not_stuck", "same_prices", high=STUCK_BARS - 1, warns=True),
    Rule("quotes_not_stuck", "same_quotes", high=STUCK_QUOTES - 1, warns=True),
    Rule("no_unannounced_split", "level_change", high=JUMP, warns=True),
    Rule("return_not_an_outlier", "return_z", high=OUTLIER, warns=True),
    Rule("range_not_an_outlier", "range_z", high=OUTLIER, warns=True),
)
SESSION_RULES = (*BAR_RULES, Rule("in_session", "off_session", high=0, warns=True))
SURFACE_RULES = (
    *_COMMON,
    _present("iv"),
    Rule("iv_positive_and_small", "iv", low=LEAST_IV, high=LARGEST_IV),
    Rule("tenor_known", "tenor", low=1, high=TENORS),
    Rule("delta_known", "delta_error", high=DELTA_TOLERANCE),
    Rule("wing_near_the_money", "times_money", low=1 / WING, high=WING, warns=True),
    Rule("iv_not_stuck", "same_iv", high=STUCK_SNAPSHOTS - 1, warns=True),
    Rule("iv_change_not_an_outlier", "iv_change_z", high=IV_OUTLIER, warns=True),
    Rule("in_session", "off_session", high=0, warns=True),
)


def broken_by(columns: Mapping[str, Floats], rule: Rule) -> Flags:
    """Return which of N rows break a rule, (N,).

    Example:
        `broken_by({"close": np.array([1.0, 0.0, np.nan])}, Rule("p", "close", above=True))` is
        `[False, True, False]`.
    """
    values = columns[rule.column]
    if rule.required:
        return np.isnan(values)
    if rule.other is not None:
        return np.asarray(values < columns[rule.other])
    low = values <= rule.low if rule.above else values < rule.low
    return np.asarray(low | (values > rule.high))  # a comparison with NaN is false


def any_broken(columns: Mapping[str, Floats], rules: Iterable[Rule]) -> Flags:
    """Return which of N rows are bad by those of the rules whose columns are there, (N,).

    Rules that only warn are passed over.
    """
    bad = np.zeros(len(next(iter(columns.values()))), np.bool_)
    for rule in rules:
        known = rule.column in columns and (rule.other is None or rule.other in columns)
        if known and not rule.warns:
            bad |= broken_by(columns, rule)
    return bad
