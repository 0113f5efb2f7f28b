"""pytest's options about reports."""

from pathlib import Path

import pytest

from harness.report.writing import Wanted

_allure_key = pytest.StashKey[tuple[Path | None, bool]]()


def take_over_allure(config: pytest.Config) -> None:
    """``--alluredir`` is ours to serve (``allure_files.py``): what allure-pytest writes is wrong in a forked run and
    after a crash. Called before allure-pytest looks at the option, in the process that was started by hand.
    """
    option = config.option
    folder = getattr(option, "allure_report_dir", None)
    config.stash[_allure_key] = (Path(folder) if folder else None, bool(getattr(option, "clean_alluredir", False)))
    if folder:
        option.allure_report_dir = None


def wanted_reports(config: pytest.Config) -> Wanted:
    """What the options ask for."""
    folder, clean = config.stash[_allure_key]
    return Wanted(config.option.cb_html, folder, None, config.option.cb_markdown, clean)
