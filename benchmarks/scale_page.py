"""Tables of docs/scale.md: what a symbol costs, and what 100,000 of 1-minute bars would take.

Every figure is computed from what `python -m benchmarks scale` measured; what is assumed beside
that (a year of a crypto symbol, the memory of a worker) stands here and in the table.
"""

from typing import Any

__all__ = ["measured", "projected"]

SYMBOLS, YEAR, NIGHT, MONTH = 100_000, 525_600, 1_440, 43_200  # bars of a symbol, 1-minute, 24/7
WORKERS, HELD = 64, 512  # in the projection; HELD symbols of a market
WORKER_GIB = 64
STAGES = ("ingest", "validate", "fingerprint", "predict")
PER_BAR = ("ingest", "validate", "fingerprint")
_MINUTE = " a 1-minute bar"


def measured(found: dict[str, Any]) -> str:
    """Return the table of time and memory a symbol, and of how flat both are."""
    rows = _rows(found)
    ratios = {one["name"]: one for one in found["ratios"]}
    start = "ingest seconds a symbol of "
    sizes = [int(name.removeprefix(start)) for name in rows if name.startswith(start)]
    heads = [f"ms of {size:,}" for size in sizes] + [f"KiB of {size:,}" for size in sizes]
    heads += ["time, late over early", "memory, late over early", "XCom, bytes"]
    lines = [f"| stage | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for stage in STAGES:
        cells = [f"{rows[f'{stage} seconds a symbol of {size}']:.1f}" for size in sizes]
        cells += [f"{rows[f'{stage} memory a symbol of {size}']:.0f}" for size in sizes]
        cells += [f"{ratios[f'{stage}_{name}_growth']['value']:.2f}" for name in _GROWN]
        cells += [f"{max(rows[f'{stage} told of {size}'] for size in sizes):,.0f}"]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    met = [ratios[f"{stage}_{name}_growth"] for stage in STAGES for name in _GROWN]
    over = [one["name"].removesuffix("_growth") for one in met if one["value"] > one["target"]]
    verdict = f"Above 1.2: {', '.join(over).replace('_', ' ')}." if over else "None is above 1.2."
    facts = found["metadata"]
    said = f"`{facts['command'].partition(' --json')[0]}`, commit {facts['commit'][:7]}, "
    return "\n".join([*lines, "", verdict, "", f"{said}{facts['date'][:10]}."])


_GROWN = ("seconds", "memory")


def projected(found: dict[str, Any]) -> str:
    """Return the table of what a universe of 1-minute bars would take."""
    rows = _rows(found)
    costs = [rows[f"{stage} seconds{_MINUTE}"] for stage in PER_BAR]
    bar_us, bar_bytes = sum(costs), rows[f"store{_MINUTE}"] + rows[f"fingerprints{_MINUTE}"]
    held = rows[f"memory of validate{_MINUTE}"]
    largest = max(int(name.split()[-1]) for name in rows if name.startswith("predict seconds a sy"))
    symbol_ms = sum(rows[f"{stage} seconds a symbol of {largest}"] for stage in STAGES)
    year, night = SYMBOLS * YEAR, SYMBOLS * NIGHT
    hours = year * bar_us / 1e6 / 3600
    parts = ", ".join(
        f"{cost:.1f} us in {stage}" for stage, cost in zip(PER_BAR, costs, strict=True)
    )
    most = WORKER_GIB * 2**30 / held
    facts = [
        ("the first year, processor", f"{year / 1e9:.1f} · 10⁹ bars × {bar_us:.1f} us",
         f"{hours:,.0f} core-hours: {hours / WORKERS:.1f} h on {WORKERS} workers"),
        ("the first year, disk", f"{year / 1e9:.1f} · 10⁹ bars × {bar_bytes:.0f} bytes",
         f"{year * bar_bytes / 1e12:.1f} TB, twice that with DVC's cache"),
        ("a night's new bars, processor", f"{night / 1e6:.0f} · 10⁶ bars × {bar_us:.1f} us",
         f"{night * bar_us / 1e6 / 60:.0f} core-minutes"),
        ("a night's new bars, disk", f"{night / 1e6:.0f} · 10⁶ bars × {bar_bytes:.0f} bytes",
         f"{night * bar_bytes / 1e9:.0f} GB"),
        ("a night's symbols, processor",
         f"10⁵ symbols × {symbol_ms:.0f} ms, the four stages at {largest:,} symbols",
         f"{SYMBOLS * symbol_ms / 1e3 / 3600:.1f} core-hours"),
        ("memory of validate", f"{held:.0f} bytes a bar held at once",
         f"{HELD * MONTH * held / 1e9:.0f} GB for {HELD} symbols of one 30-day month"),
        ("a market on a worker", f"{WORKER_GIB} GiB / {held:.0f} bytes a bar",
         f"{most / 1e6:.0f} million bars: {most / YEAR:.0f} symbols of a year, "
         f"{SYMBOLS / (most / YEAR):,.0f} markets"),
    ]  # fmt: skip
    lines = [
        f"A bar of the case `minute` cost {parts}, and lay in {rows[f'store{_MINUTE}']:.0f} bytes "
        f"of store and {rows[f'fingerprints{_MINUTE}']:.0f} of fingerprints. A crypto year is "
        f"{YEAR:,} bars a symbol.",
        "",
        "| | how | figure |",
        "|---|---|--:|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in facts)])


def _rows(found: dict[str, Any]) -> dict[str, float]:
    return {row["name"]: row["median"] for row in found["results"]}
