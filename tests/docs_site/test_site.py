"""Tests of the documentation site: it builds without warnings, is small, and has every case and requirement."""

import json
import re
from pathlib import Path

import pytest

from docs_site.catalogue.entries import Catalogue, read_catalogue
from docs_site.markup import requirement_path, suite_path
from tests.helpers.paths import ROOT

MAX_BYTES = 16_000_000


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(ROOT / "suites")


def html_of(site: Path, page: str) -> str:
    return (site / page.removesuffix(".md")).with_suffix(".html").read_text(encoding="utf-8")


def test_it_is_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < MAX_BYTES


def test_the_search_finds_every_case_and_requirement(site: Path, catalogue: Catalogue) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {(doc["location"], doc["title"]) for doc in index["docs"]}
    for entry in catalogue.cases:
        page = suite_path(entry.suite).removesuffix(".md")
        assert (f"{page}.html#{entry.case.id}", entry.case.id) in found
    for name in catalogue.by_requirement:
        assert (f"{requirement_path(name).removesuffix('.md')}.html", name) in found


def test_every_scheduler_step_case_has_its_table_and_its_picture(site: Path, catalogue: Catalogue) -> None:
    for suite in catalogue.suites:
        html = html_of(site, suite_path(suite.name))
        cases = [entry.case.id for entry in suite.cases]
        tables = re.findall(r'aria-label="Step table of ([^"]+)"', html)
        pictures = re.findall(r"<svg class=timeline viewBox[^>]*><title>Time-line of ([^<]+)</title>", html)
        assert tables == pictures
        assert tables == cases if suite.loaded.suite.kind == "scheduler_steps" else set(tables) <= set(cases)
        assert 'class="slot"' not in html
        assert not re.search('class="?hover', html)


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text) == []
        assert re.findall(r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]* href="?https?:', text) == []
