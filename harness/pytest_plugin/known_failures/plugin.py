"""The pytest plugin for known failures: marks the listed tests as xfail, and refuses invalid entries."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoints import CheckpointError
from harness.cases.lint import REQUIREMENTS
from harness.cases.test import NoEngineError
from harness.drivers.optional import vllm_version_of
from harness.golden.tables import GoldenError
from harness.pytest_plugin.items import CaseItem
from harness.pytest_plugin.known_failures.entries import FILE_NAME, Listed, load_known_failures
from harness.pytest_plugin.settings import settings_key
from harness.references import ReferenceFileError, ReferenceMissingError
from harness.suites.discovery import NoSuitesError, suite_files
from harness.suites.expand import model_label
from harness.suites.loader import SuiteError, load_suite
from harness.suites.markers import closest
from harness.utils.digests import content, digest_of
from harness.utils.paths import resolved
from harness.utils.text import plural

NAME = "spyre-cb-known-failures"
_STRICT = "[XPASS(strict)]"
NOT_CHECKED = (NoEngineError, GoldenError, ReferenceMissingError, ReferenceFileError, CheckpointError)
"""Errors that end a test before any result is checked. A test with such an error fails even if it is listed."""


class KnownFailures:
    """A pytest plugin in every process that collects tests: marks known failures as xfail.

    ``given`` is the file of ``--cb-known-failures``. If it is None, the file next to each suite, or in a folder above
    it, is used.
    """

    def __init__(self, config: pytest.Config, given: Path | None) -> None:
        self._config = config
        self._given = resolved(given) if given else None
        self._marked: dict[str, Listed] = {}
        self._lists: dict[Path, Path | None] = {}  # The list of known failures for each suite file.

    @staticmethod
    def of(config: pytest.Config) -> "KnownFailures":
        """Return the plugin that is registered with pytest."""
        plugin = config.pluginmanager.get_plugin(NAME)
        assert isinstance(plugin, KnownFailures)
        return plugin

    def check(self) -> None:
        """Check the lists of known failures before tests run.

        Raises pytest.UsageError if a list has a mistake, or if it names a case that does not exist.
        """
        arguments = [Path(str(argument).partition("::")[0]) for argument in self._config.args]
        for file in self._files(arguments):
            try:
                listed = load_known_failures(file)
            except SuiteError as error:
                raise pytest.UsageError(str(error)) from error
            cases = self._cases_of_a_full_run(file, arguments) if listed else None
            for each in listed if cases else ():
                if cases and not any(each.names(case) for case in cases):
                    hint = closest(each.entry.case, cases) or "correct the entry, or remove it"
                    raise pytest.UsageError(
                        f"{each.place}:{each.column}: the case {each.entry.case!r} does not exist — {hint}".rstrip()
                    )

    def _files(self, arguments: list[Path]) -> list[Path]:
        if self._given is not None:
            return [self._given]
        below = [file for folder in arguments if folder.is_dir() for file in sorted(folder.rglob(FILE_NAME))]
        above = [found for path in arguments if (found := _list_for(resolved(path))) is not None]
        return list(dict.fromkeys(resolved(file) for file in (*above, *below)))

    def _cases_of_a_full_run(self, file: Path, arguments: list[Path]) -> list[str] | None:
        """Return SUITE/ID of all cases to which the list of known failures ``file`` applies.

        ``arguments`` are the paths on pytest's command line. Return None if the run does not include all of these
        cases: an entry may then name a case that is not in the run, so it can't be checked that the case exists.
        """
        if not all(argument.is_dir() for argument in arguments):
            return None
        try:
            suites = [load_suite(suite) for suite in suite_files(arguments)]
        except (SuiteError, NoSuitesError):
            return None  # pytest reports the invalid suite when it collects the tests.
        roots = [_suites_root(suite.path) for suite in suites] if self._given else [file.parent]
        for root in roots:
            if not any(root.is_relative_to(resolved(argument)) for argument in arguments):
                return None
        return [f"{suite.suite.suite}/{case.id}" for suite in suites for case in suite.suite.cases]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        settings = self._config.stash[settings_key]
        for item in items:
            if isinstance(item, CaseItem) and (listed := self._listed(item)) is not None:
                self._marked[item.nodeid] = listed
                item.known_failure = {
                    "case": listed.entry.case,
                    "reason": listed.entry.reason,
                    "place": listed.place,
                }
                item.add_marker(pytest.mark.xfail(reason=listed.entry.reason, strict=listed.entry.strict))
        if lists := sorted(file for file in set(self._lists.values()) if file is not None):
            settings.digests[FILE_NAME] = digest_of(*map(content, lists))

    def _listed(self, item: CaseItem) -> Listed | None:
        if item.path not in self._lists:
            self._lists[item.path] = self._given or _list_for(resolved(item.path))
        file = self._lists[item.path]
        if file is None:
            return None
        name, facts = f"{item.loaded.suite.suite}/{item.expanded.case.id}", _facts(item)
        return next((e for e in load_known_failures(file) if e.names(name) and e.entry.when.hold(facts)), None)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        report = yield
        if hasattr(report, "wasxfail") and call.excinfo is not None and isinstance(call.excinfo.value, NOT_CHECKED):
            # A known failure is a wrong answer of the engine, and the engine has not answered.
            del report.wasxfail
            report.outcome = "failed"
        listed = self._marked.get(item.nodeid)
        if listed is not None and report.failed and str(report.longrepr).startswith(_STRICT):
            report.longrepr = (
                f"the test passed, but {listed.place} lists it as a known failure ({listed.entry.reason}): "
                "remove the entry"
            )
        return report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write a line for each reason, with the number of tests that failed as expected or passed unexpectedly."""
        for word, what in (("xfailed", "failed as expected"), ("xpassed", "passed although listed as a known failure")):
            reasons = [report.wasxfail for report in terminalreporter.stats.get(word, ())]
            for reason in dict.fromkeys(reasons):
                terminalreporter.write_line(f"{what}: {plural(reasons.count(reason), 'test')}: {reason}")


def _facts(item: CaseItem) -> dict[str, Any]:
    """Return the test's value for each condition of ``Conditions``, such as ``backend``, by the condition's name."""
    configuration, settings = item.expanded.configuration, item.config.stash[settings_key]
    return {
        "backend": configuration.backend,
        "model": (configuration.model, model_label(configuration.model)),
        "driver": settings.driver.name,
        "tensor_parallel_size": configuration.tensor_parallel_size,
        "scheduler": configuration.scheduler,
        "entry_point": configuration.entry_point,
        "cards": item.config.option.cards_of_run,
        "simulated": item.get_closest_marker("simulated") is not None,
        "vllm": vllm_version_of(settings.driver),
    }


def _list_for(path: Path) -> Path | None:
    """Return the list of known failures that applies to a suite file or folder, None if there is none.

    It is the nearest file known-failures.yaml in the folder or above it, within the project.
    """
    for folder in _upward(path if path.is_dir() else path.parent):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def _suites_root(suite: Path) -> Path:
    """Return the folder to which the name of a suite is relative.

    It is the nearest folder above the suite that has a requirements.yaml. If there is none, it is the suite's folder.
    """
    folder = resolved(suite).parent
    return next((each for each in _upward(folder) if (each / REQUIREMENTS).is_file()), folder)


def _upward(folder: Path) -> Iterator[Path]:
    """Yield the folder and its parents, up to the first that has a requirements.yaml, a pyproject.toml or a .git."""
    for each in (folder, *folder.parents):
        yield each
        if (each / REQUIREMENTS).is_file() or (each / "pyproject.toml").is_file() or (each / ".git").exists():
            return
