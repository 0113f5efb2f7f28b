"""Symbolic links to suites: collect each file and folder only once, and report a link without a target as an error."""

import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.suites.discovery import dangling
from harness.suites.yaml import shown_file
from spyre_cb.look import dangling_links, is_loop
from spyre_cb.naming import named_key

_seen_key = pytest.StashKey[dict[str, Path]]()
"""The path by which each suite of this session was collected. The key is the path without symbolic links."""


def is_new(config: pytest.Config, file: Path) -> bool:
    """Return False if pytest has already collected the suite ``file`` under another path, because of symbolic links.

    For a file on the command line, always return True.
    """
    seen = config.stash.setdefault(_seen_key, {})
    real = os.path.realpath(file) if file.exists() else f"{os.path.realpath(file.parent)}/{file.name}"
    return str(file) in config.stash[named_key].files or seen.setdefault(real, file) == file


class DanglingLink(pytest.File):
    """A collector for a symbolic link whose target, a suite, does not exist. It reports an error."""

    def collect(self) -> Iterable[pytest.Item]:
        raise ValueError(dangling(self.path))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *_: Any, **__: Any) -> Any:
        return f"{shown_file(self.path)}: {excinfo.value}"


class Links:
    """A pytest plugin in every process that collects tests: reports symbolic links without a target.

    A symbolic link to a folder above the link is not followed.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if is_loop(collection_path) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Directory) and report.passed:
            named = collector.config.stash[named_key]
            found = (link for link in dangling_links(collector.path) if named.covers(link))
            links = (link for link in found if is_new(collector.config, link))
            report.result = [*report.result, *(DanglingLink.from_parent(collector, path=link) for link in links)]
        return report
