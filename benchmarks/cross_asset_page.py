"""docs/cross-asset.md, written from `benchmarks/results/cross-asset.json`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from atlas.basket_config import HEDGED
from atlas.catalogue import CROSS_ASSET
from atlas.evaluation import POOLED
from benchmarks.units import Results, table

__all__ = ["page"]

NAME: Final = "cross-asset"
_LEVEL: Final = 0.05
Row = Mapping[str, Any]
_HEAD = """# A cross-asset expert

The seed's first open question: would experts help that see several series at once, such as an
inflation-hedge basket? Written by `{command}` from
`benchmarks/results/cross-asset.json` (commit `{commit}`); nobody typed a figure here.

## What it is

`inflation_hedge` is a seventh expert, off by default. Beside a window's own chart it sees a basket
of other series, TIPS, energy and gold at least: for each its own line and the symbol's line
relative to it, read by 1-D kernels that only this expert weighs. Its range in the catalogue is
`{column} >= {low:g}`: the correlation of the symbol's last 63 log returns with the mean of the
basket's, each in its own standard deviations (of independent returns .9 % of windows pass). The
rule names it there, the learned gate sees all of the basket's correlations and, after the warm
start, goes its own way. Where the gate leaves it out the basket changes nothing; the six experts,
the base and the draws are those of `moe_mlp`. Without the block below, nothing of this is built.

```yaml
basket:
  series: {{tips: low_vol_etf/TIP, energy: futures_30min/WTI, gold: futures_30min/GOLD}}
  markets: [equity_daily, low_vol_etf]   # who sees it
  stale_days: 5                          # so long a last bar stands for newer ones
  overlap: 250                           # sessions at whose close the whole basket must be known
```

With it `python -m pipelines evidence` on an archive trains `moe_mlp_hedge` beside the others and
tests it against `moe_mlp`. Simulated markets have nothing in common and take no notice of it, nor
do nights: no registered model sees a basket yet.

**The contract.** A series is a market/symbol of the home, validated in the same night, of any
timeframe. A bar of it counts only if it had *closed* by the close of the bar that asks, by the
calendars of both: dates are never compared. Its last bar stands for up to `stale_days`; after
that, and where any of a window's 64 bars lacks a series, the basket is unknown and the expert gets
no weight. A symbol that is of the basket does not see itself there. A series that is missing, or
overlaps a market too little, ends the command with exit code 2 before anything is trained.
Poisoning every bar of the basket after t changes nothing at t (`tests/test_hedge.py`), and where a
follower's next move is made to be gold's last, the expert finds it.
"""
_SEEN = """*known*: windows with a basket; *named*: those where the rule names the expert;
*carried*: known ones whose oldest quote was not from that very close, and its greatest age;
*mark*: the median correlation.
"""
_PAIRED = """With less without, seeds averaged: below 0 in log-loss, above 0 in accuracy it is
better. Diebold–Mariano by session, McNemar by resampled sessions, Holm over markets. A market that
*sees none* cannot gain by the basket: a difference there is between two trainings of the shared
weights, and says how far such a difference goes without any cause."""
_WITH = """## With and without it

In the markets that see the basket, mean over them, Diebold–Mariano by session. The p-values are of
sessions, not of trainings: with few seeds another training may differ by as much.
"""
_TITLES = {
    "listed": "What is listed, from 2005 on: energy is a company, gold a mine",
    "spot": "The things themselves, from the end of 2020 on: contracts on oil and gold",
}


def page() -> str:
    """Return the page as the results file says it; a basket that is missing there is named."""
    found = Results(NAME).read()
    facts, baskets = found["metadata"], found["units"]
    (limit,) = CROSS_ASSET[0].ranges
    parts = [
        _HEAD.format(
            command=facts["command"],
            commit=facts["commit"][:10],
            column=limit.column,
            low=limit.low,
        )
    ]
    parts += [_answer({name: own for name, own in baskets.items() if name in _TITLES})]
    for name, own in baskets.items():
        parts += _section(name, own)
    missing = [name for name in _TITLES if name not in baskets]
    if missing:
        parts.append(f"Not measured yet: {', '.join(missing)}. The command goes on from here.\n")
    return "\n".join(parts)


def _answer(baskets: Mapping[str, Row]) -> str:
    """Say what the paired tests say: with against without."""
    lines = [_WITH]
    for name, own in baskets.items():
        pooled = own["seeing"][-1]
        held = own["seeing"][:-1]
        ahead = [row["market"] for row in held if _holds(row, below=True)]
        behind = [row["market"] for row in held if _holds(row, below=False)]
        runs = {(unit["cut"], unit["seed"]) for unit in own["units"]}
        cuts, seeds = (sorted({str(run[place]) for run in runs}) for place in (0, 1))
        lines += [
            f"- **{name}** (cut at {', '.join(cuts)}; seeds {', '.join(seeds)}; "
            f"{', '.join(row['market'] for row in held)}): log-loss",
            f"  {_signed(pooled['loss_difference'], 5)} nats, 95 % interval "
            f"{_signed(pooled['loss_low'], 5)} to {_signed(pooled['loss_high'], 5)}, "
            f"p = {pooled['dm_p']:.2g};",
            f"  accuracy {_signed(100 * pooled['accuracy_difference'], 2)} points; significantly "
            f"ahead in {_names(ahead)}, behind in {_names(behind)}.",
        ]
    lines += ["", _verdict(baskets), ""]
    costs = next(iter(baskets.values()))["costs"]
    less, more = (costs[model] for model in ("moe_mlp", HEDGED))
    lines += [
        f"It adds {more['parameters'] - less['parameters']:,} weights to "
        f"{less['parameters']:,}, and a training takes {more['cpu_s'] / less['cpu_s']:.2f} times "
        "the processor's seconds.",
        "",
    ]
    return "\n".join(lines)


def _verdict(baskets: Mapping[str, Row]) -> str:
    pooled = {name: own["seeing"][-1] for name, own in baskets.items()}
    found = [name for name, row in pooled.items() if row["dm_p"] < _LEVEL]
    helps = [name for name in found if pooled[name]["loss_difference"] < 0]
    costs = [name for name in found if name not in helps]
    if helps:
        other = f", and costs with {_names(costs)}" if costs else ""
        return f"The expert helps with {_names(helps)}{other}; off until another archive agrees."
    if costs:
        return f"No gain is shown, and with {_names(costs)} the expert costs: it stays off."
    return (
        "No gain is shown: whatever the basket tells of the next daily move is too little to be "
        "seen in these tests. The expert stays off."
    )


def _section(name: str, own: Row) -> list[str]:
    series = ", ".join(f"{role} `{spec}`" for role, spec in own["series"].items())
    tests = [_test(row, own["markets"]) for row in own["tests"]]
    named = [_test(row, own["markets"]) for row in own["named"]]
    return [
        f"## {_TITLES.get(name, name)}",
        "",
        f"`{name}`: {series}.",
        "",
        _SEEN,
        table(
            "cut | market | part | windows | known | named | carried | oldest, days | mark",
            [_shown(row) for row in own["seen"]],
            left=3,
        ),
        "",
        "Per cent ± half the 95 % interval over sessions; log-loss in nats.",
        "",
        table(
            "market | model | n | accuracy | log-loss | weight of `inflation_hedge`",
            [_score(row, own["gates"]) for row in own["table"]],
            left=2,
        ),
        "",
        _PAIRED,
        "",
        table(_TESTED, tests),
        "",
        "The same in the windows where the rule names the expert, which was fixed beforehand:",
        "",
        table(_TESTED, named),
        "",
        "The coming realised variance; QLIKE by row, the difference by session:",
        "",
        table(
            "market | QLIKE without | with | difference | p | Holm",
            _volatility(own["volatility"], own["volatility_tests"], own["markets"]),
        ),
        "",
    ]


_TESTED: Final = "market | rows | log-loss | 95 % interval | p | Holm | accuracy | McNemar p"


def _shown(row: Row) -> list[str]:
    shares = [f"{100 * row[key]:.1f} %" for key in ("known", "named", "carried")]
    facts = [row["cut"], row["market"], row["part"], f"{row['windows']:,}"]
    return [*facts, *shares, f"{row['oldest_days']:.1f}", f"{row['mark']:.2f}"]


def _score(row: Row, gates: Mapping[str, Row]) -> list[str]:
    weights = gates.get(row["model"], {}).get(row["market"], {})
    weight = weights.get("inflation_hedge")
    return [
        row["market"],
        row["model"],
        f"{row['n']:,}",
        _interval(row, "accuracy", 100, 2),
        _interval(row, "log_loss", 1, 4),
        "" if weight is None else f"{weight:.2f}",
    ]


def _test(row: Row, seeing: Sequence[str]) -> list[str]:
    return [
        _told(row["market"], seeing),
        f"{row['n']:,}",
        _signed(row["loss_difference"], 5),
        f"{_signed(row['loss_low'], 5)} to {_signed(row['loss_high'], 5)}",
        _p(row["dm_p"]),
        _p(row["dm_p_holm"]),
        _signed(100 * row["accuracy_difference"], 2),
        _p(row["mcnemar_p"]),
    ]


def _told(market: str, seeing: Sequence[str]) -> str:
    return market if market in (POOLED, *seeing) else f"{market} (sees none)"


def _volatility(
    scores: Sequence[Row], tests: Sequence[Row], seeing: Sequence[str]
) -> list[list[str]]:
    rows = []
    for test in (row for row in tests if row["model"] == HEDGED):
        qlike = [
            _only(scores, market=test["market"], model=model)["qlike"]
            for model in ("moe_mlp", HEDGED)
        ]
        rows.append(
            [
                _told(test["market"], seeing),
                *(f"{value:.4f}" for value in qlike),
                _signed(test["qlike_difference"], 5),
                _p(test["dm_p"]),
                _p(test["dm_p_holm"]),
            ]
        )
    return rows


def _only(rows: Sequence[Row], **keys: str) -> Row:
    (found,) = [row for row in rows if all(row[name] == key for name, key in keys.items())]
    return found


def _holds(row: Row, *, below: bool) -> bool:
    return bool(row["dm_p_holm"] < _LEVEL and (row["loss_difference"] < 0) == below)


def _names(markets: Sequence[str]) -> str:
    return ", ".join(markets) or "none"


def _interval(row: Row, name: str, scale: float, digits: int) -> str:
    half = scale * (row[f"{name}_high"] - row[f"{name}_low"]) / 2
    return f"{scale * row[name]:.{digits}f} ± {half:.{digits}f}"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
