"""Tests of the HTML page of a report in a browser.

They test filters, links, compressed results, time-lines under the pointer, both themes, and small screens. They need
the extra ``browser`` and a Chromium (``make browser``), and are skipped without them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report.page import write_page
from harness.report.reading import Recorded
from tests.helpers.result_records import HEADER, results


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    footer = {"footer": 1, "exitstatus": 1, "seconds": 3.0}
    write_page(path, Recorded(path, HEADER, tuple(results(1000)), footer))
    return path


@pytest.fixture
def page(browser: Any, file: Path) -> Iterator[Any]:
    """Open the page in the browser. Fail if it logs to the console, raises an error, or sends a network request."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened, reported = context.new_page(), []
    opened.on("console", lambda message: reported.append(message.text))
    opened.on("pageerror", lambda error: reported.append(str(error)))
    opened.on("request", lambda request: reported.append(request.url) if not request.url.startswith("file:") else None)
    opened.goto(file.as_uri())
    yield opened
    context.close()
    assert reported == []


def shown(page: Any) -> int:
    count: int = page.locator(".r:not([hidden])").count()
    return count


def test_a_page_of_a_thousand_cases_opens_and_is_small(page: Any, file: Path) -> None:
    assert file.stat().st_size < 3_000_000
    assert shown(page) == 1000
    assert page.locator(".sentence").inner_text().startswith("10 of 998 tests that ran failed, 1 error")


def test_it_is_filtered_by_words_by_outcome_by_marker_and_by_requirement(page: Any) -> None:
    page.keyboard.press("/")
    page.keyboard.type("case-7")
    assert shown(page) == 111
    page.keyboard.press("Escape")
    assert shown(page) == 1000
    page.locator("button[data-status=failed]").click()
    assert shown(page) == 10
    page.locator("#all").click()
    page.locator("#q").fill("CB-TKV-01")
    assert shown(page) == 10
    page.locator("#q").fill("cpu")
    assert shown(page) == 988
    page.locator("#q").fill("nothing like that")
    assert page.locator("#none").is_visible()


def test_a_cell_of_the_matrix_leads_to_its_cases(page: Any) -> None:
    page.locator('#requirements a[data-find^="CB-TKV-01"]').click()
    assert shown(page) == 10
    assert page.locator("#q").input_value() == "CB-TKV-01 @tiny-granite/eager"


def test_a_link_to_a_case_opens_it_with_its_table_and_its_time_line(page: Any, file: Path) -> None:
    page.goto(f"{file.as_uri()}#r500")
    page.goto(f"{file.as_uri()}#r501")
    page.wait_for_selector("#r501 .timeline", state="attached")
    assert page.locator("#r501").get_attribute("open") is not None
    assert page.locator("#r501 .t tbody tr").count() > 3
    assert page.locator("#r501 .tokens").count() == 1
    assert page.locator("#r501 .src pre").count() == 2


def test_a_link_names_its_test_and_leads_there_on_any_page(page: Any, file: Path) -> None:
    page.goto(f"{file.as_uri()}#r501")
    page.wait_for_selector("#r501 .again a")
    link = page.locator("#r501 .again a").get_attribute("href")
    assert "case-501" in link
    page.goto("about:blank")
    page.goto(file.as_uri() + link)
    page.wait_for_selector("#r501 .timeline", state="attached")
    page.goto("about:blank")
    page.goto(f"{file.as_uri()}#suites/no.yaml::such[test]")
    assert shown(page) == 1000


def test_n_and_p_go_from_problem_to_problem(page: Any) -> None:
    def focused() -> str:
        return str(page.evaluate("document.activeElement.closest('.r')?.id"))

    page.keyboard.press("n")
    assert focused() == "r0"
    page.keyboard.press("n")
    assert focused() == "r2"
    page.keyboard.press("p")
    page.keyboard.press("p")
    assert focused() == "r900"
    page.keyboard.press("/")
    page.keyboard.type("n")
    assert page.locator("#q").input_value() == "n"


def test_a_requirement_that_does_not_hold_leads_to_its_tests(page: Any) -> None:
    page.locator(".broken a[data-find]").first.click()
    assert page.locator("#q").input_value() == "CB-TKV-01"
    assert shown(page) == 10


def test_a_time_line_says_what_is_under_the_pointer(page: Any, file: Path) -> None:
    page.goto(f"{file.as_uri()}#r501")
    picture = page.wait_for_selector("#r501 .timeline")
    picture.scroll_into_view_if_needed()
    parts = page.locator("#r501 .timeline .hover")
    box = parts.nth(2).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    reported = page.evaluate("document.querySelector('.readout').value")
    assert reported.startswith("step ")
    assert "decode of 0, tkv " in reported
    assert " to " not in reported
    page.mouse.move(5, 5)
    assert page.locator(".readout").is_hidden()


def test_what_differs_is_drawn_over_what_was_seen(page: Any) -> None:
    failed = page.locator("#r0")
    assert failed.locator(".timeline .differs").count() == 1
    assert failed.locator(".timeline .wanted").count() >= 1
    assert page.locator("#r100 .timeline .differs").count() == 1


def test_a_time_line_of_chunks_says_who_shares_what(page: Any, file: Path) -> None:
    page.goto(f"{file.as_uri()}#r3")
    picture = page.wait_for_selector("#r3 .timeline")
    picture.scroll_into_view_if_needed()
    assert page.locator("#r3 .timeline .who").all_text_contents() == ["A", "A"]
    box = page.locator("#r3 .timeline .hover").nth(4).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    reported = page.evaluate("document.querySelector('.readout').value")
    assert reported.startswith("step 4: chunk 2 of 2 of 1, tkv 200")
    assert "blocks 0–2 shared with 0" in reported
    page.mouse.move(5, 5)
    # There is one legend for all time-lines of the page.
    assert "found in the cache" in page.locator(".legend").text_content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(browser: Any, file: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    opened = context.new_page()
    opened.goto(f"{file.as_uri()}#r501")
    opened.wait_for_selector("#r501 .timeline", state="attached")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is (scheme == "light")
    context.close()


def test_it_says_what_matters_without_scripts(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(file.as_uri())
    assert opened.locator("#problems li").first.is_visible()
    assert opened.locator("#r0 .timeline").is_visible()
    context.close()
