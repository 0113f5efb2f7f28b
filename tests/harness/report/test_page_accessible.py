"""Check the HTML page of a report with axe-core, in both themes, with tests closed and opened.

The rules of axe-core are about names, roles, contrast and landmarks.
"""

from pathlib import Path
from typing import Any

import pytest

from harness.report.page import write_page
from harness.report.reading import Recorded
from tests.helpers.browser import violations
from tests.helpers.paths import ROOT
from tests.helpers.result_records import HEADER, poor, results

FOOTER = {"footer": 1, "exitstatus": 1, "seconds": 3.0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small page that has every outcome, both schedulers and a history."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    more = [poor("gone", "flaky", "it was late"), poor("known", "xfailed", "it is known"), poor("x", "xpassed", "no")]
    now, before = ([*results(8), *more], results(6))
    earlier = Recorded(path, HEADER | {"began": 1_799_900_000.0}, tuple(before), FOOTER)
    write_page(path, Recorded(path, HEADER, tuple(now), FOOTER), [earlier])
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, file: Path, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(file.as_uri())
    assert violations(page) == []
    for anchor in ("r3", "r4"):
        page.goto(f"{file.as_uri()}#{anchor}")
        page.wait_for_selector(f"#{anchor} .timeline", state="attached")
    page.locator("#r4 details").evaluate_all("parts => parts.forEach((part) => { part.open = true; })")
    assert violations(page) == []
    context.close()


def test_axe_finds_nothing_in_the_sample(browser: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto((ROOT / "docs" / "sample-report.html").as_uri())
    # Checking hundreds of equal cells would take a minute.
    assert violations(page, "#matrix", ".m", ".r.passed", ".r.skipped") == []
    context.close()


def test_it_can_be_used_without_a_mouse(browser: Any, file: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(file.as_uri())
    for _ in range(4):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
    assert page.evaluate("document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0
    page.locator("#problems .problems li a").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#r0"
    page.locator("#r4 > summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#r4 .timeline", state="attached")
    context.close()
