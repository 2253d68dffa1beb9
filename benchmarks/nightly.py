"""What Airflow adds to a night: its wall time over `python -m pipelines all`, and memory at peak.

`python -m benchmarks nightly`, with `--params FILE` for other markets than those of params.yaml.
Each of both runs one first night in an empty home, one after the other:
in one process, and as `make nightly` does, LocalExecutor over SQLite, Airflow's start and end
included. The Airflow home is set up before, as `make setup` does. Memory is proportional set size:
pages that processes share are counted once. Parsing is processor time of importing all DAG files
once Airflow itself is imported, the slowest of five.
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks.harness import Ratio, Report, metadata, timing, write_report
from pipelines.paths import PROJECT

__all__ = ["run"]

GIB = 2**30
SAMPLE_S = 1.0
SEED = 7


def run(params: Path = PROJECT / "params.yaml") -> Report:
    """Run both nights."""
    with tempfile.TemporaryDirectory() as work:
        plain, plain_gib = _measured("pipelines", "all", Path(work) / "plain", params)
        scheduled_home = Path(work) / "scheduled"
        _command("services", "setup", scheduled_home)
        scheduled, peak_gib = _measured("services", "nightly", scheduled_home, params)
    rows = [
        timing("pipelines_all", "s", [plain]),
        timing("pipelines_all_peak", "GiB", [plain_gib]),
        timing("nightly", "s", [scheduled]),
        timing("nightly_peak", "GiB", [peak_gib]),
    ]
    parsing = [_parse_s() for _ in range(5)]
    claims = [
        Ratio("minutes", scheduled / 60, 10),
        Ratio("orchestration_s", scheduled - plain, 90),
        Ratio("peak_gib", peak_gib, 4),
        Ratio("parse_s", max(parsing), 0.5),
    ]
    return Report(rows, claims)


def _measured(module: str, name: str, home: Path, params: Path) -> tuple[float, float]:
    """Run a command of a home; return seconds and the most memory of all it started."""
    command = [sys.executable, "-m", module, name, "--home", str(home), "--params", str(params)]
    typer.echo(f"python -m {module} {name} …")
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=said, stderr=subprocess.STDOUT)
        peak, over = [0.0], threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, peak, over))
        watch.start()
        code = process.wait()
        seconds = time.perf_counter() - began
        over.set()
        watch.join()
        said.seek(0)
        assert code == 0, said.read().decode(errors="replace")[-2000:]
    return seconds, peak[0] / GIB


def _watch(pid: int, peak: list[float], over: threading.Event) -> None:
    while not over.wait(SAMPLE_S):
        total = 0
        try:
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for process in family:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has ended meanwhile
                continue
        peak[0] = max(peak[0], float(total))


def _parse_s() -> float:
    names = ", ".join(f"dags.{path.stem}" for path in sorted((PROJECT / "dags").glob("atlas_*.py")))
    code = "import time, airflow.sdk; began = time.process_time(); "
    code += f"import {names}; print(time.process_time() - began)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


def _command(module: str, name: str, home: Path) -> None:
    words = [sys.executable, "-m", module, name, "--home", str(home)]
    subprocess.run(words, cwd=PROJECT, check=True, capture_output=True)


def main(
    params: Annotated[Path, typer.Option(help="the markets")] = PROJECT / "params.yaml",
    json_path: Annotated[Path | None, typer.Option("--json", help="write the document")] = None,
) -> None:
    """Measure and print."""
    report = run(params.resolve())
    for row in report.results:
        typer.echo(f"{row.name:<20} {row.median:8.2f} {row.unit}")
    for claim in report.ratios:
        typer.echo(f"{claim.name:<20} {claim.value:8.2f} (target {claim.target:g})")
    write_report(report, json_path, metadata("nightly", SEED))


if __name__ == "__main__":
    typer.run(main)
