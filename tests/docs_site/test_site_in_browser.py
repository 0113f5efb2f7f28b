"""Tests of the documentation site in a browser.

No page is wider than the screen, axe-core finds no violations, and the search finds cases by their id.
"""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.helpers.browser import violations

PAGES = (
    "index.html",
    "get-started.html",
    "writing-cases.html",
    "hardware.html",
    "reports.html",
    "schedulers.html",
    "engine.html",
    "catalogue/index.html",
    "catalogue/scheduler_steps/chunked_pausing.html",
    "catalogue/output/stopping.html",
    "catalogue/behaviour/online.html",
    "catalogue/requirements/index.html",
    "catalogue/requirements/CB-ADMIT-03.html",
    "reference/commands.html",
    "reference/suite-format.html",
    "reference/driver-protocol.html",
    "files/CHANGELOG.html",
    "files/harness/drivers/base.py.html",
)


class Quiet(SimpleHTTPRequestHandler):
    """A request handler that serves files and logs nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the documentation site on a free port of the loopback interface, and yield the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def page(request: pytest.FixtureRequest, browser: Any) -> Iterator[Any]:
    """Yield a browser page. Fail if it logs to the console, raises an error, or sends a request to another host."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened, reported = context.new_page(), []
    opened.on("console", lambda message: reported.append(message.text))
    opened.on("pageerror", lambda error: reported.append(str(error)))
    opened.on("request", lambda sent: reported.append(sent.url) if "//127.0.0.1:" not in sent.url else None)
    opened.width = width
    yield opened
    context.close()
    assert reported == []


def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(page: Any, address: str) -> None:
    found = []
    for name in PAGES:
        page.goto(f"{address}/{name}")
        page.wait_for_timeout(200)  # the theme wraps tables, then they are made reachable
        found += [f"{name}: {violation}" for violation in violations(page)]
        if (width := page.evaluate("document.documentElement.scrollWidth")) > page.width:
            found.append(f"{name}: is {width} wide")
    assert found == []


@pytest.mark.parametrize("page", [(1280, "light")], indirect=True, ids=["1280"])
def test_the_search_finds_a_case_by_its_id(page: Any, address: str) -> None:
    page.goto(address)
    page.locator(".md-search__input").fill("three-take-turns")
    result = page.locator(".md-search-result__link").first
    result.wait_for()
    page.keyboard.press("Escape")
    page.goto(result.evaluate("link => link.href"))
    assert "chunked_pausing.html" in page.url
    part = page.locator("#three-take-turns ~ .steps").first
    assert "decode of 0" in part.locator("tr", has=page.locator("th", has_text="9")).first.inner_text()


@pytest.mark.parametrize("page", [(1280, "light")], indirect=True, ids=["1280"])
def test_time_lines_follow_the_colours_that_the_reader_chooses(page: Any, address: str) -> None:
    page.goto(f"{address}/catalogue/scheduler_steps/joining.html")
    ink = "getComputedStyle(document.querySelector('.picture .timeline')).getPropertyValue('--ink')"
    light = page.evaluate(ink)
    page.locator("label[title='Use dark colours']").click()
    assert page.evaluate(ink) != light
