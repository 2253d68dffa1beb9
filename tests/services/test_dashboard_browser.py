"""The dashboard in headless Chromium, over a home that a real night made.

Debian's `chromium` is driven by Playwright; without it the tests are skipped by name, in CI they
fail. Screenshots go to the folder that ATLAS_SCREENSHOTS names, or stay with pytest's temporary
files.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.dashboard import CHROMIUM, UNFINISHED, serving
from pipelines.paths import PROJECT

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not Path(CHROMIUM).is_file() and not os.environ.get("CI"),  # CI has to install it
        reason=f"{CHROMIUM} is missing: apt-get install chromium",
    ),
]
PAGES = ("/", "/gate", "/symbol?market=equity_daily", "/benchmark", "/promotions")
VIEWS = [(width, theme) for width in (1280, 390) for theme in ("light", "dark")]
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("night")
    params = ["--params", str(PROJECT / "tests" / "params_tiny.yaml")]
    command = [sys.executable, "-m", "pipelines", "all", "--home", str(home), *params]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with serving(home, *params) as (found, _):
        yield found


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
    for path in PAGES:
        page, said = opened(context, address + path)
        boxes = page.query_selector_all(".plot")
        assert [box.get_attribute("data-state") for box in boxes] == ["drawn"] * len(boxes), path
        assert all(page.evaluate("(box) => box.data.length > 0", box) for box in boxes)
        assert not said, f"{path}: {said}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate("window.shifted") < 0.1, path
        assert page.evaluate(CONTRAST) == [], path
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
    for _ in range(14):
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
    assert seen[2:7] == ["Overview", "Gate", "Symbol", "Benchmark", "Promotions"]
    assert "symbol" in seen
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
