"""Write docs/benchmark.md and its pictures from results of the long benchmark.

`python -m benchmarks.document [--take HOME …]` takes `artifacts/evidence/results.json` of homes
into `benchmarks/results/` (one for each source) and writes the page anew from what lies there.
Nobody types a figure: a test writes the page again and compares it with the committed one.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.pictures import draw_accuracy, draw_curves, draw_gates, draw_learning
from pipelines.paths import Paths

__all__ = ["block", "page", "readme", "results"]

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
SOURCES = {"simulated": "Simulated markets", "files": "Real markets"}
_POOLED = "mean over markets"
_QUOTED = ("base_rate", "lightgbm", "cnn", "moe_rule", "moe_mlp")
_BEGIN, _END = "<!-- benchmark: written by python -m benchmarks.document -->", "<!-- end -->"
_HEAD = """# The benchmark

Written by `python -m benchmarks.document` from `benchmarks/results/`; nobody typed a figure here.
How a figure comes about stands in [protocol.md](protocol.md). Accuracy, ECE and the surest tenth
are per cent, ± half the 95 % interval over sessions (on simulated markets: over paths); log-loss
is in nats; break-even is the cost in basis points a trade at which following the calls earns
nothing, net of half the spread; latency is one window's time over the plain CNN's, both served by
ONNX Runtime on one thread, other units beside them ([speed.md](speed.md) measures it alone). The
seed's figures are a hypothesis, printed beside ours.
"""
_SIMULATED = """Only the sign of the next move is modelled there, with a known probability, so a
model can be scored without label noise. *Bayes* is told the law, *informed* mixes the true laws by
what can be inferred from the model's inputs; no honest model passes the informed ceiling. The
fingerprint nearly names the law on these markets, which flatters any gate
([ceilings.md](ceilings.md)).
"""


def results(source: str) -> dict[str, Any] | None:
    """Return the committed results of a source, or None if there are none yet."""
    path = RESULTS / f"benchmark-{source}.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD]
    for source, title in SOURCES.items():
        if (found := results(source)) is not None:
            parts.append(_section(source, title, found))
    return "\n".join(parts)


def block() -> str:
    """Return the table that README shows between its markers: a few models, means over markets."""
    lines = [
        "| mean over markets | accuracy, % | log-loss | of informed lift |",
        "|---|--:|--:|--:|",
    ]
    for source, title in SOURCES.items():
        if (found := results(source)) is None:
            continue
        for model in _QUOTED:
            row = _find(found, _POOLED, model)
            cells = [f"{title.lower()}: {model}", _interval(row, "accuracy", 100, 2)]
            cells += [_interval(row, "log_loss", 1, 4), _share(row, "informed_lift")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def readme(text: str) -> str:
    """Return README with the block between its markers written anew."""
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    return f"{before}{_BEGIN}\n\n{block()}\n\n{_END}{after}"


def _section(source: str, title: str, found: Mapping[str, Any]) -> str:
    facts = found["metadata"]
    seeds = facts["params"]["benchmark"]["seeds"]
    lines = [
        f"## {title}",
        "",
        f"`{facts['command']}`, commit `{facts['commit'][:10]}`, "
        f"seeds {', '.join(map(str, seeds))}, MLflow run `{facts['run'][:8]}`; results in "
        f"`benchmarks/results/benchmark-{source}.json`. The rival, best on validation: "
        f"`{facts['rival']}`.{_took(facts)}",
        "",
    ]
    if source == "simulated":
        lines += [_SIMULATED]
    lines += [f"![accuracy](benchmark-{source}-accuracy.svg)", ""]
    for market in dict.fromkeys(row["market"] for row in found["table"]):
        lines += _market(found, market)
    if found["checks"]:
        lines += ["### Targets", "", *_checks(found), ""]
    lines += ["### Paired tests", "", *_tests(found), ""]
    lines += ["### Volatility", "", *_volatility(found), ""]
    lines += [
        f"![risk and reliability](benchmark-{source}-curves.svg)",
        "",
        "Left of each pair: accuracy of the surest rows against their share. Right: share of ups "
        "against the probability that was said.",
        "",
        f"![gates](benchmark-{source}-gates.svg)",
        "",
        f"![learning](benchmark-{source}-learning.svg)",
        "",
    ]
    return "\n".join(lines)


def _market(found: Mapping[str, Any], market: str) -> list[str]:
    rows = [row for row in found["table"] if row["market"] == market]
    lines = [
        f"### {market}",
        "",
        f"n {rows[0]['n']:,},{_ties(rows[0])} base rate {100 * rows[0]['base_rate']:.2f} %",
        "",
        "| model | accuracy | log-loss | ECE | surest 10 % | break-even | lift | of informed lift "
        "| of informed gain | latency | seed |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    from atlas.benchmark import SEED_FIGURES

    for row in rows:
        seed = SEED_FIGURES.get(market, {}).get(row["model"])
        cells = [
            row["model"],
            _interval(row, "accuracy", 100, 2),
            _interval(row, "log_loss", 1, 4),
            _number(row["ece"], 100, 2),
            _number(row["accuracy_surest"], 100, 2),
            _number(row["break_even"], 1e4, 2),
            _number(row["lift"], 1, 3),
            _share(row, "informed_lift"),
            _share(row, "informed_gain"),
            _number(row["latency"], 1, 2),
            _number(seed, 100, 1),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _took(facts: Mapping[str, Any]) -> str:
    """Say how long it took from the first draw to the table, if it was done at one go."""
    took = facts.get("took")
    if took is None:
        return ""
    said = f" {took['cpu_s'] / 60:.0f} minutes of processor time in {took['units']} units"
    if took["done"] == took["units"]:
        said += f"; {took['wall_s'] / 60:.0f} minutes from start to table, {took['jobs']} at once"
    return said + "."


def _ties(row: Mapping[str, Any]) -> str:
    """Say how many rows did not move; results of before ties were counted hold none."""
    return "" if row.get("ties") is None else f" ties {row['ties']:,.0f},"


def _tests(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "Log-loss by Diebold–Mariano on session means, Holm over markets; accuracy by McNemar on "
        "resampled sessions. Below 0 the first model loses less.",
        "",
        "| model | against | market | log-loss | p | Holm | accuracy | p |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in found["tests"]:
        cells = [row["model"], row["against"], row["market"], f"{row['loss_difference']:+.5f}"]
        cells += [_p(row["dm_p"]), _p(row["dm_p_holm"])]
        cells += [f"{100 * row['accuracy_difference']:+.2f}", _p(row["mcnemar_p"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _checks(found: Mapping[str, Any]) -> list[str]:
    lines = ["| figure | value | target | met |", "|---|--:|---|---|"]
    for row in found["checks"]:
        error = "" if row["error"] is None else f" ± {row['error']:.4f}"
        value = f"{row['value']:.4f}{error}"
        cells = (row["figure"], value, row["target"], "yes" if row["met"] else "no")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _volatility(found: Mapping[str, Any]) -> list[str]:
    markets = list(dict.fromkeys(row["market"] for row in found["volatility"]))
    models = dict.fromkeys(row["model"] for row in found["volatility"])
    by_place = {(row["model"], row["market"]): row for row in found["volatility"]}
    head = ["| model | " + " | ".join(markets) + " |", "|---|" + "--:|" * len(markets)]
    lines = [
        "Realised variance of the coming bars: QLIKE, and R² of its log in brackets. The variance",
        "is that of each model's log, smeared on validation rows ([protocol.md](protocol.md)).",
        "",
        *head,
    ]
    for model in models:
        rows = [by_place[model, market] for market in markets]
        cells = [f"{row['qlike']:.4f} ({_number(row['r2'], 1, 3)})" for row in rows]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    lines += ["", "QLIKE without the smearing, e to the power of the log that was said:", "", *head]
    for model in models:
        cells = [f"{by_place[model, market]['qlike_as_said']:.4f}" for market in markets]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "By Diebold–Mariano on session means, Holm over markets; tables above are by rows.",
    ]
    lines += ["", "| model | against | market | QLIKE | p | Holm |", "|---|---|---|--:|--:|--:|"]
    for row in found["volatility_tests"]:
        cells = [row["model"], row["against"], row["market"], f"{row['qlike_difference']:+.5f}"]
        cells += [_p(row["dm_p"]), _p(row["dm_p_holm"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _find(found: Mapping[str, Any], market: str, model: str) -> dict[str, Any]:
    rows = [r for r in found["table"] if r["market"] == market and r["model"] == model]
    assert rows, f"{model} is not in the results of {market}"
    row: dict[str, Any] = rows[0]
    return row


def _interval(row: Mapping[str, Any], name: str, scale: float, digits: int) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return f"{scale * row[name]:.{digits}f}"
    return f"{scale * row[name]:.{digits}f} ± {scale * (high - low) / 2:.{digits}f}"


def _share(row: Mapping[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    return f"{row[name]:.3f} ± {row[f'{name}_error']:.3f}"


def _number(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{scale * value:.{digits}f}"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def main(
    take: Annotated[list[Path] | None, typer.Option(help="homes with a long benchmark")] = None,
) -> None:
    """Take results of homes, then write page and pictures."""
    RESULTS.mkdir(exist_ok=True)
    for home in take or []:
        path = Paths(home.resolve()).artifacts / "evidence" / "results.json"
        source = json.loads(path.read_text(encoding="utf-8"))["metadata"]["source"]
        shutil.copyfile(path, RESULTS / f"benchmark-{source}.json")
    docs = PROJECT / "docs"
    for source in SOURCES:
        if (found := results(source)) is not None:
            draw_accuracy(found, docs / f"benchmark-{source}-accuracy.svg")
            draw_curves(found, docs / f"benchmark-{source}-curves.svg")
            draw_gates(found, docs / f"benchmark-{source}-gates.svg")
            draw_learning(found, docs / f"benchmark-{source}-learning.svg")
    (docs / "benchmark.md").write_text(page(), encoding="utf-8")
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    (PROJECT / "README.md").write_text(readme(text), encoding="utf-8")
    typer.echo(f"wrote {docs / 'benchmark.md'}")


if __name__ == "__main__":
    typer.run(main)
