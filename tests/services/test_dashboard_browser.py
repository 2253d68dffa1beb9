"""The dashboard in headless Chromium, over a home that real nights made.

The second night's candidate stands against the first night's champion, so that there is a pair in
trial; the watch has looked once. axe-core (npm, MPL-2.0, see axe/) judges every page.

Debian's `chromium` is driven by Playwright; without it the tests are skipped by name, in CI they
fail. Screenshots go to the folder that ATLAS_SCREENSHOTS names, or stay with pytest's temporary
files.
"""

import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dashboard import CHROMIUM, UNFINISHED, serving
from benchmarks.fault_rig import eager
from pipelines.paths import PROJECT

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not Path(CHROMIUM).is_file() and not os.environ.get("CI"),  # CI has to install it
        reason=f"{CHROMIUM} is missing: apt-get install chromium",
    ),
]
PAGES = (
    *(
        "/",
        "/gate",
        "/kernels",
        "/symbol?market=equity_daily",
        "/symbol?market=options_skew",
        "/benchmark",
    ),
    *("/promotions", "/shadow", "/monitor", "/nowhere"),
)
NIGHTS = ("2026-11-20", "2026-11-21")
MARKETS = ("crypto_1min", "equity_daily", "options_skew")
AXE = Path(__file__).parent / "axe" / "axe.min.js.gz"
AXE_4_14_1 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
RUN_AXE = """axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 200)}`))"""
MEMORY_MIB = 500
VIEWS = [(width, theme) for width in (1280, 390) for theme in ("light", "dark")]
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("night")
    params = eager(tmp_path_factory.mktemp("params"), MARKETS)
    options = ["--home", str(home), "--params", str(params)]
    steps = [*(["all", "--as-of", night] for night in NIGHTS), ["monitor"]]
    for step in steps:
        command = [sys.executable, "-m", "pipelines", *step, *options]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    with serving(home, "--params", str(params)) as (found, process):
        yield found
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) / 1024 <= MEMORY_MIB


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize(("width", "theme"), VIEWS)
def test_pages_load_draw_and_can_be_read(
    width: int, theme: str, address: str, browser: Any, tmp_path: Path
) -> None:
    """Every figure has data, nothing is said on the console, nothing overflows, text has contrast.

    Contrast is WCAG's: 4.5 for text, 3 for large text. A shift of layout counts from .1 on.
    """
    folder = Path(os.environ.get("ATLAS_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    checker = gzip.decompress(AXE.read_bytes())
    assert hashlib.sha256(checker).hexdigest() == AXE_4_14_1
    for path in PAGES:
        page, said = opened(context, address + path)
        if path == "/nowhere":
            said = [one for one in said if "404" not in one]
        boxes = page.query_selector_all(".plot")
        assert [box.get_attribute("data-state") for box in boxes] == ["drawn"] * len(boxes), path
        assert all(page.evaluate("(box) => box.data.length > 0", box) for box in boxes)
        assert not said, f"{path}: {said}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate("window.shifted") < 0.1, path
        assert page.evaluate(CONTRAST) == [], path
        page.evaluate(checker.decode("utf-8"))
        assert page.evaluate(RUN_AXE) == [], path
        name = path.strip("/").split("?")[0] or "overview"
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)
        page.close()
    context.close()


def test_filters_change_what_is_drawn(address: str, browser: Any) -> None:
    """Another market and a range of dates give another figure, kept in the address."""
    page, _ = opened(browser, f"{address}/gate")
    with page.expect_navigation():
        page.select_option("select[name=market]", "options_skew")
    settled(page)
    assert "market=options_skew" in page.url
    names = page.evaluate("document.querySelector('.plot').data.map((one) => one.name)")
    assert "options_skew" in names
    page.fill("input[name=first]", "2026-11-01")
    with page.expect_navigation():
        page.click(".filters button")
    settled(page)
    first = page.evaluate("document.querySelector('.plot').data.at(-1).x[0]")
    assert first >= "2026-11-01"
    page.close()


def test_the_keyboard_reaches_everything_in_order(address: str, browser: Any) -> None:
    """Tab goes from the skip link through the navigation to the theme and the filters, visibly."""
    page, _ = opened(browser, f"{address}/gate")
    seen = []
    for _ in range(15):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "document.activeElement.textContent.trim() || "
                "document.activeElement.name || document.activeElement.id"
            )
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", seen[-1]
    assert seen[0] == "Skip to the content"
    assert seen[2:10] == [
        *("Overview", "Gate", "Kernels", "Symbol"),
        *("Benchmark", "Promotions", "Shadow log", "Monitor"),
    ]
    assert "symbol" in seen
    page.close()


def test_filters_and_details_are_used_by_keyboard_alone(address: str, browser: Any) -> None:
    """Enter on the skip link leads past the navigation; Enter in a field asks; Space opens."""
    page, _ = opened(browser, f"{address}/symbol?market=equity_daily")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "market"
    page.focus("input[name=symbol]")
    wanted = page.evaluate("document.querySelector('#symbols option:nth-child(2)').value")
    page.fill("input[name=symbol]", wanted)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert f"symbol={wanted}" in page.url
    page.focus("details summary")
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('details').open")
    page.close()


def test_the_pair_in_trial_is_drawn(address: str, browser: Any) -> None:
    """The e-process of the real pair has a point for each session, and the log both versions."""
    page, _ = opened(browser, f"{address}/promotions")
    line = page.evaluate("document.querySelector('.plot[data-src*=trial]').data[0]")
    assert len(line["x"]) >= 1
    assert all(value > 0 for value in line["y"])
    page.goto(f"{address}/shadow")
    told = page.inner_text(".nights")
    assert "champion" in told
    assert "challenger" in told
    page.close()


def test_figures_stand_before_the_large_script(address: str, browser: Any) -> None:
    """Without Plotly's script every figure is there as a sketch, with its words."""
    from playwright.sync_api import expect

    page = browser.new_page()
    page.route("**/plotly*", lambda route: route.abort())
    page.goto(f"{address}/gate", wait_until="domcontentloaded")
    for box in page.query_selector_all(".plot"):
        box.scroll_into_view_if_needed()
    expect(page.locator(".plot:not([data-state=sketched])")).to_have_count(0, timeout=30_000)
    for figure in page.query_selector_all(".chart"):
        assert figure.query_selector(".sketch path, .sketch rect")
        assert figure.query_selector(".summary").inner_text()
    page.close()


def test_the_theme_is_switched_and_kept(address: str, browser: Any) -> None:
    """The button goes from the system's theme to light to dark, and a reload keeps it."""
    context = browser.new_context(color_scheme="light")
    page, _ = opened(context, f"{address}/gate")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    page.click("#theme")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    context.close()


def opened(context: Any, address: str) -> tuple[Any, list[str]]:
    """Open a page, fill all its boxes, and return it with what its console said."""
    page, said = context.new_page(), []
    page.on("console", lambda told: said.append(told.text) if told.type != "log" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.add_init_script(
        "window.shifted = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) =>"
        " { if (!one.hadRecentInput) window.shifted += one.value; }))"
        ".observe({ type: 'layout-shift', buffered: true });"
    )
    page.goto(address)
    settled(page)
    return page, said


def settled(page: Any) -> None:
    """Scroll to every box and wait until it is filled."""
    page.wait_for_load_state("load")
    for box in page.query_selector_all(".plot"):
        box.scroll_into_view_if_needed()
    for _ in range(600):
        if page.query_selector(UNFINISHED) is None:
            return
        page.wait_for_timeout(50)
    raise AssertionError("a figure is not drawn")
