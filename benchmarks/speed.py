"""Write docs/speed.md from the results of the benchmarks of single parts.

`python -m benchmarks.speed [--take FILE …]` takes documents that `python -m benchmarks NAME --json
FILE` wrote into `benchmarks/results/` and writes the page anew from what lies there. Nobody types a
figure: a test writes the page again and compares it with the committed one.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["page", "results"]

PROJECT = Path(__file__).parent.parent
RESULTS = PROJECT / "benchmarks" / "results"
NAMES = ("fingerprint", "fingerprint_scale", "chart", "latency", "predict", "ingest")
_UPPER = ("latency", "predict", "ingest")  # their targets are upper bounds
_AT_MOST = "at_most"  # in the name of a ratio that must stay below its target
_HEAD = """# Speed of the parts

Written by `python -m benchmarks.speed` from `benchmarks/results/speed-*.json`; nobody typed a
figure here. Peers run in the rounds of ours, and a ratio is taken within each round, so that a busy
machine slows all alike. What is said of one core is in seconds of a processor; the rows of two
threads are wall time and mean little where the machine has other work: read them beside the
memset's own gain on two threads.

Where the floor's own rounds lie far apart, other guests of the host took memory's bandwidth, from
which a copy suffers more than arithmetic does; the share in the best rounds (p90 over p90) is then
the stricter figure, and the one to trust.
"""
_SHARES = {
    "fingerprint": ("fingerprint", "copy of the same columns"),
    "fingerprint_scale": ("fingerprint, 20 M bars", "copy, 20 M bars"),
    "chart": ("render", "memset of the output"),
}
_BOUNDS = {
    "fingerprint": """**What bounds it.** A row is eleven columns from seven, and the copy moves
both. Ours reads and writes the same once, so the rest of its time is arithmetic in blocks that stay
in the second cache: three logarithms, nine divisions and four square roots a bar, and the sums of
the windows from their parts, all in vector instructions but for one chain: the squares of a session
are added in order, which fixes vol30's last bit. Subtracting running sums would save additions and
lose the property that a row has the same bits in a tail and in the history. Tried and kept: the
null tables looked up in loops of their own, the last sums of the variance ratio fused into its
result, fewer calls a block. Tried and left: smaller and larger blocks, which cost calls or cache.
""",
    "fingerprint_scale": """**What bounds it.** A call checks a frame, finds its sessions and makes
a frame, whatever its length: more than a millisecond of pandas, where the arithmetic of ten
thousand bars takes a third of one. So time per bar nears its floor beyond 100,000 bars, not before.
`atlas.fingerprint_symbols` pays the call once for all symbols; what is left between it and one long
history is each symbol's own sessions and first rows. Memory beyond input and output is a few
blocks, and the frame's own bookkeeping of its index.
""",
    "chart": """**What bounds it.** A pixel takes a few additions, minima and maxima; the processor
does them 16 at a time, and comparing as integers leaves its adders to the additions. A memset can
write whole cache lines without reading them first, which a computed store cannot: that alone keeps
a renderer below it. On two threads both come to the limit of the memory they share: where the
memset gains little from its second core, so does the renderer, though it is nothing but arithmetic
between stores and holds no lock.
""",
    "latency": """*moe* has the gate inside; *routed* reads the gate's weights from the row of the
fingerprint, where they are written once a bar; *discrete* is a CNN for each expert, asked for its
own windows; *control* is the same CNN once more. *operators* are those that ONNX Runtime starts.
All sessions are opened anew every ten rounds: where one's memory lies is worth some percent.

**What bounds it.** At batch 1 a network's time is that of starting its operators, each of somewhat
under a microsecond and hardly any arithmetic. What the mixture adds are its gate (three products,
top k, softmax), the product that mixes the rows, and three operators that scale, shift and rectify
the charts' responses, which the CNN's convolution does by itself: compare *routed* and *rule*,
which have no gate to ask, with *moe*. From batch 32 on arithmetic counts, and they are hardly any.

**What was tried**, on the same weights, with how far the answers are from the eager network's
(*distance*):

- *trained*: the graph in the form of training, every expert's row weighed by a gate that is masked,
  cut, divided and scattered. The form that is served (`atlas/graph_form.py`) takes the k chosen
  rows from one table instead, with the mask in the gate's biases: the same answers.
- *strided*: the row after the strided reduction, on a quarter of the charts' responses. The fastest
  from batch 32 on, but another network: its answers are not these, and it would have to be trained.
- *folded*: the row folded into the convolutions once a bar (`AtlasMoE.merge`), which costs what the
  CNN costs. Its answers are these only while all windows of a call share one row, and each bar
  would open a session of its own.
- *fused*: standardizer, gate and mixing compiled into one loop by Numba, which hands the graph a
  mixed row. The same answers; calling it and laying out its input costs more than the operators.
""",
    "predict": """One symbol is asked with 320 bars, a thousand with 320 each. *through_mlflow* is
`model.predict`, the others `model.unwrap_python_model().predict`: see [serving.md](serving.md).

**What bounds it.** For one symbol, a few hundred calls of NumPy and pandas of some microseconds
each: reading and checking the frame, the fingerprint, the window's inputs, the frame of the answer;
the network is a small part of it. MLflow's schema looks at each value of a column without a fixed
type in turn; fixed types would refuse whole prices, times with a zone and names as categories.
""",
    "ingest": """On one core, by `taskset -c 0`.

**What bounds it.** Of a night on top, about two fifths are the fixed cost of Great
Expectations, which builds its metrics and its page anew whatever the number of rows.
""",
}


def results(name: str) -> dict[str, Any] | None:
    """Return the committed results of a benchmark, or None if there are none yet."""
    path = RESULTS / f"speed-{name}.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD]
    for name in NAMES:
        if (found := results(name)) is not None:
            parts.append(_section(name, found))
    return "\n".join(parts)


def _section(name: str, found: Mapping[str, Any]) -> str:
    facts = found["metadata"]
    versions = ", ".join(f"{package} {text}" for package, text in facts["versions"].items())
    lines = [
        f"## {name}",
        "",
        f"`python -m benchmarks {name}`, commit `{facts['commit'][:10]}`, seed {facts['seed']}, "
        f"{facts['cores']} cores ({facts['processor']}), {facts['date'][:10]}; {versions}.",
        "",
        "| ratio | value | target | met |",
        "|---|--:|--:|---|",
    ]
    for row in found["ratios"]:
        lines.append("| " + " | ".join(_claim(row, name in _UPPER)) + " |")
    if name in _SHARES:
        rates = {row["name"]: row["p90"] for row in found["results"]}
        ours, floor = _SHARES[name]
        share = _figure(rates[ours] / rates[floor])
        lines.append(f"| share of the floor in the best rounds, p90 over p90 | {share} | | |")
    lines += ["", "| what | median | p10 | p90 | unit | n |", "|---|--:|--:|--:|---|--:|"]
    for row in found["results"]:
        cells = [_figure(row[key]) for key in ("median", "p10", "p90")]
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['unit']} | {row['n']} |")
    return "\n".join([*lines, "", _BOUNDS[name]])


def _claim(row: Mapping[str, Any], upper: bool) -> list[str]:
    value, target = row["value"], row["target"]
    if target is None:
        return [row["name"], _figure(value), "", ""]
    least = not upper and _AT_MOST not in row["name"]
    met = value >= target if least else value <= target
    sign = "≥" if least else "≤"
    return [row["name"], _figure(value), f"{sign} {target:g}", "yes" if met else "no"]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def main(
    take: Annotated[list[Path] | None, typer.Option(help="documents of the benchmarks")] = None,
) -> None:
    """Take documents, then write the page."""
    RESULTS.mkdir(exist_ok=True)
    for path in take or []:
        name = json.loads(path.read_text(encoding="utf-8"))["metadata"]["benchmark"]
        if name not in NAMES:
            raise typer.BadParameter(f"expected results of {', '.join(NAMES)}; got {name!r}")
        shutil.copyfile(path, RESULTS / f"speed-{name}.json")
    (PROJECT / "docs" / "speed.md").write_text(page(), encoding="utf-8")
    typer.echo(f"wrote {PROJECT / 'docs' / 'speed.md'}")


if __name__ == "__main__":
    typer.run(main)
