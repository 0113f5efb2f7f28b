"""pytest's options about reports."""

from pathlib import Path

import pytest

from harness.report.writing import Wanted

_allure_key = pytest.StashKey[tuple[Path | None, bool]]()


def add_options(group: pytest.OptionGroup) -> None:
    group.addoption("--html-report", type=Path, metavar="FILE", help="write one self-contained page about the run")
    group.addoption("--markdown-report", type=Path, metavar="FILE", help="add a summary to the end of that file")
    group.addoption("--results", type=Path, metavar="FILE", help="write every result as JSON lines, as they come")


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
    return Wanted(config.option.html_report, folder, None, config.option.markdown_report, clean)
