"""Lay docs/ideas.md out from benchmarks/results/ideas.json; nobody types a figure."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from atlas.deflation import deflated_probability, expected_maximum, normal_score
from atlas.evaluation import POOLED
from benchmarks.idea_table import BLENDS, ENSEMBLE, IDEAS, REREADINGS, USUAL
from benchmarks.units import table

__all__ = ["page", "verdict"]

Units = Mapping[str, Any]
_MNAT = 1e3  # thousandths of a nat
_SURE = 0.95
_HEAD = """# Ideas for direction

Written by `{command}` from `benchmarks/results/ideas.json`
(commit `{commit}`, one thread); nobody typed a figure here. What a good researcher would try on
real bars, each idea one change of the usual mixture (`moe_mlp` of params.yaml), at the cut of
{cut} and half of a night's budget ({windows:,} windows an epoch, at most {epochs} epochs), {seeds}.

{verdict}

- **Where**: {markets}. The other markets begin later than the cut.
- **Judged** on the {judged} sessions before the cut, which no training has seen: early stopping, α
  and Platt scaling use the {tuned} sessions before those, training the rest; purged at both edges.
  The test span after the cut is not looked at, but by the chosen idea, once.
- **Figures** are thousandths of a nat of log-loss; below 0 the first loses less. Intervals (95 %)
  are from resampled sessions, mean over markets.
- An idea that changes the **question** (a horizon, a relative direction) has a base rate of its own
  and is compared with that alone: it is another game.
- **Trials** are those that the ledger knows on the same sessions. *Skill* is how sure it is, after
  so many, that an idea is better than its base rate (above {sure} is taken for skill): without any
  skill the best of {trials} would score {luck:.2f} standard deviations.
"""


def page(found: Mapping[str, Any]) -> str:
    """Return docs/ideas.md; what is not measured yet is named."""
    units, settings = found["units"], found["settings"]
    usual = units[f"compared {USUAL}"]
    head = _HEAD.format(
        command=found["metadata"]["command"],
        commit=_commit(found["metadata"]),
        cut=settings["cut"],
        windows=settings["windows_per_epoch"],
        epochs=settings["epochs"],
        seeds=f"seed{'s' if len(usual['seeds']) > 1 else ''} {', '.join(map(str, usual['seeds']))}",
        verdict=verdict(units),
        markets=_facts(units),
        judged=settings["judged"],
        tuned=settings["tuned"],
        sure=_SURE,
        trials=_trials(units),
        luck=expected_maximum(_trials(units)),
    )
    parts = [head, _ideas(units), _by_market(units), _kept(units), _beside(units)]
    if "tested" in units:
        parts.append(_tested(units["tested"]))
    missing = [n for n in (*IDEAS, *REREADINGS, *BLENDS) if f"compared {n}" not in units]
    if missing:
        listed = ", ".join(f"`{name}`" for name in missing)
        parts.append(f"Not measured yet: {listed}. The command goes on from here.\n")
    return "\n".join(parts)


def verdict(units: Units) -> str:
    """Return what came of it, in a sentence or two."""
    rows, tested = _compared(units), units.get("tested")
    least = min(rows, key=lambda name: float(rows[name]["base"][POOLED]["value"]))
    best = tested["chosen"] if tested else least
    own, trials = rows[best]["base"][POOLED], _trials(units)
    sure = _skill(own, trials)
    said = (
        f"Of {len(rows)} ways `{best}` is furthest below its base rate on validation, by "
        f"{_interval(own, sign=-1)} thousandths of a nat; after {trials} trials skill is "
        f"{sure:.2f} sure"
    )
    if best == USUAL:
        return fill(f"**No idea beats the usual mixture.** {said}.", 100)
    if tested is None:
        waits = "**Nothing is scored on the test span before all ideas are trained.**"
        return fill(f"{said}. {waits}", 100)
    test = tested[best][POOLED]
    holds = test["high"] < 0
    claim = "There it holds" if holds else "There nothing is proven"
    usual = tested[USUAL][POOLED]
    return fill(
        f"{said}. It was then scored on the test span, once. **{claim}**: {_interval(test)} from "
        f"its base rate, the usual mixture {_interval(usual)}.",
        100,
    )


def _ideas(units: Units) -> str:
    rows = []
    for name, unit in _compared(units).items():
        own, trials = unit["base"][POOLED], _trials(units)
        against = _interval(unit["usual"][POOLED]) if "usual" in unit else ""
        below = sum(one["value"] < 0 for market, one in unit["base"].items() if market != POOLED)
        ahead = f"{below} of {len(unit['base']) - 1}"
        cells = [f"`{name}`", _said(name), _interval(own), against, ahead]
        rows.append([*cells, f"{_skill(own, trials):.2f}"])
    head = (
        "idea | what is changed | less its base rate's | less the usual mixture's | markets below"
    )
    return f"""## Each idea

{table(f"{head} | skill", rows, left=2)}
{_noise(units)}"""


def _noise(units: Units) -> str:
    """Say how far another seed of the usual mixture is from the first."""
    values = [
        _MNAT * units[f"train {USUAL} {seed}"][POOLED]["value"]
        for seed in ENSEMBLE
        if f"train {USUAL} {seed}" in units
    ]
    if len(values) < 2:
        return ""
    listed = ", ".join(f"{value:+.2f}" for value in values)
    return f"""
Seeds 1 to {len(values)} of the usual mixture alone are {listed} from the base rate: what is
smaller than their differences is no property of an idea.
"""


def _by_market(units: Units) -> str:
    rows, compared = [], _compared(units)
    markets = [market for market in compared[USUAL]["base"] if market != POOLED]
    for name, unit in compared.items():
        cells = [_interval(unit["base"][m]) if m in unit["base"] else "" for m in markets]
        rows.append([f"`{name}`", *cells])
    return f"""## By market

Less the base rate of its own question.

{table(" | ".join(["idea", *markets]), rows)}
"""


def _kept(units: Units) -> str:
    """Show how much of each network is in its answer."""
    compared = _compared(units)
    markets = [market for market in compared[USUAL]["base"] if market != POOLED]
    rows = [
        [f"`{name}`", *(f"{unit['alpha'][market]:.2f}" for market in markets)]
        for name, unit in compared.items()
        if "alpha" in unit
    ]
    return f"""## How much of the network is left

α scales what a network adds to its base and is chosen on the tuned sessions, from 0 (the base
alone, the market's best simple rival) to 1.5. Where it is 0, ideas differ in nothing but their base
and Platt scaling.

{table(" | ".join(["idea", *markets]), rows)}
"""


def _beside(units: Units) -> str:
    rows = [
        [name, _interval(scores[POOLED]), f"{100 * scores[POOLED]['hits']:.2f}"]
        for name, scores in units["rivals"]["scores"].items()
        if name != "base_rate"
    ]
    usual = units[f"compared {USUAL}"]["base"][POOLED]
    rows.append([f"`{USUAL}`", _interval(usual), f"{100 * usual['hits']:.2f}"])
    return f"""## Beside them, the simple rivals

The same judged rows; right calls are means over markets, of which the base rate has
{100 * usual["other_hits"]:.2f} %.

{table("model | less the base rate's | % right", rows)}
"""


def _tested(found: Mapping[str, Any]) -> str:
    rows = []
    for name in (found["chosen"], USUAL):
        scores = found[name]
        rows += [
            [f"`{name}`", market, _interval(one), f"{one['n']:,}"] for market, one in scores.items()
        ]
    lines = [
        "## The chosen idea on the test span",
        "",
        f"Scored once, by the weights that were judged; the ledger knows {found['trials']} trials "
        "there.",
        "",
        table("model | market | less the base rate's | n", rows, left=2),
        "",
    ]
    if "difference" in found:
        pooled = found["difference"][POOLED]
        lines.append(
            f"Less the usual mixture's, mean over markets: {_interval(pooled)}, p = "
            f"{pooled['p']:.2g}.\n"
        )
    return "\n".join(lines)


def _facts(units: Units) -> str:
    facts = units["rivals"]["facts"]
    rows = [
        f"{market} ({one['judged']:,} rows, {one['from']} to {one['to']})"
        for market, one in facts.items()
    ]
    return ",\n  ".join(rows)


def _compared(units: Units) -> dict[str, Mapping[str, Any]]:
    names = (*IDEAS, *REREADINGS, *BLENDS)
    return {n: units[f"compared {n}"] for n in names if f"compared {n}" in units}


def _trials(units: Units) -> int:
    return max(int(unit["trials"]) for unit in _compared(units).values())


def _said(name: str) -> str:
    row = IDEAS.get(name) or REREADINGS.get(name) or BLENDS[name]
    return row.said


def _skill(own: Mapping[str, float], trials: int) -> float:
    return deflated_probability(normal_score(own["value"], own["p"]), trials)


def _interval(one: Mapping[str, float], sign: int = 1) -> str:
    ends = sorted(sign * _MNAT * one[name] for name in ("low", "high"))
    value = sign * _MNAT * one["value"]
    plus = "+" if sign > 0 else ""
    return f"{value:{plus}.2f} [{ends[0]:{plus}.2f}, {ends[1]:{plus}.2f}]"


def _commit(facts: Mapping[str, Any]) -> str:
    return str(facts.get("landed", facts["commit"]))[:10]
