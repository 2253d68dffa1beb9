"""What training made of the kernels: how far each is from its template, and who listens to it.

`python -m benchmarks.learned HOME …` reads the weights that the long benchmark left in homes (every
cut and seed of `moe_mlp`), keeps the figures in `benchmarks/results/learned.json` and writes
docs/learned.md. Nothing is trained.

- Drift is 1 − the cosine between a kernel as it is applied and its template: 0 has not moved, 1 has
  nothing left of it.
- An expert listens to a family of kernels by the size of its scales on them: it starts with 1 on
  its own families and the shared blocks, near 0 elsewhere.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.torch
import torch
import typer
from torch import Tensor

from atlas.config import ATLASConfig
from atlas.evaluation import POOLED
from atlas.experts import Expert
from atlas.kernels.bank import KernelBank
from atlas.moe import AtlasMoE, build_model
from benchmarks.balance import configuration
from benchmarks.harness import metadata
from benchmarks.units import Results, mean_and_spread, table, write_page
from pipelines.paths import Paths

__all__ = ["NAME", "drift", "page"]

NAME, VARIANT = "learned", "moe_mlp"
COMMAND = "python -m benchmarks.learned HOME …"
TITLES = {"simulated": "Simulated markets", "files": "Real markets"}
_HEAD = """# What the experts learned

Written by `{command}` from `benchmarks/results/learned.json`; nobody typed a figure here. Kernels
start as their templates and are trained. *Drift* is 1 − the cosine between a kernel as it is used
and its template, the median over the networks of the long benchmark, with the smallest and the
largest: 0 has not moved, 1 has nothing left of the template. The scales below say what an expert
listens to: it starts with 1 on its own kernels and on the shared blocks, near 0 on the others.
"""
Drifts = dict[str, float]


def drift(model: AtlasMoE, state: Mapping[str, Tensor]) -> Drifts:
    """Return the drift of every kernel from this untrained model's to the weights', by name."""
    before = _kernels(model)
    model.load_state_dict(dict(state))
    after = _kernels(model)
    return {name: 1 - _cosine(kernel, after[name]) for name, kernel in before.items()}


def page(found: Mapping[str, Any]) -> str:
    """Return docs/learned.md."""
    parts = [_HEAD.format(command=COMMAND)]
    for source, title in TITLES.items():
        if (units := found["units"].get(source)) is not None:
            parts.append(_section(title, units))
    parts += [_starts(), _real_start()]
    return "\n".join(part for part in parts if part)


def _starts() -> str:
    """Return templates against noise on simulated markets, nothing if that was not measured."""
    found = Results("starts").read()
    if not found:
        return ""
    settings, units = found["settings"], found["units"]
    rows = []
    for start in dict.fromkeys(key.split()[1] for key in units):
        own = [unit for key, unit in units.items() if key.split()[1] == start]
        rows.append([start, *(mean_and_spread([u[n] for u in own]) for n in ("lift", "gain"))])
    seeds = len({key.split()[2] for key in units})
    counted = f"{seeds} seed{'s' if seeds > 1 else ''}"
    return f"""## Templates or noise?

The same mixture with every kernel of stem and dictionary begun as noise, of the template's place,
length and norm: what is lost is the hand-made shape alone. On a night's simulated markets at
{settings["epochs"]} × {settings["windows_per_epoch"]:,} windows, {counted}, of Bayes, means over
markets (`{found["metadata"]["command"]}`):

{table("kernels begin as | lift | gain", rows)}
"""


def _real_start() -> str:
    """Return what the same change does on real bars, nothing if that was not measured."""
    units = Results("ideas").read().get("units", {})
    found = units.get("compared random_kernels", {}).get("usual")
    if not found:
        return ""
    own = found[POOLED]
    value, low, high = (1e3 * own[name] for name in ("value", "low", "high"))
    ways = "less" if value < 0 else "more"
    return f"""On real bars, on sessions unseen in training ([ideas.md](ideas.md)), the mixture
that began with noise loses {abs(value):.2f} thousandths of a nat {ways} than with templates, 95 %
interval {low:+.2f} to {high:+.2f}.
"""


def _section(title: str, units: Sequence[Mapping[str, Any]]) -> str:
    names = sorted(units[0]["drift"], key=lambda name: -_median(units, name))
    rows = [
        [name, *(f"{value:.3f}" for value in _spread([unit["drift"][name] for unit in units]))]
        for name in names
    ]
    own = []
    for expert in units[0]["scales"]:
        pairs = [unit["scales"][expert] for unit in units]
        cells = [f"{np.median([pair[kind] for pair in pairs]):.2f}" for kind in ("own", "others")]
        own.append([expert, *cells])
    return "\n".join(
        [
            f"## {title}",
            "",
            f"{len(units)} networks: {', '.join(unit['network'] for unit in units)}.",
            "",
            table("kernel | drift | least | most", rows),
            "",
            table("expert | scale on its own kernels | on the others'", own),
            "",
        ]
    )


def _median(units: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.median([unit["drift"][name] for unit in units]))


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return float(np.median(values)), min(values), max(values)


def _kernels(model: AtlasMoE) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for bank in model.trunk.dictionary.modules():
        if isinstance(bank, KernelBank):
            kernels = bank.kernels().detach().flatten(1)
            found |= dict(zip(bank.names, kernels.clone(), strict=True))
    return found


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def _as_expert(module: torch.nn.Module) -> Expert:
    assert isinstance(module, Expert)
    return module


def _scales(model: AtlasMoE, config: ATLASConfig) -> dict[str, dict[str, float]]:
    """Return each expert's mean size of scale on what it started with and on all else."""
    fresh = build_model(config, variant=VARIANT)
    assert isinstance(fresh, AtlasMoE)
    found = {}
    for name, expert in model.experts.items():
        scales, starts = (
            torch.cat([each.detach() for each in one.scale.values()])
            for one in map(_as_expert, (expert, fresh.experts[name]))
        )
        mine = starts > 0.5
        found[name] = {
            "own": float(scales[mine].abs().mean()),
            "others": float(scales[~mine].abs().mean()),
        }
    return found


def _unit(home: Path, file: Path, config: ATLASConfig) -> dict[str, Any]:
    torch.manual_seed(0)
    model = build_model(config, variant=VARIANT)
    assert isinstance(model, AtlasMoE)
    state = safetensors.torch.load_file(file)
    drifts = drift(model, state)
    network = "/".join(file.relative_to(Paths(home).artifacts / "evidence").parts[:2])
    return {"network": network, "drift": drifts, "scales": _scales(model, config)}


def main(homes: Annotated[list[Path], typer.Argument(help="with a long benchmark")]) -> None:
    """Read the networks, keep the figures, write the page."""
    results = Results(NAME)
    found = results.read() or {"units": {}}
    for home in homes:
        facts = json.loads((Paths(home).artifacts / "evidence" / "results.json").read_text())
        source = facts["metadata"]["source"]
        files = sorted((Paths(home).artifacts / "evidence").glob(f"*/*/{VARIANT}/*.safetensors"))
        config = configuration(source=source)
        found["units"][source] = [_unit(home, file, config) for file in files]
    facts = metadata(NAME, 1) | {"command": COMMAND}
    results.write({"metadata": facts, "units": found["units"]})
    write_page(NAME, page(results.read()))


if __name__ == "__main__":
    typer.run(main)
