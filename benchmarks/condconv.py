"""Dictionary, kernels mixed per window (CondConv), whole networks: what each costs and finds.

`python -m benchmarks.condconv --home HOME` measures sizes and times, trains the forms for three
seeds on the simulated markets of a night, as `benchmarks.balance` trains the dictionary, and writes
docs/condconv.md. It keeps every unit in `benchmarks/results/condconv.json` as it ends; `--only`
names the units of one call. Times want a quiet machine.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from atlas.training import train
from atlas.windows import MarketData
from benchmarks.balance import BUDGET, SEEDS, TESTED, configuration, load, score
from benchmarks.form_costs import BATCHES, latencies, sizes
from benchmarks.forms import build_form
from benchmarks.units import PROJECT, Results, resumed, table, write_page

__all__ = ["COMPARED", "page"]

COMPARED = ("kernels", "discrete")  # with the dictionary, which benchmarks.balance trains
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
discrete experts? Written by `{command}` from `benchmarks/results/condconv.json` (commit
`{commit}`, one thread); nobody typed a figure here.

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
dictionary's are the first row of [balance.md](balance.md).
"""


def page() -> str:
    """Return docs/condconv.md as the results file says it."""
    found = Results("condconv").read()
    units, facts = found["units"], found["metadata"]
    head = _HEAD.format(command=facts["command"], commit=facts["commit"][:10])
    rounds = units["latency"]["cnn"]["1"]["n"]
    settings = found["settings"]
    lift = _LIFT.format(
        windows=settings["epochs"] * settings["windows_per_epoch"],
        explore=settings["explore_share"],
        tested=settings["tested"],
    )
    parts = [head, _sizes(units["sizes"]), "", _TIMES.format(rounds=rounds), _times(units)]
    return "\n".join([*parts, "", lift, _scores(units), "", *_answer(units), ""])


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


def _trained(units: Mapping[str, Any], form: str, name: str) -> list[float]:
    if form == "dictionary":
        shared = Results("balance").read()["units"]
        return [shared[f"entropy warm {seed}"][name] for seed in SEEDS]
    return [units[f"train {form} {seed}"][name] for seed in SEEDS]


def _scores(units: Mapping[str, Any]) -> str:
    rows = []
    for form in ("dictionary", *COMPARED):
        for name in ("lift", "gain"):
            values = _trained(units, form, name)
            cells = [f"{value:.3f}" for value in values]
            mean = f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
            rows.append([_TITLES[form], name, *cells, mean])
    header = "form | of Bayes | seed 1 | seed 2 | seed 3 | mean ± sd"
    return table(header, rows, left=2)


def _answer(units: Mapping[str, Any]) -> Sequence[str]:
    """Say what the figures answer: differences to the dictionary, paired by seed."""
    lines = ["## The answer", ""]
    base = units["sizes"]["dictionary"]
    for form in COMPARED:
        own, parts = units["sizes"][form], []
        for name in ("lift", "gain"):
            values = np.subtract(_trained(units, form, name), _trained(units, "dictionary", name))
            error = values.std(ddof=1) / len(values) ** 0.5
            parts.append(f"{name} {values.mean():+.3f} ± {error:.3f}")
        cost = own["parameters"] / base["parameters"]
        time_ = [
            units["latency"][form][str(b)]["median"]
            / units["latency"]["dictionary"][str(b)]["median"]
            for b in BATCHES
        ]
        lines.append(
            f"- {_TITLES[form]}, against the dictionary: {' and '.join(parts)} (mean and standard "
            f"error over seeds), for {cost:.2f} times the parameters and {time_[0]:.2f}, "
            f"{time_[1]:.2f}, {time_[2]:.2f} times the time at batches of 1, 32, 256."
        )
    return lines


def main(
    home: Annotated[Path, typer.Option(help="of a simulated night")] = PROJECT,
    only: Annotated[str, typer.Option(help="units whose key begins so")] = "",
    minutes: Annotated[float, typer.Option(help="after which no unit is begun")] = 60.0,
) -> None:
    """Measure what is missing, then write the page if nothing is."""
    config = configuration()
    settings = {**BUDGET, "explore_share": config.training.explore_share, "tested": TESTED}
    data: dict[str, MarketData] = {}
    units: dict[str, Callable[[], dict[str, Any]]] = {
        "sizes": lambda: sizes(config),
        "latency": lambda: latencies(config),
    }
    for seed in SEEDS:
        for form in COMPARED:
            units[f"train {form} {seed}"] = lambda form=form, seed=seed: _train(
                form, seed, data or _filled(data, home)
            )
    chosen = {key: work for key, work in units.items() if key.startswith(only)}
    found = resumed("condconv", COMMAND, SEEDS[0], settings, chosen, minutes)
    if units.keys() <= found["units"].keys():
        write_page("condconv", page())


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
