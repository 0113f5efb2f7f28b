"""Suites as pytest sees them: a file, and an item a test."""

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
from harness.cases.needs import missing_capability
from harness.cases.run import run_at_client, run_test
from harness.cases.test import CaseError, Test, Verdicts, as_data
from harness.drivers.base import UnavailableError
from harness.drivers.compilations import watch
from harness.drivers.optional import backend_label, scheduler_of, serves
from harness.drivers.server_pool import DirtyServerError, ServerNeed
from harness.golden.tables import GoldenError
from harness.pytest_plugin.failure_repr import FailureRepr
from harness.pytest_plugin.results import RESULT_PROPERTY, SPENT_PROPERTY
from harness.pytest_plugin.settings import Count, Settings, draws_failures, settings_key
from harness.references import ReferenceFileError, ReferenceMissingError
from harness.suites.expand import Expanded, TooManyTestsError, expand
from harness.suites.loader import LoadedSuite, SuiteError, load_suite
from harness.suites.markers import registered
from harness.suites.schema import BehaviourCase, Limits
from harness.suites.yaml import shown_file
from harness.types import EngineSetup, SchedulingLimits, Verdict, failures
from harness.utils import spent

SERVER_PROPERTY = "spyre_cb_server"
"""A property of a test before which a server was replaced: why, in a sentence."""
TOO_MANY = "raise max_tests in the suite if you mean it, or give --cb-max-tests"


class SuiteFile(pytest.File):
    """A YAML suite."""

    def collect(self) -> Iterable["CaseItem"]:
        settings: Settings = self.config.stash[settings_key]
        loaded = load_suite(self.path)
        tests = self._tests(loaded, settings)
        lint_suite(loaded, registered(self.config.getini("markers")))
        settings.counts[self.nodeid] = Count(len(loaded.suite.cases), len(tests))
        if settings.blessing is not None and not self.config.option.collectonly:
            expected = [(case.id, getattr(case, "expect", None)) for case in loaded.suite.cases]
            golden = {name for name, expect in expected if getattr(expect, "steps", None) == "golden"}
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
        """What a person wrote wrongly is one line a problem, not a traceback."""
        if isinstance(excinfo.value, SuiteError | ValueError):
            text = str(excinfo.value)
            return text if isinstance(excinfo.value, SuiteError) else f"{shown_file(self.path)}: {text}"
        return super().repr_failure(excinfo, *args, **kwargs)


@cache
def _mark(name: str) -> pytest.MarkDecorator:
    """pytest makes a new one each time it is asked."""
    mark: pytest.MarkDecorator = getattr(pytest.mark, name)
    return mark


class CaseItem(pytest.Item):
    """One case in one configuration."""

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
        reason = self._why_skipped()
        if reason:
            self.add_marker(pytest.mark.skip(reason=reason))

    def _why_skipped(self) -> str | None:
        driver = self.settings.driver
        lacking = missing_capability(self.expanded, driver.capabilities, self.settings.policy)
        if lacking:
            return f"needs {lacking}, which the {driver.name} driver does not offer"
        case, setup = self.expanded.case, self.expanded.setup
        if self.expanded.configuration.entry_point == "http" and isinstance(case, BehaviourCase):
            limits = SchedulingLimits(**self.expanded.limits.model_dump())
            unfit = driver.unfit(setup, limits, case.server) if serves(driver) else None
            return driver.unavailable(setup) or unfit
        return driver.unavailable(setup)

    @property
    def backend_label(self) -> str:
        """What reports call the backend: ``sendnn (simulated)`` where there is no card."""
        return backend_label(self.settings.driver, self.expanded.configuration.backend)

    @property
    def on_card(self) -> bool:
        """Whether it runs on a card, where there is one."""
        return self.expanded.configuration.backend == "sendnn" and self.get_closest_marker("simulated") is None

    @property
    def line(self) -> int:
        """The line of the case in its suite, from 1."""
        return self.loaded.line_of_case(self.expanded.index)

    @property
    def place(self) -> str:
        """Where the case stands, as a person would type it."""
        return f"{shown_file(self.path)}:{self.line}"

    @property
    def server_need(self) -> ServerNeed | None:
        """The server this test wants, if any."""
        case, setup = self.expanded.case, self.expanded.setup
        if self.expanded.configuration.entry_point != "http" or not isinstance(case, BehaviourCase):
            return None
        return ServerNeed(
            setup, _effective_limits(self.expanded.limits, setup), case.server, wants_a_server_alone(case)
        )

    def warm_up(self) -> None:
        """Start in this process what a fork of it is to use: what each would start alike is started once."""
        engines, need = self.settings.engines, self.server_need
        if need is None:
            engines.warm_up([self.expanded.setup])
        elif not self.on_card:  # one process at a time has a card
            engines.warm_up_server(need, self.nodeid)

    def cool_down(self, *, well: bool) -> None:
        """After a fork of this process ran the test: a server that may be in a bad state goes."""
        engines, need = self.settings.engines, self.server_need
        engines.servers.take_notes()  # the fork has said them
        if need is not None and not well:
            engines.servers.discard(need)

    def announce(self) -> None:
        """Say what this test is before it runs, so that a skip or a crash is reported with it."""
        self.user_properties[:] = [(RESULT_PROPERTY, json.dumps(self._header()))]

    def runtest(self) -> None:
        try:
            self._run()
        finally:
            self.user_properties.append((SPENT_PROPERTY, json.dumps(spent.take())))

    def _run(self) -> None:
        if self.config.option.cb_require_hardware and self.get_closest_marker("simulated"):
            # Workers of -n find out one by one; without them the run has not begun.
            raise CaseError(f"--cb-require-hardware: this would run on {self.backend_label}")
        verdicts = self._verdicts()
        record = self._header() | {"verdicts": as_data(verdicts)}
        self.user_properties[:] = [(RESULT_PROPERTY, json.dumps(record)), *self._properties(SERVER_PROPERTY)]
        failed = failures(verdicts)
        if failed:
            text = failure_text(self.expanded, verdicts, self.place, self.bless_command)
            if draws_failures(self.config):
                text += picture_text(verdicts, shutil.get_terminal_size().columns)
            raise CaseFailedError(failed[0].headline, text)

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
        # An engine of several processes outlives the one that asked for it: a forked child must not leave it behind.
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
        except (UnavailableError, DirtyServerError) as error:
            raise CaseError(f"{error}{_rounded_up(self.expanded.limits, need.setup)}") from error
        except BaseException:
            engines.servers.discard(need)
            raise
        finally:
            notes = engines.servers.take_notes()
            self.user_properties += [(SERVER_PROPERTY, note) for note in notes]
        # A server outlives the process that asked for it: a forked child must not leave one behind.
        if not all(verdict.passed for verdict in verdicts) or engines.in_a_child:
            engines.servers.discard(need)
        return (*verdicts, *(Verdict(True, note) for note in notes))

    @property
    def bless_command(self) -> str:
        return f'python -m pytest "{shown_file(self.path)}::{self.name}" --cb-bless'

    def _header(self) -> dict[str, Any]:
        """What reports say of a test, whatever comes of it."""
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
        """A verdict or a mistake in a suite reads as text; only a fault of the harness shows a traceback."""
        if isinstance(excinfo.value, CaseFailedError):
            return FailureRepr(excinfo.value.headline, str(excinfo.value), str(self.path), self.line)
        if isinstance(excinfo.value, ReferenceMissingError | ReferenceFileError):
            cure = f"to compute it and write it down:  spyre-cb references {shown_file(self.path)}"
            return f"{self.loaded.place_of_case(self.expanded.index)}: {self.expanded.case.id}: {excinfo.value}; {cure}"
        if isinstance(excinfo.value, GoldenError | CheckpointError | CaseError):
            return f"{self.loaded.place_of_case(self.expanded.index)}: {self.expanded.case.id}: {excinfo.value}"
        return super().repr_failure(excinfo, *args, **kwargs)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        return self.path, self.line - 1, self.name


def _rounded_up(limits: Limits, setup: EngineSetup) -> str:
    """Where the numbers in an engine's complaint come from that are not the case's."""
    effective = _effective_limits(limits, setup)
    if (effective.max_model_len, effective.max_num_seqs) == (setup.max_model_len, setup.max_num_seqs):
        return ""
    return " — limits are rounded up to what an engine is built for: ask for less"


def _effective_limits(limits: Limits, setup: EngineSetup) -> SchedulingLimits:
    """The limits a server is started with: cases that leave to the shape what others say share a server."""
    return SchedulingLimits(
        limits.max_model_len or setup.max_model_len,
        limits.max_num_seqs or setup.max_num_seqs,
        limits.available_blocks,
        limits.max_batch_tkv_limit,
    )
