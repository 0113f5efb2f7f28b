"""Helpers for tests in a headless Chromium, with axe-core for accessibility. ``make browser`` installs both."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


def started_browser() -> Iterator[Any]:
    """Start a headless Chromium and yield it. Skip the test, with a reason, if Chromium or playwright is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: make browser installs it"
    )
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed: run apt install chromium, or set CHROMIUM to its path")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def violations(page: Any, *without: str) -> list[str]:
    """Return the violations of axe-core's rules (WCAG 2 A, AA and others) in a page, one line for each element.

    Elements that match a CSS selector in ``without`` are not checked.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: run make browser")
    found = axe.Axe().run(page, {"exclude": [[part] for part in without]} if without else None).response["violations"]
    return [f"{each['id']}: {node['target']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
