"""Lay docs/pretraining.md out from benchmarks/results/pretraining.json; nobody types a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atlas.evaluation import POOLED
from benchmarks.units import Results, difference, mean_and_spread, table

__all__ = ["page", "verdict"]

_HEAD = """# Pre-trained kernels

The seed's open question: does self-supervised pre-training of the kernels on unlabelled charts
help? Written by `{command}` from
`benchmarks/results/pretraining.json` ({commit}, one thread); nobody typed a figure here.

{verdict}

- **What is learned**: of each window a block of {hidden} bars is hidden, 0 to {latest} bars before
  its end, and replaced by a straight line; a small decoder says from the stem's and the kernels'
  answers what the hidden bars' moves and sizes were. Decoder and adapter are thrown away, stem and
  kernels are kept.
- **From what**: every window of the training span, labelled or not; never a validation or test bar.
- **Budget**: that of a training, {windows:,} windows, at {rate:g} of its learning rate, since
  kernels begin as templates and not as noise.
- **With and without**: the MLP mixture, same seed, same draws, same budget ({windows:,} windows);
  only the first weights of stem and kernels differ. The time of pre-training comes on top.
"""
_SURE = 0.05
_TITLES = {"simulated": "## Simulated markets\n", "files": "## Real markets\n"}
_SIMULATED = """Drawn for each seed, {drawn:,} training and {tested:,} test windows a market,
scored against the known probabilities: lift and gain, of Bayes, ± a standard error over paths. The
difference is of gain, with its 95 % interval over the same paths; p is of the expected log-loss
(Diebold–Mariano over paths), Holm over markets. That another seed of the same arm differs too is
not in it.
"""
_REAL = """An archive's own night: the newest sessions are tested (`cut` of params.yaml). Log-loss
of the direction in nats and QLIKE of the realised variance (its log, smeared on validation rows),
means over seeds; differences with 95 % intervals by Diebold–Mariano on session means, Holm over
markets. Below 0 the pre-trained network loses less.
"""
_TRIED = """## Blocks that were tried

On drawn markets at a small budget ({small:,} windows, pre-training {pre:,}), scored on
*validation* alone: log-loss of the mixture, less that of the same seed without pre-training. What
is held out is told as the share of the baseline's loss that is left.
"""


def page() -> str:
    """Return docs/pretraining.md as the results file says it; what is missing is named."""
    found = Results("pretraining").read()
    units, facts, settings = found["units"], found["metadata"], found["settings"]
    windows = settings["epochs"] * settings["windows_per_epoch"]
    hidden, latest = settings["block"]
    head = _HEAD.format(
        command=facts["command"],
        commit=_commit(facts),
        verdict=verdict(units),
        hidden=hidden,
        latest=latest,
        windows=windows,
        rate=settings["rate"],
    )
    parts = [head]
    for source in ("simulated", "files"):
        if f"{source} kernels 1" not in units:
            continue
        count = _seeds(units, source)
        parts.append(_TITLES[source])
        if count:
            parts += [*_compared(units, source, count, settings), ""]
        parts += [*_learned(units, source, max(count, 1)), ""]
    parts += _tried(units, settings)
    missing = [name for name in ("simulated", "files") if _seeds(units, name) < 3]
    if missing:
        lines = [f"{name}, {_seeds(units, name)} of 3 seeds" for name in missing]
        lines += [] if any(key.startswith("tried ") for key in units) else ["other blocks"]
        parts += [
            f"Not measured in full yet: {'; '.join(lines)}. The command goes on from here.",
            "",
        ]
    return "\n".join(parts)


def _commit(facts: Mapping[str, Any]) -> str:
    """Name the commit that was measured, and the one of the same code where it was rebased."""
    landed = facts.get("landed_as")
    also = f", landed as `{landed[:10]}`" if landed else ""
    return f"commit `{facts['commit'][:10]}`{also}"


def _compared(
    units: Mapping[str, Any], source: str, count: int, settings: Mapping[str, Any]
) -> list[str]:
    text = _SIMULATED if source == "simulated" else _REAL
    rows = units[f"{source} compared {count}"]["rows"]
    laid = _simulated(rows) if source == "simulated" else _real(rows)
    return [text.format(**settings), laid, "", _time(units, source, count)]


def _seeds(units: Mapping[str, Any], source: str) -> int:
    """Return for how many seeds both arms have been compared."""
    return max((n for n in (1, 2, 3) if f"{source} compared {n}" in units), default=0)


def verdict(units: Mapping[str, Any]) -> str:
    """Say in words what the pooled differences are, and so why it is off."""
    said = []
    names = {
        "simulated": (("gain_difference", "p", "gain of the simulated markets", 1),),
        "files": (
            ("loss_difference", "p", "log-loss of the real ones", -1),
            ("qlike_difference", "qlike_p", "QLIKE of the real ones", -1),
        ),
    }
    ahead: list[str] = []
    behind: list[str] = []
    sure = []
    for source, figures in names.items():
        count = _seeds(units, source)
        if not count:
            continue
        *markets, row = units[f"{source} compared {count}"]["rows"]
        assert row["market"] == POOLED
        for key, p, words, better in figures:
            value, low, high = row[key]
            if row[p] < _SURE:
                (ahead if better * value > 0 else behind).append(words)
            seeds = f"{count} seed{'s' * (count > 1)}"
            interval = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
            said.append(f"{words} {interval}, p {row[p]:.2g} ({seeds})")
            sure += [
                f"{one['market']} ({words.split()[0]} {one[key][0]:+.4f})"
                for one in markets
                if one[p.replace("p", "holm")] < _SURE
            ]
    answer = f"Proven better: {', '.join(ahead)}" if ahead else "No gain in the mean is proven"
    answer += f"; proven worse: {', '.join(behind)}" if behind else ""
    alone = f"Markets that differ with Holm's p below .05: {', '.join(sure) or 'none'}."
    lines = [f"**{answer}.** With less without, means over markets:", ""]
    lines += [f"- {one}" for one in said]
    return "\n".join([*lines, "", f"{alone} `pretraining: none` is the default."])


def _simulated(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        cells = [row["market"]]
        for name in ("lift", "gain"):
            cells += [_pair(row[arm][name]) for arm in ("cold", "pretrained")]
        cells += [_interval(row["gain_difference"], 4), _p(row["p"]), _p(row["holm"])]
        lines.append(cells)
    header = "market | lift, without | with | gain, without | with | difference of gain | p | Holm"
    return table(header, lines)


def _real(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for name, key, prefix in (
        ("log_loss", "loss_difference", ""),
        ("qlike", "qlike_difference", "qlike_"),
    ):
        title = "log-loss" if name == "log_loss" else "QLIKE"
        lines = [
            [
                row["market"],
                f"{row['n']:,}",
                *(f"{row[arm][name]:.5f}" for arm in ("cold", "pretrained")),
                _interval(row[key], 5),
                _p(row[f"{prefix}p"]),
                _p(row[f"{prefix}holm"]),
            ]
            for row in rows
        ]
        parts.append(table(f"market | n | {title}, without | with | difference | p | Holm", lines))
    return "\n\n".join(parts)


def _time(units: Mapping[str, Any], source: str, count: int) -> str:
    kinds = {"kernels": "pre-training", "cold": "training without", "pretrained": "training with"}
    means = [
        f"{words} {np.mean([units[f'{source} {kind} {s}']['cpu_s'] for s in _of(count)]):.0f} s"
        for kind, words in kinds.items()
    ]
    return f"Of a processor, mean over {count} seed{'s' * (count > 1)}: {', '.join(means)}."


def _learned(units: Mapping[str, Any], source: str, count: int) -> list[str]:
    """Return the loss curve and the held-out shares by market of the first seed."""
    first = units[f"{source} kernels 1"]
    curve = [f"{epoch['held']:.4f}" for epoch in first["history"]]
    lines = [
        "The loss of pre-training as a share of the baseline's, which answers with a straight line "
        f"and the window's mean size (seed 1, held-out bars, epoch by epoch): {', '.join(curve)}.",
        "",
    ]
    rows = []
    for market in first["markets"]:
        own = [units[f"{source} kernels {s}"]["markets"][market] for s in _of(count)]
        cells = [[one[name] for one in own if name in one] for name in ("move", "size")]
        rows.append([market, *(mean_and_spread(values) if values else "" for values in cells)])
    return [*lines, table("market | of moves | of sizes", rows)]


def _tried(units: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys(
        key.removeprefix("tried ").rpartition(" ")[0] for key in units if key.startswith("tried ")
    )
    rows = []
    for name in names:
        if name == "none":
            continue
        own = {s: units[f"tried {name} {s}"] for s in (1, 2) if f"tried {name} {s}" in units}
        pairs = [
            one["validation"] - units[f"tried none {s}"]["validation"]
            for s, one in own.items()
            if f"tried none {s}" in units
        ]
        if pairs:
            hidden, latest = name.split()
            shares = [np.mean([one[k] for one in own.values()]) for k in ("held_move", "held_size")]
            cells = [hidden, latest, *(f"{share:.3f}" for share in shares)]
            rows.append([*cells, difference(pairs), str(len(pairs))])
    if not rows:
        return []
    tried = settings["tried"]
    text = _TRIED.format(
        small=tried["epochs"] * tried["windows_per_epoch"], pre=tried["pretraining"]
    )
    header = "hidden | bars behind, at most | left of moves | of sizes | log-loss | seeds"
    return [text, table(header, rows), ""]


def _of(count: int) -> range:
    return range(1, count + 1)


def _pair(share: Sequence[float]) -> str:
    return f"{share[0]:.3f} ± {share[1]:.3f}"


def _interval(value: Sequence[float], digits: int) -> str:
    mean, low, high = (f"{x:+.{digits}f}" for x in value)
    return f"{mean} [{low}, {high}]"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
