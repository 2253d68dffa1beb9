"""What 10, 100, 1,000 and 5,000 daily symbols cost: time and memory a symbol, stage by stage.

`python -m benchmarks scale` writes archives of random walks, 320 sessions a symbol, and runs
ingest, validate, fingerprint and predict (collecting the newest windows from the store and asking a
network of the default size, as ONNX) over each. Before each it runs the stage on another market of
three symbols, so that imports and compilation are in no figure. What is finished stays in
var/benchmarks/scale, so a run that was stopped goes on; remove it to measure anew.

- Seconds are processor time, because machines are shared; wall time is beside it.
- What a stage tells the scheduler (an XCom) is measured in bytes, of at most `XCOM_BYTES`.
- Memory is the largest resident set of a stage less what was resident before it.
- The case `minute` is one symbol with 100,000 1-minute bars: what a bar costs, for docs/scale.md.
- A stage also has a fixed cost (a suite, a page, a table), which ten symbols share and 5,000 do not
  notice. So what must be flat is the cost of one more symbol: between the two largest sizes it may
  be at most 1.2 times that between the two before. Above that something grows faster than symbols.
- `python -m benchmarks.scale --largest 1000` leaves out the sizes above.
"""

import ctypes
import functools
import gc
import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import typer

from atlas.config import ATLASConfig
from benchmarks.balance import PROJECT
from benchmarks.harness import Ratio, Report, Timing, metadata, write_report
from pipelines.files import read_json, write_json
from pipelines.paths import Paths
from pipelines.tasks import XCOM_BYTES, brief

__all__ = ["MINUTE", "SIZES", "STAGES", "configuration", "measured", "run"]

SIZES = (10, 100, 1_000, 5_000)
STAGES = ("ingest", "validate", "fingerprint", "predict")
SESSIONS = 320
NIGHT = pd.Timestamp("2026-11-20", tz="UTC")
WORK = PROJECT / "var" / "benchmarks" / "scale"
FLAT = 1.2
SEED = 7
_WARM, _MARKET, MINUTE = "warm", "daily", "minute"
BARS = 100_000


def run(seed: int, sizes: tuple[int, ...] = SIZES) -> Report:
    """Measure what is not measured yet; report seconds and KiB a symbol, and the ratios."""
    found = {size: measured(str(size), seed) for size in sizes}
    minute = measured(MINUTE, seed)
    results, ratios = [], []
    for stage in STAGES:
        for size in sizes:
            told = found[size][stage]["told"]
            results.append(Timing(f"{stage} told of {size}", "bytes", told, told, told, 1))
            for name, unit, factor in _SHOWN:
                value = factor * found[size][stage][name] / size
                label = f"{stage} {name} a symbol of {size}"
                results.append(Timing(label, unit, value, value, value, 1))
        bar = 1e6 * minute[stage]["seconds"] / BARS
        results.append(Timing(f"{stage} seconds a 1-minute bar", "us", bar, bar, bar, 1))
        for name in ("seconds", "memory"):  # wall time means little where others work
            ratios.append(Ratio(f"{stage}_{name}_growth", _growth(found, stage, name), FLAT))
        most = max(found[size][stage]["told"] for size in sizes)
        ratios.append(Ratio(f"{stage}_told_share", most / XCOM_BYTES, 1.0))
    results += [Timing(f"{k} a 1-minute bar", "bytes", v, v, v, 1) for k, v in _bytes(minute)]
    return Report(results, ratios)


def _bytes(minute: dict[str, Any]) -> list[tuple[str, float]]:
    """Return what a bar of the case `minute` takes: in the store, in fingerprints, in memory."""
    home = Paths(WORK / MINUTE / "home")
    stored = sum(path.stat().st_size for path in (home.data / "bars" / MINUTE).rglob("*.parquet"))
    described = (home.artifacts / "fingerprints" / f"{MINUTE}.parquet").stat().st_size
    held = minute["validate"]["memory"]
    names = ("store", "fingerprints", "memory of validate")
    return [
        (name, total / BARS) for name, total in zip(names, (stored, described, held), strict=True)
    ]


_SHOWN = (("seconds", "ms", 1e3), ("wall", "ms", 1e3), ("memory", "KiB", 1 / 1024))


def configuration() -> ATLASConfig:
    """Return the markets of an archive: one to warm up with and those that are measured."""
    cut = {"cut": {"test": 20, "validation": 10}}
    market = {"timeframe": "1d", "calendar": "XNYS", **cut}
    minute = {"timeframe": "1min", "calendar": "24/7", **cut}
    params = {
        "source": "files",
        "markets": {_WARM: market, _MARKET: market, MINUTE: minute},
        "simulated": {"as_of": str(NIGHT.date()), "markets": {}},
    }
    return ATLASConfig.parse(params)


def _growth(found: dict[int, dict[str, Any]], stage: str, name: str) -> float:
    """Return what one more symbol costs among the most over what it costs among fewer."""
    few, middle, many = sorted(found)[-3:]
    cost = {size: found[size][stage][name] for size in (few, middle, many)}
    late = (cost[many] - cost[middle]) / (many - middle)
    early = (cost[middle] - cost[few]) / (middle - few)
    return float(late / early) if early > 0 else float("nan")


def measured(case: str, seed: int, stages: tuple[str, ...] = STAGES) -> dict[str, Any]:
    """Return what each stage of a case cost, measuring what is not measured yet.

    Args:
        case: a number of daily symbols, or `minute`.
    """
    path = WORK / f"{case}.json"
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    for stage in stages:
        if stage not in found:
            _archive(WORK / case / "archive", case, seed)
            found[stage] = _stage(stage, case)
            write_json(path, found)
    return found


def _archive(folder: Path, case: str, seed: int) -> None:
    """Write an archive of random walks; a file a symbol, those that are there stay."""
    days = pd.bdate_range(end="2026-11-19", periods=SESSIONS + 15, tz="UTC")
    days = days[~days.isin(pd.DatetimeIndex(_HOLIDAYS, tz="UTC"))][-SESSIONS:]
    minutes = pd.date_range(end="2026-11-19 23:59", periods=BARS, freq="min", tz="UTC")
    asked = (MINUTE, 1, minutes) if case == MINUTE else (_MARKET, int(case), days)
    for name, count, stamps in ((_WARM, 3, days), asked):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            path = folder / name / f"S{place:05d}.parquet"
            if not path.is_file():
                _walk(stamps, seed + place).to_parquet(path, index=False)


_HOLIDAYS = (
    *("2025-07-04", "2025-09-01", "2025-11-27", "2025-12-25", "2026-01-01", "2026-01-19"),
    *("2026-02-16", "2026-04-03", "2026-05-25", "2026-06-19", "2026-07-03", "2026-09-07"),
)


def _walk(days: pd.DatetimeIndex, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days)))), 4)
    opened = np.round(np.r_[close[0], close[:-1]] * np.exp(rng.normal(0, 0.002, len(days))), 4)
    frame = pd.DataFrame({"timestamp": days, "open": opened})
    frame["high"] = np.round(np.maximum(opened, close) * 1.003, 4)
    frame["low"] = np.round(np.minimum(opened, close) * 0.997, 4)
    return frame.assign(close=close, volume=rng.integers(1_000, 99_999, len(days)).astype(float))


def _stage(stage: str, case: str) -> dict[str, float]:
    """Run a stage on the small market, then on the one that is measured."""
    paths, config = Paths(WORK / case / "home"), configuration()
    folder, market = WORK / case / "archive", MINUTE if case == MINUTE else _MARKET
    _work(paths, config, stage, _WARM, folder)
    before = _fresh_memory()
    processor, wall = time.process_time(), time.perf_counter()
    summary = _work(paths, config, stage, market, folder)
    return {
        "seconds": time.process_time() - processor,
        "wall": time.perf_counter() - wall,
        "memory": float(_memory("VmHWM") - before),
        "told": float(len(json.dumps(brief(summary), default=str))),
    }


def _work(
    paths: Paths, config: ATLASConfig, stage: str, market: str, folder: Path
) -> dict[str, Any]:
    """Run a stage on a market; return its summary."""
    from pipelines import fingerprint, ingest, validate

    if stage == "ingest":
        return ingest.run(paths, config, as_of=NIGHT, market=market, folder=folder)
    if stage == "predict":
        return _predict(paths, config, market)
    run = validate.run if stage == "validate" else fingerprint.run
    return run(paths, config, as_of=NIGHT, market=market)


def _predict(paths: Paths, config: ATLASConfig, market: str) -> dict[str, Any]:
    """Collect the newest bars of every symbol from the store and answer them in one call."""
    from atlas.serving import forecast
    from pipelines import challenge, store

    rows = pd.DataFrame({"market": market, "symbol": store.symbols(paths, market)})
    rows = rows.assign(timestamp=NIGHT - pd.Timedelta(days=1))
    frame = challenge.frames(paths, config, rows, NIGHT).drop(columns="since")
    answers = forecast(_served(), frame, now=NIGHT)
    assert len(answers) == len(rows)
    return {"answers": len(answers)}


@functools.cache
def _served() -> Any:
    """Return an untrained network of the default size as its ONNX graphs, as a version has them."""
    from atlas.graphs import Graphs
    from atlas.moe import AtlasMoE, build_model
    from atlas.serving import Served
    from pipelines import graph_files

    config = configuration()
    model = build_model(config, variant="moe_mlp")
    assert isinstance(model, AtlasMoE)
    graphs = Graphs(graph_files.graphs_of(model.eval()), model.expert_ids, model.markets)
    return Served.of(graphs, config, tuple(config.markets), "scale")


def _fresh_memory() -> int:
    """Give unused memory back, begin a new peak, and return what is resident, bytes (Linux)."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main(
    largest: Annotated[int, typer.Option(help="symbols")] = SIZES[-1],
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Measure the sizes up to the largest and print the costs."""
    report = run(SEED, tuple(size for size in SIZES if size <= largest))
    for row in report.results:
        typer.echo(f"{row.name:<40} {row.median:10.4g} {row.unit}")
    for claim in report.ratios:
        typer.echo(f"{claim.name:<40} {claim.value:10.4g} (target {claim.target:g})")
    about = metadata("scale", SEED) | {"command": f"python -m benchmarks.scale --largest {largest}"}
    write_report(report, json_path, about)


if __name__ == "__main__":
    typer.run(main)
