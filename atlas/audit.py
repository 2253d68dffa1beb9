"""Prove the walk: change what must not be seen, and look whether anything noticed.

- What is known at bar t must not change when every bar after t does: fingerprints, charts, gate
  and prediction. A label must not change with bars after its horizon, a training row with bars of
  the validation span, scaling with anything but training rows, the grid with any label.
- Nothing here trusts what it checks: where a label ends is counted anew from horizon and session,
  not read from `Labels.last`; the functions that label and cut are those of the stages, handed in.
- A finding of nothing looked at is `unknown`, never `tight`.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atlas.base import install_base
from atlas.inputs import gather
from atlas.moe import Network
from atlas.prediction import predict
from atlas.windows import WINDOW, Labels, MarketData, Panel, Split

__all__ = [
    "Cutter",
    "Finding",
    "Labeller",
    "changed_rows",
    "check_cut",
    "check_future",
    "check_labels",
    "check_rolls",
    "check_scaling",
    "finding",
    "scrambled",
]

Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]
Verdict = Literal["tight", "leak", "blind", "unknown"]
Labeller = Callable[[Panel], Labels]
Cutter = Callable[[Panel, Labels], Split]
_CHART = ("image", "series")
_GATE = ("gate_probs", "expert_ids", "expert_weights")
_SAID = ("probability", "logit", "log_rv_predicted")
_HOLES = 0.3  # of the labels that the check of the grid takes away


class Finding(NamedTuple):
    """What one check saw.

    Attributes:
        market: the market.
        cut: the cut it is about, `nightly` or a date; empty where it is about none.
        check: what was checked.
        looked: rows looked at.
        changed: rows that changed and must not have.
        verdict: `leak` if any did; `blind` if a leak laid on purpose was not seen; `unknown` if
            there was nothing to look at.
        note: what else to know.
    """

    market: str
    cut: str
    check: str
    looked: int
    changed: int
    verdict: Verdict
    note: str = ""


def finding(
    market: str, check: str, looked: int, changed: int, *, cut: str = "", note: str = ""
) -> Finding:
    """Judge by what changed."""
    verdict: Verdict = "leak" if changed else "tight" if looked else "unknown"
    return Finding(market, cut, check, int(looked), int(changed), verdict, note)


def changed_rows(a: NDArray[np.generic], b: NDArray[np.generic]) -> Flags:
    """Say which rows of two arrays (N, …) differ in any bit; NaN equals NaN."""
    a, b = np.asarray(a), np.asarray(b)
    same = (a == b) | ((a != a) & (b != b))
    return np.asarray(~same.reshape(len(a), -1).all(axis=1))


def scrambled(panel: Panel, poisoned: Flags, *, seed: int = 0) -> Panel:
    """Return the panel with other bars, fingerprints and verdicts where `poisoned` (N,) says so."""
    rng, count = np.random.default_rng(seed), int(poisoned.sum())
    factor = np.exp(0.5 * rng.standard_normal(count))
    values, fingerprint, rule = panel.values.copy(), panel.fingerprint.copy(), panel.rule.copy()
    if panel.modality == "surface":
        tilt = np.exp(0.1 * rng.standard_normal((count, *values.shape[1:])))
        values[poisoned] = values[poisoned] * factor[:, None, None] * tilt
    else:
        values[:4, poisoned] *= factor
        values[4, poisoned] *= 1 + 9 * rng.random(count)
    fingerprint[poisoned] = fingerprint[poisoned] * 3 + 1
    rule[poisoned] = np.roll(rule[poisoned], 1)
    return replace(panel, values=values, fingerprint=fingerprint, rule=rule)


def check_future(
    own: MarketData, poisoned: Panel, rows: Positions, model: Network, *, index: int
) -> list[Finding]:
    """Compare charts, other inputs, gate and prediction of windows whose future was poisoned.

    Args:
        own: the market as it is.
        poisoned: its panel, other after the windows' ends, fingerprints made from those bars.
        rows: the windows' ends, (B,).
        model: any network; trained or not.
        index: the market's place in it.
    """
    name, measure = own.panel.market, own.labels.question.measure
    if not rows.size:
        checks = ("chart", "other inputs", "gate", "prediction")
        return [finding(name, f"future, {check}", 0, 0) for check in checks]
    dirty = replace(own, panel=poisoned)
    clean_in, dirty_in = (
        gather(each.panel, rows, market_index=index, measure=measure) for each in (own, dirty)
    )
    clean_out, dirty_out = (predict(model, each, rows, market_index=index) for each in (own, dirty))
    fields = [field for field in clean_in._fields if field not in ("modality", *_CHART)]
    pairs = {
        "chart": [(getattr(clean_in, f), getattr(dirty_in, f)) for f in _CHART],
        "other inputs": [(getattr(clean_in, f), getattr(dirty_in, f)) for f in fields],
        "gate": [(clean_out[f], dirty_out[f]) for f in _GATE],
        "prediction": [(clean_out[f], dirty_out[f]) for f in _SAID],
    }
    return [
        finding(name, f"future, {check}", rows.size, _any_changed(arrays))
        for check, arrays in pairs.items()
    ]


def check_labels(
    panel: Panel, labels: Labels, labeller: Labeller, *, volatility_horizon: int
) -> list[Finding]:
    """Check that labels read their horizon and no bar more, and cross no close and no symbol."""
    reach = labels.question.skip + labels.question.horizon
    targets = ((labels.direction, reach), (labels.log_rv, volatility_horizon))
    looked, changed = 0, 0
    times = np.unique(panel.timestamp)
    for place, share in enumerate((0.5, 0.8, 0.95)):
        moment = times[int(share * (times.size - 1))]
        other = labeller(scrambled(panel, panel.timestamp > moment, seed=place))
        for (before, bars), after in zip(targets, (other.direction, other.log_rv), strict=True):
            end, inside = _ahead(panel, bars)
            done = inside & (panel.timestamp[end] <= moment)
            looked += int(done.sum())
            changed += int((changed_rows(before, after) & done).sum())
    found = [finding(panel.market, "future, label", looked, changed)]
    crossing, labelled = 0, 0
    closes = panel.has_close and panel.timeframe.is_intraday and panel.modality == "chart"
    for values, bars in targets:
        end, inside = _ahead(panel, bars)
        beyond = ~inside | ((panel.session[end] != panel.session) if closes else False)
        crossing += int((np.isfinite(values) & beyond).sum())
        labelled += int(np.isfinite(values).sum())
    note = "" if closes else "no close to cross; ends of symbols"
    return [*found, finding(panel.market, "label, close", labelled, crossing, note=note)]


def check_rolls(panel: Panel, labels: Labels, *, volatility_horizon: int) -> Finding:
    """Check bar by bar that no label reads beyond the contract of the bar it belongs to.

    `unknown` where bars name no contract: then a roll cannot be seen.
    """
    name, check = panel.market, "label, roll"
    if panel.contract is None:
        note = "bars name no contract: a roll inside a horizon cannot be seen"
        return finding(name, check, 0, 0, note=note)
    reach = labels.question.skip + labels.question.horizon
    crossed = np.zeros(panel.timestamp.size, np.bool_)
    labelled = 0
    for values, bars in ((labels.direction, reach), (labels.log_rv, volatility_horizon)):
        known = np.isfinite(values)
        labelled += int(known.sum())
        for step in range(1, bars + 1):
            end, _ = _ahead(panel, step)
            crossed |= known & (panel.contract[end] != panel.contract)
    rolls = int((np.diff(panel.contract) != 0)[np.diff(panel.first) == 0].sum())
    return finding(name, check, labelled, int(crossed.sum()), note=f"rolls: {rolls}")


def check_cut(
    panel: Panel,
    labels: Labels,
    labeller: Labeller,
    cutter: Cutter,
    *,
    name: str,
    volatility_horizon: int,
) -> list[Finding]:
    """Check purge, embargo, the order of the parts and the grid of one cut."""
    split, market = cutter(panel, labels), panel.market
    parts = [(split.train, split.validation), (split.validation, split.test)]
    end = _label_ends(panel, labels, volatility_horizon)
    embargo = int((end - np.arange(end.size)).max(initial=0))
    looked, crossed, near, disorder = 0, 0, 0, 0
    for early, late in parts:
        if not early.size or not late.size:
            continue
        day = int(panel.session[late].min())
        other = labeller(scrambled(panel, panel.session >= day))
        moved = changed_rows(labels.direction, other.direction)
        moved |= changed_rows(labels.log_rv, other.log_rv)
        ends_late = panel.session[end] >= day
        looked += early.size
        crossed += int((moved | ends_late)[early].sum())
        near += int((end[early] + embargo >= panel.reached(day)[early]).sum())
        disorder += int((panel.session[early] >= day).sum()) + np.intersect1d(early, late).size
    off = [
        finding(market, "purge", looked, crossed, cut=name),
        finding(market, "embargo", looked, near, cut=name, note=f"{embargo} bars"),
        finding(market, "order of parts", looked, disorder, cut=name),
    ]
    return [*off, _grid(panel, labels, cutter, split, name)]


def check_scaling(own: MarketData, build: Callable[[], Network]) -> Finding:
    """Fit scaling and base, poison every bar and label from validation on, fit again, compare."""
    split, panel = own.split, own.panel
    later = np.concatenate([split.validation, split.test])
    if not later.size or not split.train.size:
        return finding(panel.market, "scaling", 0, 0)
    spoiled = panel.session >= panel.session[later].min()
    direction, log_rv = own.labels.direction.copy(), own.labels.log_rv.copy()
    direction[spoiled], log_rv[spoiled] = 1 - direction[spoiled], log_rv[spoiled] + 5
    other = replace(
        own,
        panel=scrambled(panel, spoiled),
        labels=replace(own.labels, direction=direction, log_rv=log_rv),
    )
    states, model = [], build()
    for each in (own, other):
        install_base(model, {panel.market: each})
        states.append({name: t.detach().numpy().copy() for name, t in model.state_dict().items()})
    changed = sum(
        bool(changed_rows(before.reshape(-1), states[1][name].reshape(-1)).any())
        for name, before in states[0].items()
    )
    return finding(panel.market, "scaling", split.train.size, changed, note="tensors that changed")


def _grid(panel: Panel, labels: Labels, cutter: Cutter, split: Split, name: str) -> Finding:
    """Take labels away and turn them round: no row but the ones taken may come or go."""
    holes = np.random.default_rng(0).random(labels.direction.size) < _HOLES
    fewer = replace(labels, direction=np.where(holes, np.float32(np.nan), labels.direction))
    turned = replace(labels, direction=1 - labels.direction)
    thinned, flipped = cutter(panel, fewer), cutter(panel, turned)
    looked, changed = 0, 0
    for part in ("validation", "test"):
        rows = getattr(split, part)
        looked += rows.size
        changed += np.setxor1d(getattr(thinned, part), rows[~holes[rows]]).size
        changed += np.setxor1d(getattr(flipped, part), rows).size
        changed += int((panel.index[rows] % labels.question.horizon != 0).sum())
        changed += int((panel.index[rows] < WINDOW - 1).sum())
    return finding(panel.market, "grid before labels", looked, changed, cut=name)


def _ahead(panel: Panel, bars: int) -> tuple[Positions, Flags]:
    """Return the position `bars` later and whether it is of the same symbol, (N,) each."""
    n = panel.timestamp.size
    end = np.minimum(np.arange(n) + bars, max(n - 1, 0))
    return end, (panel.first[end] == panel.first) & (np.arange(n) + bars < n)


def _label_ends(panel: Panel, labels: Labels, volatility_horizon: int) -> Positions:
    """Return the last bar that any target of a row reads, counted from the horizons, (N,)."""
    rows = np.arange(panel.timestamp.size)
    reach = labels.question.skip + labels.question.horizon
    tied = labels.tied if labels.tied.size else np.zeros(rows.size, np.bool_)
    asked = np.isfinite(labels.direction) | tied
    steps = np.maximum(asked * reach, np.isfinite(labels.log_rv) * volatility_horizon)
    return np.asarray(np.minimum(rows + steps, max(rows.size - 1, 0)))


def _any_changed(pairs: Iterable[tuple[NDArray[np.generic], NDArray[np.generic]]]) -> int:
    return int(np.any([changed_rows(a, b) for a, b in pairs], axis=0).sum())
