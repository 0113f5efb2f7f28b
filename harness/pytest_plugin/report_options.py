"""Determine from pytest's options which reports to write."""

from pathlib import Path

import pytest

from harness.report.writing import Wanted

_allure_key = pytest.StashKey[tuple[Path | None, bool]]()


def take_over_allure(config: pytest.Config) -> None:
    """Take the option ``--alluredir`` away from allure-pytest, which fails in forked runs and after crashes.

    The harness writes the Allure files itself (``report/allure_files.py``). This function must be called in the main
    process (with xdist, the controller) before allure-pytest reads the option.
    """
    option = config.option
    folder = getattr(option, "allure_report_dir", None)
    config.stash[_allure_key] = (Path(folder) if folder else None, bool(getattr(option, "clean_alluredir", False)))
    if folder:
        option.allure_report_dir = None


def wanted_reports(config: pytest.Config) -> Wanted:
    """Return the paths of the reports that the options request."""
    folder, clean = config.stash[_allure_key]
    return Wanted(config.option.cb_html, folder, None, config.option.cb_markdown, clean)
