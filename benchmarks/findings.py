"""Write docs/findings.md and docs/why-not-65.md from the results that they quote.

`python -m benchmarks.findings` reads `benchmarks/results/` and nothing else: nobody types a figure,
and a test compares the pages with the files. A part whose results are not there yet is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from atlas.benchmark import SEED_FIGURES
from benchmarks import cross_asset_page, ideas_page, pretraining_page
from benchmarks.document import results as long_results
from benchmarks.units import Results, mean_and_spread, table, write_page

__all__ = ["findings", "why_not_65"]

POOLED = "mean over markets"
MODEL = "moe_mlp"
SURE = 0.05
_FINDINGS = """# Findings

What was tried, what held and what did not. Written by `python -m benchmarks.findings` from
`benchmarks/results/`; nobody typed a figure here. The protocol is [protocol.md](protocol.md), all
tables are in [benchmark.md](benchmark.md). Differences are `{model}` less its rival: below 0 it
loses less. Tests are of session means, tables of rows. Holm corrects over markets.
"""
_SMEARED = """QLIKE is of the variance that a model expects: its log, smeared on validation
rows, for all models alike ([protocol.md](protocol.md)). It was added when these cuts had been
scored without it, since e to the power of an expected log lies below the expected variance; so the
same tests stand beside it without. HAR-X, the linear base of the networks, is nearly all of what
they know. Its form and ridge were chosen on validation rows, and those before a later cut lie in
the test span of the cut before it: [training.md](training.md) tells the one span that is free of
that. Markets of six with a lower QLIKE, and those where Holm's p is below .05:
"""
_WHY = """# Why not 65 %?

Written by `python -m benchmarks.findings` from `benchmarks/results/`; nobody typed a figure here.

The design that ATLAS grew from came with a table of accuracies up to 66 %. We took it as a
hypothesis. On simulated markets, where such a signal was put in, the same models find it; on real
bars, with the same code, nobody does:
"""
_WALK = """## What 65 % would mean

A daily call that is right 65 times in 100, with moves of equal size either way, earns .3 of a mean
absolute move a day. With normal moves that is .3 · √(2/π) = .24 standard deviations a day, an
annual Sharpe ratio of .24 · √252 = 3.8 in a single symbol before costs, and more for every symbol
whose calls are independent. Nobody leaves that lying about in daily bars of large stocks. Where a
backtest shows it, the backtest is the first suspect.

## How it comes about

The same boosted trees on random walks, whose next move nobody can know (`python -m benchmarks
leaks`, medians of nine walks). What is above a half is the mistake's own work:
"""
_AFTER_LEAKS = """Leaks of this kind are opened on purpose and seen by tests (`tests/test_traps.py`,
`test_audit.py`, `test_windows.py`, `test_comparison.py`), and `python -m pipelines audit` looks for
them in a home's own data.

## From the seed's table to ours

1. **One protocol for all models**: cuts by date over all markets at once, labels purged by their
   true end, an embargo, a grid of rows fixed before labels are known, ties counted and dropped.
2. **The base rate beside every accuracy**, and an interval over sessions instead of rows.
3. **A rival chosen on validation**, a paired test, Holm over markets, every trial in the ledger.
4. **Costs**: the break-even cost of a trade net of half the spread. A bounce between bid and ask
   can be called right and not be earned.
"""


def findings() -> str:
    """Return docs/findings.md."""
    parts = [_FINDINGS.format(model=MODEL)]
    real, simulated = long_results("files"), long_results("simulated")
    if real is not None:
        parts += [_direction(real), *_ideas(), _volatility(real), _gating(real)]
    if simulated is not None:
        parts.append(_planted(simulated))
    own = (_forms(), _learned(), _retraining(), _cross_asset(), _pretraining())
    parts += [text for text in own if text]
    return "\n".join(parts)


def why_not_65() -> str:
    """Return docs/why-not-65.md."""
    parts = [_WHY, _seed_table(), "", _WALK, _leaks(), "", _AFTER_LEAKS]
    if (real := long_results("files")) is not None:
        own, base = (_row(real, POOLED, model)["log_loss"] for model in (MODEL, "base_rate"))
        parts.append(
            f"What remains of direction, on the mean of real markets: a log-loss of {own:.4f},\n"
            f"of the base rate alone {base:.4f}. Volatility is another matter: "
            "[findings.md](findings.md).\n"
        )
    return "\n".join(parts)


def _seed_table() -> str:
    rows = []
    sources = [found for name in ("simulated", "files") if (found := long_results(name))]
    for market, claimed in SEED_FIGURES.items():
        if MODEL not in claimed:
            continue
        cells = [market, f"{100 * claimed[MODEL]:.1f}"]
        for found in sources:
            row = _row(found, market, MODEL)
            cells += [_accuracy(row), f"{100 * row['base_rate']:.1f}"]
        rows.append(cells)
    names = " | ".join(f"{name} | base rate" for name in ("simulated", "real")[: len(sources)])
    return table(f"{MODEL}, % right | the seed | {names}", rows)


def _leaks() -> str:
    found = Results("leaks").read()
    rows = [
        [row["name"], f"{row['median']:.1f}", f"{row['p10']:.1f} … {row['p90']:.1f}"]
        for row in found["results"]
    ]
    return table("mistake | % right | p10 … p90", rows)


def _direction(real: Mapping[str, Any]) -> str:
    rival = real["metadata"]["rival"]
    rows = []
    for test in _tests(real["tests"], rival):
        own = _row(real, test["market"], MODEL)
        cells = [test["market"], _accuracy(own), f"{100 * own['base_rate']:.2f}"]
        cells += [
            f"{own['log_loss']:.4f}",
            f"{_row(real, test['market'], 'base_rate')['log_loss']:.4f}",
        ]
        cells += [f"{test['loss_difference']:+.5f}", _p(_holm_or_mean(test))]
        rows.append([*cells, _basis_points(own["break_even"])])
    ahead, behind = _counts(_tests(real["tests"], rival), "loss_difference")
    head = (
        f"market | accuracy | base rate | log-loss | base rate's | less {rival}'s | p | break-even"
    )
    seeds = real["metadata"]["params"]["benchmark"]["seeds"]
    return f"""## Direction on real bars: {_said_of_direction(real, rival)}

Up to three cuts a market, those that it has bars on both sides of; seeds
{", ".join(map(str, seeds))}. The rival, best on validation, is `{rival}`.
`{MODEL}` is significantly ahead of it in {_markets(ahead)}, significantly behind in {behind}.
Its log-loss lies above the base rate's in {_markets(_above_base(real))}. Break-even is in basis
points a trade, net of half the spread: below 0 the calls lose.

{table(head, rows)}
"""


def _above_base(real: Mapping[str, Any]) -> int:
    markets = {row["market"] for row in real["table"]} - {POOLED}
    return sum(
        _row(real, market, MODEL)["log_loss"] > _row(real, market, "base_rate")["log_loss"]
        for market in markets
    )


def _holm_or_mean(test: Mapping[str, Any]) -> float:
    adjusted = test["dm_p_holm"]
    return float(test["dm_p"] if adjusted is None else adjusted)


def _markets(count: int) -> str:
    return f"{count} market" if count == 1 else f"{count} markets"


def _said_of_direction(real: Mapping[str, Any], rival: str) -> str:
    pooled = next(test for test in _tests(real["tests"], rival) if test["market"] == POOLED)
    gains = pooled["loss_difference"] < 0 and pooled["dm_p"] < SURE
    over_base = _row(real, POOLED, MODEL)["log_loss"] < _row(real, POOLED, "base_rate")["log_loss"]
    return "a gain" if gains and over_base else "a null result"


def _volatility(real: Mapping[str, Any]) -> str:
    rows = []
    for rival in ("har", "harx", "garch", "lightgbm", "cnn", "moe_uniform"):
        cells = [rival]
        for kind in ("volatility_tests", "volatility_tests_as_said"):
            tests = _tests(real[kind], rival)
            own = [test for test in tests if test["market"] != POOLED]
            (pooled,) = (test for test in tests if test["market"] == POOLED)
            lower = sum(test["qlike_difference"] < 0 for test in own)
            cells += [str(lower), *map(str, _counts(tests, "qlike_difference"))]
            cells += [f"{pooled['qlike_difference']:+.4f}", _p(pooled["dm_p"])]
        rows.append(cells)
    half = "lower | surely lower | surely higher | mean | p"
    return f"""## Volatility on real bars

{_SMEARED}
{table(f"rival | {half} | without smearing: {half}", rows)}
"""


def _gating(real: Mapping[str, Any]) -> str:
    rows = []
    for model in ("moe_mlp", "moe_rule"):
        tests = [t for t in real["tests"] if t["model"] == model and t["against"] == "moe_uniform"]
        for test in tests:
            rows.append(
                [model, test["market"], f"{test['loss_difference']:+.5f}", _p(_holm_or_mean(test))]
            )
    return f"""## Does gating help on real bars?

The same experts with equal weights are the rival (`moe_uniform`): the routing gain in log-loss. p
is Holm's, of the mean its own.

{table("model | market | less moe_uniform's | p", rows, left=2)}

Of volatility: the row `moe_uniform` of the table under "Volatility on real bars".
"""


def _planted(simulated: Mapping[str, Any]) -> str:
    rows = [
        [
            check["figure"],
            f"{check['value']:.3f} ± {check['error']:.3f}",
            check["target"],
            "yes" if check["met"] else "no",
        ]
        for check in simulated["checks"]
    ]
    met = sum(check["met"] for check in simulated["checks"])
    return f"""## Where a signal was put in: {met} of {len(rows)} targets

On simulated markets the next move's probability is known. Shares of what an honest model can reach.
Targets with ≤ say how much may be found without the right expert if the simulation is to tell gates
apart; where they are missed it is easier than it should be ([ceilings.md](ceilings.md)):

{table("figure | value | target | met", rows)}
"""


def _ideas() -> list[str]:
    found = Results("ideas").read()
    if not found:
        return []
    return [
        f"""## What else was tried for direction

{ideas_page.verdict(found["units"])}

Each idea, by market, and the simple rivals beside them: [ideas.md](ideas.md).
"""
    ]


def _forms() -> str:
    found = Results("condconv").read()
    if not found:
        return ""
    rows = []
    for form, figures in _trained(found["units"]).items():
        rows.append(
            [form, *(mean_and_spread([f[name] for f in figures]) for name in ("lift", "gain"))]
        )
    return f"""## CondConv or whole networks?

At a small budget, an eighth of a night's, of Bayes, mean ± standard deviation over seeds. Costs and
the shared dictionary beside them are in [condconv.md](condconv.md): the dictionary is chosen for
latency and memory, not because it learns most in so short a time.

{table("form | lift | gain", rows)}
"""


def _trained(units: Mapping[str, Any]) -> dict[str, list[Mapping[str, float]]]:
    found: dict[str, list[Mapping[str, float]]] = {}
    for key, unit in units.items():
        if key.startswith("train "):
            found.setdefault(key.split()[1], []).append(unit)
    return found


def _learned() -> str:
    found = Results("learned").read()
    if not found:
        return ""
    lines = []
    for source, units in found["units"].items():
        drifts = sorted(value for unit in units for value in unit["drift"].values())
        middle = drifts[len(drifts) // 2]
        lines.append(
            f"- {source}: half of the kernels moved by less than {middle:.3f} of 1 (a cosine of "
            f"{1 - middle:.3f} with the template)."
        )
    return "\n".join(
        ["## What the experts learned", "", *lines, "", "By kernel: [learned.md](learned.md).", ""]
    )


def _retraining() -> str:
    found = Results("retraining").read()
    if not found:
        return ""
    rows = [
        [
            row["name"].removesuffix(" less usual"),
            f"{row['median']:+.2f}",
            f"{row['p10']:+.2f} … {row['p90']:+.2f}",
        ]
        for row in found["results"]
        if row["name"].endswith("less usual")
    ]
    return f"""## Warm or cold, sliding or expanding?

Log-loss less that of a cold start on all of the past, thousandths of a nat; below 0 is better.

{table("way to retrain | difference | p10 … p90", rows)}
"""


def _cross_asset() -> str:
    """Quote the page's own answer."""
    if not Results("cross-asset").read():
        return ""
    _, _, rest = cross_asset_page.page().partition("## With and without it\n")
    answer = rest.partition("\n## ")[0].strip()
    return f"""## Does a basket of other series help?

{answer}

More in [cross-asset.md](cross-asset.md).
"""


def _pretraining() -> str:
    found = Results("pretraining").read()
    if not found:
        return ""
    return f"""## Do kernels that were pre-trained on unlabelled charts help?

{pretraining_page.verdict(found["units"])}

More in [pretraining.md](pretraining.md).
"""


def _tests(tests: Sequence[Mapping[str, Any]], rival: str) -> list[Mapping[str, Any]]:
    return [test for test in tests if test["model"] == MODEL and test["against"] == rival]


def _counts(tests: Sequence[Mapping[str, Any]], name: str) -> tuple[int, int]:
    """Return in how many markets a difference is surely below and surely above 0."""
    sure = [t[name] for t in tests if t["market"] != POOLED and t["dm_p_holm"] < SURE]
    return sum(value < 0 for value in sure), sum(value > 0 for value in sure)


def _row(found: Mapping[str, Any], market: str, model: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] = next(
        r for r in found["table"] if r["market"] == market and r["model"] == model
    )
    return row


def _accuracy(row: Mapping[str, Any]) -> str:
    half = (row["accuracy_high"] - row["accuracy_low"]) / 2
    return f"{100 * row['accuracy']:.2f} ± {100 * half:.2f}"


def _basis_points(value: float | None) -> str:
    return "" if value is None else f"{1e4 * value:+.2f}"


def _p(value: float) -> str:
    return f"{value:.2g}"


def main() -> None:
    """Write both pages."""
    write_page("findings", findings())
    write_page("why-not-65", why_not_65())


if __name__ == "__main__":
    typer.run(main)
