"""Say whether a distribution has moved, with limits measured on the reference itself.

- Two distances between histograms: the population stability index for columns of fingerprints, the
  Jensen–Shannon divergence for shares of experts.
- How large a distance is without any drift depends on how slowly the column moves: 20 sessions of a
  30-session volatility always lie somewhere in particular. So the usual limits of .1 and .25 mean
  nothing here. The limit comes from the reference: every run of as many sessions in a row as the
  window has is compared with the rest of the reference, less as many sessions beside it.
- Runs of whole sessions, never rows or short blocks put together: those would mix what comes in
  spells, and the limit would be far too low.
- The sixth root of these distances is taken as normal (the cube root of a χ² is, and spells have
  longer tails), and the limit is the bound that the distance of one more window passes with the
  chance asked for: t instead of normal, because the windows are few. As many count as there are
  independent ones; spells longer than a window lower their number, and below `LEAST_WINDOWS` no
  limit is said.
  `python -m benchmarks drift` measures how often it is passed where nothing has drifted.
"""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from atlas.errors import DataError

__all__ = [
    "BINS",
    "LEAST_WINDOWS",
    "Distance",
    "Limit",
    "bin_edges",
    "distance",
    "farthest",
    "jensen_shannon",
    "limit",
    "psi",
    "session_counts",
    "window_length",
]

Floats = npt.NDArray[np.float64]
Distance = Literal["psi", "jensen_shannon"]

BINS = 10  # of equal weight in the reference; missing values have one more
LEAST_WINDOWS = 8.0  # independent ones; fewer say nothing of a tail
_WINDOWS = 20  # a reference should hold at least so many
_ROOT = 1 / 6
_LEAST: dict[Distance, float] = {"psi": 0.02, "jensen_shannon": 0.005}  # less moves no model
_TINY = 1e-12


class Limit(NamedTuple):
    """How far a window usually lies from its reference, and where the alarm begins.

    Attributes:
        usual: median distance of the reference's own windows.
        alarm: a distance above it is an alarm, never below .02 (PSI) or .005 (Jensen–Shannon);
            NaN where the reference is too short to say.
        windows: of the reference that count as independent.
    """

    usual: float
    alarm: float
    windows: float


def psi(first: Floats, second: Floats) -> Floats:
    """Return the population stability index of histograms (..., B), (...).

    Σ (p − q)·ln(p / q), 0 for equal shares; half a row is added to each bin that one of the two
    uses, so that a bin empty in the other is finite. Source: Lewis, An Introduction to Credit
    Scoring (1994).

    Example:
        Shares of .5 and .5 against .6 and .4, of many rows: .1·ln(1.2) − .1·ln(.8) = .0405.
    """
    used = 0.5 * ((first > 0) | (second > 0))
    p, q = _shares(first + used), _shares(second + used)
    p, q = np.where(p > 0, p, 1.0), np.where(q > 0, q, 1.0)  # a bin that nobody uses adds 0
    return np.asarray(((p - q) * np.log(p / q)).sum(-1))


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """Return the Jensen–Shannon divergence of histograms (..., B) in bits, (...), in [0, 1].

    The mean of the Kullback–Leibler divergences of both from their mean; 0 for equal shares, 1 for
    shares that have no bin in common. An empty histogram gives NaN. Source: Lin (1991).

    Example:
        All in one bin against half and half: ½·log2(4/3) + ½·(½·log2(2/3) + ½·log2 2) = .311.
    """
    p, q = _shares(np.asarray(first, float)), _shares(np.asarray(second, float))
    middle = (p + q) / 2
    halves = (
        np.where(a > 0, a * np.log2(np.maximum(a, _TINY) / np.maximum(middle, _TINY)), 0.0).sum(-1)
        for a in (p, q)
    )
    return np.asarray(sum(halves) / 2 + 0.0 * (p.sum(-1) + q.sum(-1)))


def distance(kind: Distance, first: Floats, second: Floats) -> Floats:
    """Return a distance of histograms by its name; see `psi` and `jensen_shannon`."""
    return psi(first, second) if kind == "psi" else jensen_shannon(first, second)


def farthest(kind: Distance, rows: float, reference: Floats) -> float:
    """Return how far `rows` rows that all fall in one used bin can lie from a histogram (B,)."""
    corners = rows * np.eye(reference.size)[reference > 0]
    return float(np.max(distance(kind, corners, np.broadcast_to(reference, corners.shape))))


def window_length(sessions: int, longest: int) -> int:
    """Return how many sessions a window has: a twentieth of the reference, at most `longest`."""
    return int(np.clip(sessions // _WINDOWS, 1, longest))


def bin_edges(reference: npt.NDArray[np.floating], bins: int = BINS) -> Floats:
    """Return the inner edges of bins of equal weight, at most bins − 1; equal values share one.

    NaN and infinite values are left out; a column without any number has no edge.
    """
    known = np.asarray(reference, np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        return np.zeros(0)
    return np.unique(np.quantile(known, np.arange(1, bins) / bins))


def session_counts(
    values: npt.NDArray[np.floating], sessions: npt.NDArray[np.int64], edges: Floats
) -> Floats:
    """Count the rows of each session in each bin, (S, B), sessions in ascending order.

    Args:
        values: (N,); what is not finite is counted in a last bin of its own.
        sessions: (N,) days of the rows.
        edges: of `bin_edges`.
    """
    days, row = np.unique(sessions, return_inverse=True)
    values = np.asarray(values, np.float64)
    place = np.searchsorted(edges, values, side="right")
    place = np.where(np.isfinite(values), place, edges.size + 1)
    width = edges.size + 2
    counts = np.bincount(row * width + place, minlength=days.size * width)
    return counts.reshape(days.size, width).astype(np.float64)


def limit(counts: Floats, window: int, *, rate: float, kind: Distance = "psi") -> Limit:
    """Return how far windows of the reference lie from the rest of it, and where alarm begins.

    Args:
        counts: rows of each session of the reference by bin, (S, B), in order of time.
        window: sessions in a row.
        rate: the chance of an alarm without drift that is accepted, in (0, 1).

    Raises:
        DataError: `rate` or `window` is out of range.
    """
    if not 0 < rate < 1 or window < 1:
        raise DataError(
            f"expected a rate in (0, 1) and a window of 1 session or more; got {rate}, {window}"
        )
    found = _own_distances(counts, window, kind)
    found = found[np.isfinite(found)]
    if found.size < 2:
        return Limit(float("nan"), float("nan"), float(found.size))
    roots = found**_ROOT
    windows = _independent(roots, window)
    usual = float(np.median(found))
    if windows < LEAST_WINDOWS:
        return Limit(usual, float("nan"), windows)
    spread = roots.std() * np.sqrt(windows / (windows - 1) * (1 + 1 / windows))
    high = roots.mean() + t.ppf(1 - rate, windows - 1) * spread
    return Limit(usual, max(float(high ** (1 / _ROOT)), _LEAST[kind]), windows)


def _own_distances(counts: Floats, window: int, kind: Distance) -> Floats:
    """Return each window's distance (S − window + 1,) from the reference away from it."""
    size = len(counts)
    if size <= window:
        return np.zeros(0)
    sums = np.concatenate([np.zeros((1, counts.shape[1])), np.cumsum(counts, axis=0)])
    start = np.arange(size - window + 1)
    inside = sums[start + window] - sums[start]
    near = sums[np.minimum(start + 2 * window, size)] - sums[np.maximum(start - window, 0)]
    rest = sums[-1] - near
    known = (rest.sum(1) > 0) & (inside.sum(1) > 0)
    return distance(kind, inside[known], rest[known])


def _independent(roots: Floats, window: int) -> float:
    """Return how many of the overlapping windows count as independent."""
    disjoint = (roots.size + window - 1) / window
    if disjoint < LEAST_WINDOWS or roots.std() < _TINY:
        return disjoint
    centered = roots - roots.mean()
    lagged = float((centered[window:] * centered[:-window]).mean() / (centered**2).mean())
    # a sample's autocorrelation is too low by (1 + 3ρ)/n (Kendall, 1954)
    held = float(np.clip((lagged * disjoint + 1) / (disjoint - 3), 0.0, 0.99))
    return disjoint * (1 - held) / (1 + held)


def _shares(counts: Floats) -> Floats:
    total = counts.sum(-1, keepdims=True)
    shares: Floats = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return shares
