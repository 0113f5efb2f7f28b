"""Check the files and folders that a run will write, before the run, and without creating anything."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.pytest_plugin.report_options import wanted_reports
from harness.suites.discovery import SUITE_SUFFIXES
from harness.utils.files import refuse_named_pipe
from harness.utils.paths import resolved, written_twice


def check_outputs(config: pytest.Config) -> None:
    """Check that the reports of a run can be written.

    Raises pytest.UsageError for a report that would overwrite a suite or another report, or that can't be written.
    """
    option, folder = config.option, wanted_reports(config).allure
    files = [(f"--cb-{name}", getattr(option, f"cb_{name}")) for name in ("html", "markdown", "results")]
    for name, path in files:
        if path is not None and path.suffix in SUITE_SUFFIXES:
            raise pytest.UsageError(f"{name} {path}: this would overwrite a suite; name another file")
    xml = getattr(option, "xmlpath", None)
    if twice := written_twice([*files, ("--junitxml", Path(xml) if xml else None), ("--alluredir", folder)]):
        raise pytest.UsageError(twice)
    for name, path in [*files, ("--alluredir", folder)]:
        if path is None:
            continue
        try:
            _check_writable(path, is_folder=name == "--alluredir")
        except OSError as error:
            raise pytest.UsageError(f"{name} {path}: cannot be written: {error.strerror or error}") from error


def _check_writable(path: Path, *, is_folder: bool) -> None:
    """Raise OSError if a file or folder can't be written. If its folder is missing, check where that would be made."""
    refuse_named_pipe(path)
    above = next(_existing(path if is_folder else path.parent))
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK) and not path.exists():
        raise PermissionError(f"the folder {above} is not writable")
    if not is_folder and above == path.parent:
        existed = path.exists()
        path.open("a").close()
        if not existed:
            resolved(path).unlink()  # Not a link that leads to it.


def _existing(path: Path) -> Iterator[Path]:
    """Yield those of a path and the folders above it that exist, the innermost first."""
    yield from (each for each in (path, *path.absolute().parents) if os.path.lexists(each))
