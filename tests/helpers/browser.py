"""A headless Chromium, and axe-core: needs the extra ``browser`` and Chromium (``make browser``)."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


def started_browser() -> Iterator[Any]:
    """Start a headless Chromium; tests are skipped with a reason if Chromium or playwright is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make browser installs it"
    )
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here: apt install chromium, or $CHROMIUM")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def violations(page: Any, *without: str) -> list[str]:
    """Return the violations of axe's rules, including WCAG 2 A and AA, without the parts in ``without``."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not here: make browser")
    found = axe.Axe().run(page, {"exclude": [[part] for part in without]} if without else None).response["violations"]
    return [f"{each['id']}: {node['target']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
