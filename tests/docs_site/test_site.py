"""The documentation site: it builds without a warning, has every case and requirement, and is small."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from docs_site.catalogue.entries import Catalogue, read_catalogue
from docs_site.catalogue.steps import steps_of
from docs_site.markup import requirement_path, suite_path
from harness.drivers.engine_pool import EnginePool
from harness.drivers.reference import SimulationDriver
from tests.helpers.paths import ROOT

MAX_BYTES = 15_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly, once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    built = folder / "docs-site"
    with FileLock(folder / "docs-site.lock"):
        if not (built / "sitemap.xml").exists():
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(built)]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
            assert done.returncode == 0, done.stderr
    return built


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


def test_every_case_that_can_be_simulated_has_its_table_and_its_picture(site: Path, catalogue: Catalogue) -> None:
    engines = EnginePool(SimulationDriver())
    for suite in catalogue.suites:
        html = html_of(site, suite_path(suite.name))
        drawn = [entry for entry in suite.cases if steps_of(entry, engines) is not None]
        assert drawn or suite.loaded.suite.kind != "scheduler_steps"
        assert re.findall(r'aria-label="Step table of ([^"]+)"', html) == [entry.case.id for entry in drawn]
        assert html.count("<svg class=timeline viewBox") == len(drawn)
        assert 'class="slot"' not in html
    engines.close()


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//', text) == []
        assert re.findall(r'<link[^>]* rel="?(?:stylesheet|preconnect)"?[^>]* href="?https?:', text) == []
