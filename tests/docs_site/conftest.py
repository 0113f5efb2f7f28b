"""Fixtures of the tests of the documentation site: the built site, and a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.helpers.browser import started_browser
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started_browser()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation site with warnings as errors, once for all workers of the run, and return its folder."""
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
