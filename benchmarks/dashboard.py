"""How fast the dashboard answers and what it holds, in headless Chromium, at the size it is for.

`python -m benchmarks.dashboard [--json PATH]` makes a home with 500 daily symbols of a year and 20
one-minute symbols of 60 days, starts `python -m dashboard` on it, and opens every page twice: with
an empty cache (first visit) and with what that left (later visit). Both count from the request:

- `page`: until its content is painted;
- `seen`: until the sketch of its last figure stands;
- `alive`: until the last figure can be pointed at; running Plotly's 4.8 MB is most of it.

`figure` is from the request for a figure's data until its sketch stands. `fetch` rows are the
server's answers alone, the first one each, with nothing kept in memory.
"""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from benchmarks.dashboard_store import FULL, make_store
from benchmarks.harness import Ratio, Report, Timing, metadata, timing, write_report
from pipelines.paths import PROJECT

__all__ = ["CHROMIUM", "PAGES", "UNFINISHED", "browser_times", "main", "serving"]

CHROMIUM = "/usr/bin/chromium"
PAGES = (
    "/",
    "/gate?market=equity_daily",
    "/gate?market=crypto_1min",
    "/gate?market=crypto_1min&gate=rule",
    "/kernels",
    "/symbol?market=equity_daily",
    "/symbol?market=crypto_1min",
    "/benchmark",
    "/promotions",
    "/shadow",
)
CHARTS = (
    "/charts/gate?market=equity_daily",
    "/charts/gate?market=equity_daily&gate=rule",
    "/charts/gate?market=crypto_1min",
    "/charts/gate?market=crypto_1min&gate=rule",
    "/charts/load",
    "/charts/candles?market=crypto_1min",
    "/charts/image?market=crypto_1min",
    "/charts/history?market=crypto_1min",
    "/charts/answers?market=crypto_1min",
    "/charts/risk",
    "/charts/shadow",
)
PAGE_S, CHART_S, MEMORY_MIB = 1.0, 2.0, 500.0
PATIENCE_S = 60.0
UNFINISHED = ".plot:not([data-state=drawn]):not([data-state=notice])"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run the dashboard on a port of its own; give its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dashboard", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen([*command, *options], cwd=PROJECT, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(port):
            assert time.monotonic() < deadline
            assert process.poll() is None, "it did not start"
            time.sleep(0.1)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def browser_times(address: str, pages: tuple[str, ...], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every page and of every figure on it, for some rounds."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(rounds):
            for path in pages:
                context = browser.new_context()
                for visit in ("first", "later"):
                    page = context.new_page()
                    page.goto(address + path, wait_until="domcontentloaded")
                    for name, seconds in _seconds_of(page).items():
                        found.setdefault(f"{name} {visit} {path}", []).append(seconds)
                    page.close()
                context.close()
        browser.close()
    return found


def _seconds_of(page: Any) -> dict[str, float]:
    """Scroll to every figure, wait until it is alive, and return the seconds of all of it."""
    for box in page.query_selector_all(".plot"):
        box.scroll_into_view_if_needed()
    _wait(page, lambda: not page.query_selector(UNFINISHED), "a figure is not drawn")
    page.wait_for_load_state("load")
    boxes = page.query_selector_all(".plot[data-ms]")
    times = {name: [_of(box, name) for box in boxes] for name in ("ms", "seen", "drawn")}
    _wait(page, lambda: page.evaluate(PAINTED) is not None, "the page is not painted")
    found = {"page": float(page.evaluate(PAINTED)) / 1e3}
    if boxes:
        found |= {"seen": max(times["seen"]), "alive": max(times["drawn"])}
    names = [str(box.get_attribute("data-src")).split("?")[0] for box in boxes]
    return found | {f"figure {n}": s for n, s in zip(names, times["ms"], strict=True)}


def _wait(page: Any, is_so: Callable[[], bool], fault: str) -> None:
    """Look again until it is so; `wait_for_function` would break the page's own content policy."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, fault
        page.wait_for_timeout(50)


def _of(box: Any, name: str) -> float:
    return float(box.get_attribute(f"data-{name}")) / 1e3


def main(
    rounds: Annotated[int, typer.Option(help="how often every page is opened")] = 5,
    json_path: Annotated[Path | None, typer.Option("--json", help="where to write it")] = None,
) -> None:
    """Print the times and the memory; write them as JSON if asked."""
    with tempfile.TemporaryDirectory(prefix="atlas-dashboard-") as scratch:
        make_store(Path(scratch), FULL)
        with serving(Path(scratch)) as (address, process):
            time.sleep(2)  # `warm` is under way for a second after the start
            cold = {f"fetch {path}": [_seconds(address + path)] for path in ("/", *CHARTS)}
            seconds = browser_times(address, PAGES, rounds)
            peak = _peak_mib(process)
    rows = [timing(name, "s", values) for name, values in {**cold, **seconds}.items()]
    rows.append(Timing("peak memory", "MiB", peak, peak, peak, 1))
    ratios = [
        Ratio("slowest_page_s", _slowest(rows, "page"), PAGE_S),
        Ratio("slowest_figure_s", _slowest(rows, "figure"), CHART_S),
        Ratio("slowest_first_visit_seen_s", _slowest(rows, "seen first"), CHART_S),
        Ratio("slowest_first_visit_alive_s", _slowest(rows, "alive first"), CHART_S),
        Ratio("slowest_later_visit_alive_s", _slowest(rows, "alive later"), CHART_S),
        Ratio("slowest_cold_fetch_s", max(v[0] for v in cold.values()), CHART_S),
        Ratio("peak_mib", peak, MEMORY_MIB),
    ]
    for row in rows:
        typer.echo(f"{row.name:<64} {row.median:8.3f} {row.p90:8.3f} {row.unit} n={row.n}")
    for one in ratios:
        typer.echo(f"{one.name:<64} {one.value:8.3f} target {one.target}")
    write_report(Report(rows, ratios), json_path, metadata("dashboard", 0))


def _slowest(rows: list[Timing], name: str) -> float:
    return max(row.median for row in rows if row.name.startswith(name))


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _seconds(address: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:  # noqa: S310 # our own
        answer.read()
    return time.perf_counter() - begun


def _peak_mib(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    typer.run(main)
