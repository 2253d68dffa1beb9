"""Dictionary, kernels mixed per window (CondConv), whole networks: what each costs and finds.

`python -m benchmarks.condconv --home HOME` measures sizes and times, trains the forms for three
seeds on the simulated markets of a night, as `benchmarks.balance` trains the dictionary, and writes
docs/condconv.md. It keeps every unit in `benchmarks/results/condconv.json` as it ends; `--only`
names the units of one call. Times want a quiet machine.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer

from atlas.training import train
from atlas.windows import MarketData
from benchmarks.balance import BUDGET, SEEDS, TESTED, configuration, load, score
from benchmarks.form_costs import BATCHES, latencies, sizes
from benchmarks.forms import build_form
from benchmarks.units import (
    PROJECT,
    Results,
    difference,
    mean_and_spread,
    resumed,
    table,
    write_page,
)

__all__ = ["COMPARED", "page"]

COMPARED = ("answers", "kernels", "discrete")  # benchmarks.balance trains the dictionary
COMMAND = "python -m benchmarks.condconv --home HOME"
_TITLES = {
    "cnn": "CNN",
    "control": "the same CNN again",
    "dictionary": "dictionary: rows mixed",
    "answers": "`moe.bank: expert`: answers mixed",
    "kernels": "CondConv: kernels mixed",
    "discrete": "whole networks, top 2",
}
_HEAD = """# Dictionary, CondConv, whole networks

The seed's open question: should experts own kernels, and is CondConv more memory-efficient than
discrete experts? Written by `{command}`
from `benchmarks/results/condconv.json` (commit `{commit}`, one thread); nobody typed a figure here.

- **dictionary** (the default): the kernels are shared, an expert owns a row of scales and shifts.
- **`moe.bank: expert`**: an expert owns every kernel; all answer, and the answers are mixed.
- **CondConv** (Yang et al., 2019): an expert owns every kernel; the gate's weights mix them into
  one set for each window, which is applied once (`benchmarks/forms.py`).
- **whole networks**: an expert is a CNN of its own, and a window goes to its top two alone.

## Costs

Weights are of all six experts, everything else is of chart windows under the top-2 gate. Operations
are of products and convolutions, two for a multiply-add. *Session* is by how much a process grows
that opens ONNX Runtime's session and runs 256 windows; *step* is what a training step keeps
for its backward pass, 256 windows, every expert asked. Whole networks count no gate, gather or
scatter in session and time, which favors them.
"""
_TIMES = """Times are ratios to the CNN, ONNX Runtime, medians of {rounds} interleaved rounds; a
second CNN beside the first shows what the machine alone makes of a ratio. A graph has no
convolution whose kernels differ by window: CondConv's is a product of patches there.
"""
_LIFT = """## Lift and gain

Trained on the simulated markets of a night at {windows:,} windows (an eighth of a night's budget),
`explore_share` {explore:g}, the same gate, base, draws and learning rates for all; scored on
{tested:,} test windows a market against the known probabilities, means over markets, of Bayes. The
dictionary's are the first row of [balance.md](balance.md). *Whole networks, top 2* are the
discrete dispatch.
"""


def page() -> str:
    """Return docs/condconv.md as the results file says it; what is missing there is named."""
    found = Results("condconv").read()
    units, facts = found["units"], found["metadata"]
    parts = [_HEAD.format(command=facts["command"], commit=facts["commit"][:10])]
    if "sizes" in units:
        parts += [_sizes(units["sizes"]), ""]
    if "latency" in units:
        rounds = units["latency"]["cnn"]["1"]["n"]
        parts += [_TIMES.format(rounds=rounds), _times(units), ""]
    seeds = _seeds(units)
    if seeds:
        settings = found["settings"]
        text = _LIFT.format(
            windows=settings["epochs"] * settings["windows_per_epoch"],
            explore=settings["explore_share"],
            tested=settings["tested"],
        )
        parts += [text, _scores(units, seeds), "", *_answer(units, seeds), ""]
    missing = [name for name in ("sizes", "latency") if name not in units]
    missing += [f"lift and gain with seed {seed}" for seed in SEEDS if seed not in seeds]
    if missing:
        parts += [f"Not measured yet: {', '.join(missing)}.", "The command goes on from here.", ""]
    return "\n".join(parts)


def _seeds(units: Mapping[str, Any]) -> list[int]:
    """Return the seeds for which every form has been trained."""
    shared = Results("balance").read().get("units", {})
    return [
        seed
        for seed in SEEDS
        if f"entropy warm {seed}" in shared
        and all(f"train {form} {seed}" in units for form in COMPARED)
    ]


def _sizes(units: Mapping[str, Any]) -> str:
    rows = [
        [
            _TITLES[form],
            f"{own['parameters']:,}",
            f"{own['parameters'] * 4 / 1024:,.0f}",
            f"{own['kflop']:,.0f}",
            f"{own['session_mib']:.1f}",
            f"{own['training_mib']:.1f}",
        ]
        for form, own in units.items()
    ]
    header = "form | parameters | weights, KiB | kFLOP a window | session, MiB | step, MiB"
    return table(header, rows)


def _times(units: Mapping[str, Any]) -> str:
    rows = [
        [_TITLES[form]]
        + [f"{own[str(b)]['median']:,.0f}" for b in BATCHES]
        + [f"{own[str(b)]['over_cnn']:.2f}" for b in BATCHES]
        for form, own in units["latency"].items()
    ]
    header = "form | us, batch 1 | 32 | 256 | over the CNN, batch 1 | 32 | 256"
    return table(header, rows)


def _trained(
    units: Mapping[str, Any], form: str, name: str, seeds: Sequence[int]
) -> npt.NDArray[np.float64]:
    if form == "dictionary":
        shared = Results("balance").read()["units"]
        return np.array([shared[f"entropy warm {seed}"][name] for seed in seeds])
    return np.array([units[f"train {form} {seed}"][name] for seed in seeds])


def _scores(units: Mapping[str, Any], seeds: Sequence[int]) -> str:
    rows = []
    for form in ("dictionary", *COMPARED):
        for name in ("lift", "gain"):
            values = _trained(units, form, name, seeds)
            cells = [f"{value:.3f}" for value in values]
            rows.append([_TITLES[form], name, *cells, mean_and_spread(values)])
    names = [f"seed {seed}" for seed in seeds]
    return table(" | ".join(["form", "of Bayes", *names, "mean ± sd"]), rows, left=2)


def _answer(units: Mapping[str, Any], seeds: Sequence[int]) -> Sequence[str]:
    """Say what the figures answer: differences to the dictionary, paired by seed."""
    lines = ["Against the dictionary, paired by seed (mean ± standard error):", ""]
    for form in COMPARED:
        parts = []
        for name in ("lift", "gain"):
            own = _trained(units, form, name, seeds)
            parts.append(f"{name} {difference(own - _trained(units, 'dictionary', name, seeds))}")
        if "sizes" in units:
            more = units["sizes"][form]["parameters"] / units["sizes"]["dictionary"]["parameters"]
            parts.append(f"{more:.2f} times the parameters")
        lines.append(f"- {_TITLES[form]}: {', '.join(parts)}.")
    return lines


def main(
    home: Annotated[Path, typer.Option(help="of a simulated night")] = PROJECT,
    only: Annotated[str, typer.Option(help="units whose key begins so")] = "",
    minutes: Annotated[float, typer.Option(help="after which no unit is begun")] = 60.0,
) -> None:
    """Measure what is missing, then write the page."""
    config = configuration()
    settings = {**BUDGET, "explore_share": config.training.explore_share, "tested": TESTED}
    data: dict[str, MarketData] = {}
    units: dict[str, Callable[[], dict[str, Any]]] = {
        "sizes": lambda: sizes(config),
        "latency": lambda: latencies(config),
    }
    for seed in SEEDS:
        for form in COMPARED:
            units[f"train {form} {seed}"] = partial(_on, data, home, form, seed)
    chosen = {key: work for key, work in units.items() if key.startswith(only)}
    resumed("condconv", COMMAND, SEEDS[0], settings, chosen, minutes)
    write_page("condconv", page())


def _on(data: dict[str, MarketData], home: Path, form: str, seed: int) -> dict[str, Any]:
    return _train(form, seed, data or _filled(data, home))


def _filled(data: dict[str, MarketData], home: Path) -> dict[str, MarketData]:
    data.update(load(home))
    return data


def _train(form: str, seed: int, data: Mapping[str, MarketData]) -> dict[str, Any]:
    config = configuration()
    torch.manual_seed(seed)
    model = build_form(form, config)
    train(model, data, config.training, seed=seed)
    found = score(model, data)
    return {"lift": found.lift, "gain": found.gain, "load": found.load.tolist()}


if __name__ == "__main__":
    typer.run(main)
