"""The mixture with and without the cross-asset expert, on the real bars of an archive.

`python -m benchmarks.cross_asset --home HOME` trains `moe_mlp` and `moe_mlp_hedge` with the same
seeds, cuts and budget for each basket of `BASKETS`, scores both as the long benchmark does, keeps
`benchmarks/results/cross-asset.json` and writes docs/cross-asset.md. The home is an archive's, with
its night begun (`python -m pipelines evidence --source files --data … --home HOME` does that). What
is trained lies in the home: a second call, or one with more seeds, trains only what is missing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
import yaml

from atlas.basket_config import HEDGED
from atlas.catalogue import EXPERT_IDS
from atlas.comparison import compare
from atlas.config import ATLASConfig
from atlas.hedge import build_network
from atlas.windows import Panel
from benchmarks import cross_asset_page
from benchmarks.harness import metadata
from benchmarks.units import PROJECT, Results, write_page
from pipelines import baskets
from pipelines.evidence import plan, work
from pipelines.evidence.curves import gate_weights
from pipelines.evidence.cuts import archive_at
from pipelines.evidence.table import assemble
from pipelines.files import read_json
from pipelines.paths import Paths

__all__ = ["BASKETS", "MODELS", "configuration"]

NAME = "cross-asset"
COMMAND = "python -m benchmarks.cross_asset --home HOME --seeds 3"
MODELS = (plan.YARDSTICKS, "moe_mlp", HEDGED)
CUTS = ("2021-07-01", "2022-07-01", "2023-01-01")  # the last ends the test of the one before
MARKETS = ("equity_daily", "low_vol_etf")
BASKETS: dict[str, dict[str, Any]] = {
    "listed": {
        "series": {"tips": "low_vol_etf/TIP", "energy": "equity_daily/XOM"}
        | {"gold": "equity_daily/NEM"},
        "cuts": CUTS[:2],
    },
    "spot": {
        "series": {"tips": "low_vol_etf/TIP", "energy": "futures_30min/WTI"}
        | {"gold": "futures_30min/GOLD"},
        "cuts": CUTS[2:],
    },
}
_SHOWN = ("base_rate", "reversal", "logistic", "lightgbm", "moe_mlp", HEDGED)


def configuration(basket: str) -> ATLASConfig:
    """Return params.yaml for an archive with a basket and its cuts."""
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    params["source"] = "files"
    params["benchmark"]["cuts"] = list(CUTS)
    params["basket"] = {"series": BASKETS[basket]["series"], "markets": list(MARKETS)}
    return ATLASConfig.parse(params)


def units(config: ATLASConfig, basket: str, seeds: int) -> list[plan.Unit]:
    """Return the units of a basket: simple rivals with the first seed, networks with each."""
    chosen = config.benchmark.seeds[:seeds]
    return [
        unit
        for unit in plan.units(config)
        if unit.cut in BASKETS[basket]["cuts"]
        and unit.model in MODELS
        and unit.seed in (chosen[:1] if unit.model == plan.YARDSTICKS else chosen)
    ]


def main(
    home: Annotated[Path, typer.Option(help="of an archive whose night has begun")],
    seeds: Annotated[int, typer.Option(min=1, max=3)] = 1,
    only: Annotated[str, typer.Option(help="a basket alone")] = "",
    score: Annotated[bool, typer.Option(help="only score what lies in the home")] = False,
) -> None:
    """Train what is missing, score it, and write results and page."""
    paths = Paths(home.resolve())
    as_of = pd.Timestamp(read_json(paths.night)["as_of"], tz="UTC")
    results = Results(NAME)
    for basket in [only] if only else list(BASKETS):
        config = configuration(basket)
        wanted = units(config, basket, seeds)
        for unit in wanted:
            if not score and not plan.is_done(paths, config, unit):
                typer.echo(unit.name)
                work.do(paths, config, unit, as_of=as_of)
        found = _scored(paths, basket, as_of, wanted)
        kept = results.read().get("units", {})
        facts = metadata(NAME, config.benchmark.seeds[0]) | {"command": COMMAND}
        settings = config.model_dump(mode="json", include={"training", "model", "moe"})
        document = {"metadata": facts, "settings": settings, "units": {**kept, basket: found}}
        results.write(document)
    write_page(NAME, cross_asset_page.page())


def _scored(
    paths: Paths, basket: str, as_of: pd.Timestamp, wanted: Sequence[plan.Unit]
) -> dict[str, Any]:
    """Return tables and tests of what lies in the home, and what the basket showed there."""
    config = configuration(basket)
    there = [unit for unit in wanted if (plan.root(paths) / unit.name / "unit.json").is_file()]
    found = assemble(paths, config, there)
    seen, named = _seen(paths, config, as_of, sorted({unit.cut for unit in there}))
    rows = {model: _read(paths, there, model) for model in MODELS[1:]}
    keys = ["market", "symbol", "timestamp"]
    where = {model: [frame.merge(named, on=keys) for frame in own] for model, own in rows.items()}
    return {
        "series": BASKETS[basket]["series"],
        "markets": list(MARKETS),
        "seen": seen,
        "table": _rows(found.table[found.table["model"].isin(_SHOWN)]),
        "tests": _rows(found.tests[found.tests["model"] == HEDGED]),
        "seeing": _rows(compare(rows[HEDGED], rows["moe_mlp"])),
        "named": _rows(compare(where[HEDGED], where["moe_mlp"])),
        "volatility": _rows(found.volatility[found.volatility["model"].isin(MODELS)]),
        "volatility_tests": _rows(found.volatility_tests),
        "gates": {model: gate_weights(paths, there, model) for model in MODELS[1:]},
        "costs": {model: _costs(paths, config, there, model) for model in MODELS[1:]},
        "units": [asdict(unit) for unit in there],
    }


def _costs(
    paths: Paths, config: ATLASConfig, there: Sequence[plan.Unit], model: str
) -> dict[str, float]:
    """Return a network's parameters and what its trainings took of a processor, seconds, median."""
    weights = build_network(config, variant=model).parameters()
    own = [plan.root(paths) / unit.name / "unit.json" for unit in there if unit.model == model]
    seconds = [float(read_json(path)["cpu_s"]) for path in own]
    count = sum(weight.numel() for weight in weights if weight.requires_grad)
    return {"parameters": count, "cpu_s": float(np.median(seconds))}


def _read(paths: Paths, there: Sequence[plan.Unit], model: str) -> list[pd.DataFrame]:
    """Return a model's test rows in markets that see the basket, a frame for each seed."""
    frames: dict[int, list[pd.DataFrame]] = {}
    for unit in (unit for unit in there if unit.model == model):
        frame = pd.read_parquet(plan.root(paths) / unit.name / f"{model}.parquet")
        own = (frame["split"] == "test") & frame["market"].isin(MARKETS)
        frames.setdefault(unit.seed, []).append(frame[own])
    return [pd.concat(parts, ignore_index=True) for parts in frames.values()]


def _seen(
    paths: Paths, config: ATLASConfig, as_of: pd.Timestamp, cuts: Sequence[str]
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Say in how many windows the basket is known, and at which of the tests the rule names it."""
    rows, named = [], []
    for cut in cuts:
        data = baskets.hedged(paths, config, as_of, archive_at(paths, config, as_of, cut))
        for market in (name for name in MARKETS if name in data):
            panel, split = data[market].panel, data[market].split
            for part in ("train", "validation", "test"):
                ends = getattr(split, part)
                if ends.size:
                    facts = {"cut": cut, "market": market, "part": part}
                    rows.append(facts | _known(panel, ends))
            chosen = split.test[panel.rule[split.test] == len(EXPERT_IDS)]
            times = pd.to_datetime(panel.timestamp[chosen], unit="us", utc=True)
            names = {"symbol": panel.symbol_of(chosen), "timestamp": times}
            named.append(pd.DataFrame({"market": market, **names}))
    return rows, pd.concat(named, ignore_index=True)


def _known(panel: Panel, ends: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return shares of windows whose basket is known, named or carried; its age and mark."""
    assert panel.basket is not None
    marks = panel.basket.fingerprint[ends, 0]
    known = np.isfinite(marks)
    ages = panel.basket.age_days[ends][known]
    return {
        "windows": ends.size,
        "known": float(known.mean()),
        "named": float((panel.rule[ends] == len(EXPERT_IDS)).mean()),
        "carried": float((ages > 0).mean()) if ages.size else 0.0,
        "oldest_days": float(ages.max(initial=0.0)),
        "mark": float(np.median(marks[known])) if known.any() else 0.0,
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    finite = table.astype(object).where(table.notna(), None)
    rows: list[dict[str, Any]] = json.loads(json.dumps(finite.to_dict("records"), default=float))
    return rows


if __name__ == "__main__":
    typer.run(main)
