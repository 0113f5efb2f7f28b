"""pytest's collector for suite files, and the pytest item for each of their tests."""

import json
import os
import shutil
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from checkpoints import CheckpointError
from harness.cards.discovery import leased_cards
from harness.cases.behaviour.needs import wants_a_server_alone
from harness.cases.compared import has_reference
from harness.cases.failure_text import CaseFailedError, failure_text, picture_text
from harness.cases.lint import lint_suite
from harness.cases.places import place_in_case
from harness.cases.run import run_at_client, run_test
from harness.cases.skip_reasons import why_skipped
from harness.cases.test import CaseError, NoEngineError, Test, Verdicts, as_data
from harness.drivers.base import UnavailableError
from harness.drivers.compilations import watch
from harness.drivers.optional import backend_label, scheduler_of
from harness.drivers.server_pool import DirtyServerError, ServerNeed
from harness.drivers.start_failures import EngineStartError
from harness.golden.tables import GoldenError, golden_path
from harness.pytest_plugin.failure_repr import FailureRepr
from harness.pytest_plugin.results import RESULT_PROPERTY, SPENT_PROPERTY
from harness.pytest_plugin.settings import Count, Settings, draws_failures, settings_key
from harness.references import ReferenceFileError, ReferenceMissingError
from harness.references.structures import StructureError
from harness.report.printable import printable
from harness.suites.expand import Expanded, TooManyTestsError, expand
from harness.suites.loader import LoadedSuite, SuiteError, load_suite
from harness.suites.markers import registered
from harness.suites.schema import BehaviourCase, Limits
from harness.suites.yaml import YamlPath, shown_file
from harness.types import EngineSetup, SchedulingLimits, Verdict, failures
from harness.utils import spent
from harness.utils.digests import content, digest_of

SERVER_PROPERTY = "spyre_cb_server"
"""Name of the user property of a test whose shared server was replaced before the test. Its value says why."""
DAMAGED_PROPERTY = "spyre_cb_damaged"
"""Name of the user property of a test that ignored a damaged file of references. Its value names it and the remedy."""
TOO_MANY = "to run that many tests, raise max_tests in the suite, or use --cb-max-tests"


class SuiteFile(pytest.File):
    """The pytest collector of a suite file."""

    def collect(self) -> Iterable["CaseItem"]:
        settings: Settings = self.config.stash[settings_key]
        loaded = load_suite(self.path)
        tests = self._tests(loaded, settings)
        lint_suite(loaded, registered(self.config.getini("markers")))
        settings.counts[self.nodeid] = Count(len(loaded.suite.cases), len(tests))
        expected = [(case.id, getattr(case, "expect", None)) for case in loaded.suite.cases]
        golden = {name for name, expect in expected if getattr(expect, "steps", None) == "golden"}
        tables = [golden_path(self.path, name) for name in sorted(golden)]
        settings.digests[self.nodeid] = digest_of(loaded.text.encode(), *map(content, tables))
        if settings.blessing is not None and not self.config.option.collectonly:
            compared = {case.id for case in loaded.suite.cases if has_reference(case)}
            settings.blessing.remove_stale(self.path, golden, compared)
        for test in tests:
            yield CaseItem.from_parent(self, name=test.name, loaded=loaded, expanded=test)

    def _tests(self, loaded: LoadedSuite, settings: Settings) -> list[Expanded]:
        try:
            return expand(loaded.suite, settings.models, settings.max_tests, scheduler_of(settings.driver))
        except TooManyTestsError as error:
            raise SuiteError([loaded.problem(("max_tests",), str(error), TOO_MANY)]) from error

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Return the text of an error. Mistakes in a suite are one line each, without a traceback."""
        if isinstance(excinfo.value, SuiteError | ValueError):
            text = str(excinfo.value)
            return text if isinstance(excinfo.value, SuiteError) else f"{shown_file(self.path)}: {text}"
        return super().repr_failure(excinfo, *args, **kwargs)


@cache
def _mark(name: str) -> pytest.MarkDecorator:
    """Return ``pytest.mark.<name>`` from a cache, because pytest creates a new object at each access."""
    mark: pytest.MarkDecorator = getattr(pytest.mark, name)
    return mark


class CaseItem(pytest.Item):
    """A pytest item: one case of a suite in one configuration (model, backend, tensor parallel size, …)."""

    def __init__(self, *, loaded: LoadedSuite, expanded: Expanded, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loaded = loaded
        self.expanded = expanded
        self.settings: Settings = self.config.stash[settings_key]
        self.known_failure: dict[str, str] | None = None
        for name in expanded.markers(loaded.suite):
            self.add_marker(_mark(name))
        if self.backend_label != expanded.configuration.backend:
            self.add_marker("simulated")
        self._compiled: dict[str, Any] | None = None
        if reason := why_skipped(expanded, self.settings.driver, self.settings.policy):
            self.add_marker(pytest.mark.skip(reason=reason))

    @property
    def backend_label(self) -> str:
        """Return the backend's name for reports, such as ``eager``, or ``sendnn (simulated)`` without torch_sendnn."""
        return backend_label(self.settings.driver, self.expanded.configuration.backend)

    @property
    def on_card(self) -> bool:
        """Return whether the test runs on a Spyre card. It does if the backend is sendnn and is not simulated."""
        return self.expanded.configuration.backend == "sendnn" and self.get_closest_marker("simulated") is None

    @property
    def line(self) -> int:
        """Return the number of the line at which the case begins in its suite file. The first line is 1."""
        return self.loaded.line_of_case(self.expanded.index)

    @property
    def place(self) -> str:
        """Return the position of the case as ``file:line``."""
        return f"{shown_file(self.path)}:{self.line}"

    @property
    def server_need(self) -> ServerNeed | None:
        """Return the server that this test needs, None if the test does not use HTTP."""
        case, setup = self.expanded.case, self.expanded.setup
        if self.expanded.configuration.entry_point != "http" or not isinstance(case, BehaviourCase):
            return None
        return ServerNeed(
            setup, _effective_limits(self.expanded.limits, setup), case.server, wants_a_server_alone(case)
        )

    def warm_up(self) -> None:
        """Start the engine or server of the test before this process is forked, so that all forks use the same one."""
        engines, need = self.settings.engines, self.server_need
        if need is None:
            engines.warm_up([self.expanded.setup])
        elif not self.on_card:  # Only one process at a time can use a card.
            engines.warm_up_server(need, self.nodeid)

    def cool_down(self, *, well: bool) -> None:
        """Discard the server of the test if ``well`` is False. Called after a fork of this process has run the test.

        ``well`` is whether the test ended without a failure. After a failed test, the server may be in a state in which
        other tests would fail.
        """
        engines, need = self.settings.engines, self.server_need
        engines.servers.take_notes()  # The fork has reported these notes.
        if need is not None and not well:
            engines.servers.discard(need)

    def announce(self) -> None:
        """Attach the data of the case to the test before the test runs, so that reports have it even after a crash."""
        self.user_properties[:] = [(RESULT_PROPERTY, json.dumps(self._header()))]

    def runtest(self) -> None:
        try:
            self._run()
        finally:
            self.user_properties.append((SPENT_PROPERTY, json.dumps(spent.take())))
            self.user_properties += [(DAMAGED_PROPERTY, f"{what}; {self._fix}") for what in self._damaged()]

    def _run(self) -> None:
        if self.config.option.cb_require_hardware and self.get_closest_marker("simulated"):
            # Without -n, ``_refuse_simulation`` in session.py has ended the run before any test.
            raise CaseError(
                f"--cb-require-hardware: this test would run on {self.backend_label}, "
                "because torch_sendnn is not installed: install it, or leave out --cb-require-hardware"
            )
        verdicts = self._verdicts()
        record = self._header() | {"verdicts": as_data(verdicts)}
        self.user_properties[:] = [(RESULT_PROPERTY, json.dumps(record)), *self._properties(SERVER_PROPERTY)]
        failed = failures(verdicts)
        if failed:
            text = failure_text(self.expanded, verdicts, self.place, self.bless_command)
            if draws_failures(self.config):
                text += picture_text(verdicts, shutil.get_terminal_size().columns)
            raise CaseFailedError(failed[0].headline, text)

    def _damaged(self) -> list[str]:
        """Return, for each damaged file of reference outputs that the test has ignored, a sentence that names it."""
        damaged = self.settings.oracle.damaged
        found = list(dict.fromkeys(damaged))
        damaged.clear()
        return found

    @property
    def _fix(self) -> str:
        return f"to compute and write it:  spyre-cb references {shown_file(self.path)}"

    def _properties(self, name: str) -> list[tuple[str, object]]:
        return [pair for pair in self.user_properties if pair[0] == name]

    def _verdicts(self) -> Verdicts:
        settings, setup = self.settings, self.expanded.setup
        test = Test(
            suite_path=self.path,
            suite_name=self.loaded.suite.suite,
            expanded=self.expanded,
            capabilities=settings.driver.capabilities,
            bless_command=self.bless_command,
            blessing=settings.blessing,
            oracle=settings.oracle,
            policy=settings.policy,
        )
        if self.expanded.configuration.entry_point == "http":
            return self._verdicts_at_server(test)
        try:
            session = settings.engines.session(setup)
        except UnavailableError as error:
            pytest.skip(str(error))
        except ValueError as error:
            raise CaseError(f"{error}{_rounded_up(self.expanded.limits, setup)}") from error
        except EngineStartError as error:
            lines = error.lines or settings.engines.start_failures.shown(setup)
            traceback = "".join(f"\n  {line}" for line in lines)
            raise NoEngineError(f"{error}{_rounded_up(self.expanded.limits, setup)}{traceback}") from error
        # In a forked child, close an engine of several processes now: they would not end with the fork.
        useless = settings.engines.in_a_child and setup.tensor_parallel_size > 1
        watched = watch(session)
        try:
            verdicts = run_test(test, session)
            useless |= any(verdict.data.get("broken") for verdict in verdicts)
        except CaseError:
            raise
        except BaseException:
            useless = True
            raise
        finally:
            self._compiled = watched()
            if useless:
                settings.engines.discard(setup)
        return verdicts

    def _verdicts_at_server(self, test: Test) -> Verdicts:
        engines, need = self.settings.engines, self.server_need
        assert need is not None
        try:
            verdicts = run_at_client(test, engines.server(need, self.nodeid))
        except (UnavailableError, DirtyServerError, EngineStartError) as error:
            raise NoEngineError(f"{error}{_rounded_up(self.expanded.limits, need.setup)}") from error
        except BaseException:
            engines.servers.discard(need)
            raise
        finally:
            notes = engines.servers.take_notes()
            self.user_properties += [(SERVER_PROPERTY, note) for note in notes]
        # End the server now if no other test may use it, or in a forked child, because it would not end with the fork.
        if need.alone or engines.in_a_child or not all(verdict.passed for verdict in verdicts):
            engines.servers.discard(need)
        return (*verdicts, *(Verdict(True, note) for note in notes))

    @property
    def bless_command(self) -> str:
        return f'python -m pytest "{shown_file(self.path)}::{self.name}" --cb-bless'

    def _header(self) -> dict[str, Any]:
        """Return the data about the test that its report always has, even if the test has no result."""
        suite, case, configuration = self.loaded.suite, self.expanded.case, self.expanded.configuration
        first_line, source = self.loaded.source_of_case(self.expanded.index)
        known = {"known_failure": self.known_failure} if self.known_failure else {}
        return {
            "kind": suite.kind,
            "suite": suite.suite,
            "case": case.id,
            "about": case.about,
            "requirements": list(case.requirement),
            "described": case.described(),
            "model": configuration.model,
            "backend": self.backend_label,
            "tensor_parallel_size": configuration.tensor_parallel_size,
            "markers": list(self.expanded.markers(suite)),
            "compiled": self._compiled,
            **({"cards": leased_cards()} if self.on_card else {}),
            "configuration": configuration.label,
            "place": self.place,
            "source": source,
            "source_line": first_line,
            "suite_about": suite.about,
            "bless_command": self.bless_command,
            **known,
        }

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Return the text of a failure. Only unexpected exceptions have a traceback."""
        if isinstance(excinfo.value, CaseFailedError):
            return FailureRepr(excinfo.value.headline, str(excinfo.value), str(self.path), self.line)
        if isinstance(excinfo.value, StructureError | CaseError):
            return self._located(place_in_case(self.expanded.case, excinfo.value), str(excinfo.value))
        if isinstance(excinfo.value, ReferenceMissingError | ReferenceFileError):
            return self._located((), f"{excinfo.value}; {self._fix}")
        if isinstance(excinfo.value, GoldenError | CheckpointError):
            return self._located((), str(excinfo.value))
        return super().repr_failure(excinfo, *args, **kwargs)

    def _located(self, at: YamlPath, what: str) -> str:
        """Return ``what`` after the position of the value at the path ``at`` of the case, or of the case for ()."""
        if at:
            return str(self.loaded.problem(("cases", self.expanded.index, *at), what, ""))
        return printable(f"{self.loaded.place_of_case(self.expanded.index)}: {self.expanded.case.id}: {what}")

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        return self.path, self.line - 1, self.name


def _rounded_up(limits: Limits, setup: EngineSetup) -> str:
    """Return a hint that the limits of a case were rounded up. It is added to the error message of an engine.

    Engines are compiled for a few shapes (``max_model_len`` and ``max_num_seqs``), so the limits of a case are rounded
    up to such a shape. Return "" if the limits of the case are the limits of the engine.
    """
    effective = _effective_limits(limits, setup)
    if (effective.max_model_len, effective.max_num_seqs) == (setup.max_model_len, setup.max_num_seqs):
        return ""
    return (
        " — the limits of the case are rounded up to those of an engine: "
        f"max_model_len {setup.max_model_len}, max_num_seqs {setup.max_num_seqs}; use smaller limits"
    )


def _effective_limits(limits: Limits, setup: EngineSetup) -> SchedulingLimits:
    """Return the limits with which the server of a test is started.

    Limits that the case does not give are the limits of ``setup``, so that more cases can share a server.
    """
    return SchedulingLimits(
        limits.max_model_len or setup.max_model_len,
        limits.max_num_seqs or setup.max_num_seqs,
        limits.available_blocks,
        limits.max_batch_tkv_limit,
    )
