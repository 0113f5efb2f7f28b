"""The pytest plugin of sessions that have suites: collects suite files, and prepares the settings of the run.

``harness/cases/`` runs the tests. This module sets the number of torch's threads to one, before torch is imported. One
thread is fastest for the built-in model. With more threads, two workers on the same cores would be many times slower.
"""

import os
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.utils.environment import set_defaults
from harness.utils.gc import freeze_gc, gc_paused

with gc_paused():  # Collections during the imports would find nothing to free, and take time in every process.
    from checkpoints import CheckpointError, resolve
    from harness.drivers.base import TOKENS, Driver
    from harness.drivers.engine_pool import EnginePool
    from harness.drivers.optional import backend_label
    from harness.drivers.start_failures import (
        StartFailures,
        share_start_failures,
        shared_start_failures,
        unshare_start_failures,
    )
    from harness.pytest_plugin import register as plugins
    from harness.pytest_plugin import report_options
    from harness.pytest_plugin.isolation.messages import SERVING
    from harness.pytest_plugin.items import DAMAGED_PROPERTY, SERVER_PROPERTY, CaseItem, SuiteFile
    from harness.pytest_plugin.known_failures.plugin import KnownFailures
    from harness.pytest_plugin.links import is_new
    from harness.pytest_plugin.settings import Settings, driver_from_options, settings_key
    from harness.suites.loader import SuiteError, load_suite
    from harness.suites.markers import MARKERS, explain_unknown, left_out, registered, unknown_names
    from harness.suites.shipped import is_installed_copy, is_shipped
    from harness.utils.text import plural
    from spyre_cb.naming import as_worker_input, named_key

starts_key = pytest.StashKey[Path | None]()
"""The folder in which the processes of this run record engines that did not start.

The process that created the folder deletes it at the end. In all other processes the value is None.
"""
MODEL_LIST = "VLLM_SPYRE_TEST_MODEL_LIST"
BROKEN_WITH_FORKED = (9, 2)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    report_options.take_over_allure(config)
    set_defaults()
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    _refuse_what_cannot_work(config)
    # If a suite is invalid, run the others. The exit status is still that of an error.
    config.option.continue_on_collection_errors = True
    driver = _driver(config)
    is_part = hasattr(config, "workerinput") or config.pluginmanager.has_plugin(SERVING)
    config.stash[starts_key] = own = None if is_part else share_start_failures()
    engines = EnginePool(driver, start_failures=StartFailures(own or shared_start_failures(), {}))
    config.stash[settings_key] = Settings.from_options(config.option, driver, engines)
    plugins.register(config)


def _driver(config: pytest.Config) -> Driver:
    """Return the driver of the run. Raises pytest.UsageError if the driver can't be used.

    If the command line also names an invalid suite, the error is about the suite and not about the driver.
    """
    try:
        return driver_from_options(config.option)
    except pytest.UsageError:
        for file in config.stash[named_key].files:
            try:
                load_suite(Path(file))
            except SuiteError as error:
                raise pytest.UsageError(str(error)) from error
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the suites that the command line names to one of xdist's workers."""
    node.workerinput.update(as_worker_input(node.config.stash[named_key]))


def _refuse_what_cannot_work(config: pytest.Config) -> None:
    if config.option.cb_bless and os.environ.get("CI"):
        raise pytest.UsageError(
            "--cb-bless: golden tables are not written in CI; if this is not CI, unset the environment variable CI"
        )
    if config.option.cb_bless and is_installed_copy() and any(map(is_shipped, config.args)):
        raise pytest.UsageError("--cb-bless: the suites of an installed package can't be changed; bless a copy of them")
    if config.option.cb_bless and (
        getattr(config.option, "forked", False) or getattr(config.option, "numprocesses", None)
    ):
        raise pytest.UsageError("--cb-bless can't be combined with --forked or -n: leave them out")
    version = tuple(map(int, pytest.__version__.split(".")[:2]))
    if getattr(config.option, "forked", False) and version >= BROKEN_WITH_FORKED:
        raise pytest.UsageError(
            f"--forked: pytest-forked can't send reports from its children with pytest {pytest.__version__}, so that "
            "every test would fail; install pytest<9.2, as constraints.txt does"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    settings = config.stash.get(settings_key, None)
    if settings is not None:
        settings.engines.close()
    if folder := config.stash.get(starts_key, None):
        unshare_start_failures(folder)
    # At its end pytest calls gc.collect() five times. Skip all existing objects, which are freed with the process.
    freeze_gc()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    config = parent.config
    if not config.stash[named_key].is_ours(file_path) or not is_new(config, file_path):
        return None
    # For a file outside its root, pytest's name would be empty.
    inside = file_path.is_relative_to(config.rootpath)
    name = None if inside else Path(os.path.relpath(file_path, config.rootpath)).as_posix()
    return SuiteFile.from_parent(parent, path=file_path, nodeid=name)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Pause garbage collection while pytest collects the tests, then exclude all existing objects from it.

    The tests are many objects that live until the end of the session.
    """
    with gc_paused():
        result = yield
        freeze_gc()
        return result


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Check ``-m``, the lists of known failures, and the models, before xdist's workers are started.

    Raises pytest.UsageError for an unknown marker, a wrong entry of a list, and a model that does not exist.

    If ``-m`` names an unknown marker, pytest itself would select no tests, without an error.
    """
    config = session.config
    if hasattr(config, "workerinput"):
        return
    unknown = unknown_names(config.option.markexpr or "", registered(config.getini("markers")))
    if unknown:
        raise pytest.UsageError(explain_unknown(unknown, MARKERS))
    KnownFailures.of(config).check()
    settings = config.stash[settings_key]
    if os.environ.get(MODEL_LIST) and TOKENS in settings.driver.capabilities:
        for model in settings.models:
            _find(model)


def _find(model: str) -> None:
    """Raise pytest.UsageError if a model does not exist. Otherwise every test would report the same error."""
    try:
        resolve(model)
    except CheckpointError as error:
        raise pytest.UsageError(f"{MODEL_LIST}: {error}") from error


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect and count the tests that run only if ``-m`` names their marker, such as ``slow``."""
    expression = config.option.markexpr or ""
    reasons = {item: left_out({mark.name for mark in item.iter_markers()}, expression) for item in items}
    out = [item for item, reason in reasons.items() if reason]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if not reasons[item]]
        config.stash[settings_key].left_out.update(filter(None, reasons.values()))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """With ``--cb-require-hardware``, refuse simulated tests. With ``--cb-bless``, remove stale golden tables.

    Raises pytest.UsageError if a test would run on a simulated card although ``--cb-require-hardware`` is given.
    """
    settings = session.config.stash[settings_key]
    if session.config.option.cb_require_hardware and not hasattr(session.config, "workerinput"):
        _refuse_simulation(session.items)
    if settings.blessing is not None and not session.config.option.collectonly:
        for folder in filter(Path.is_dir, (session.config.invocation_params.dir / arg for arg in session.config.args)):
            settings.blessing.remove_stale_folders(folder)


def _refuse_simulation(items: list[pytest.Item]) -> None:
    simulated = [item for item in items if isinstance(item, CaseItem) and item.get_closest_marker("simulated")]
    if simulated:
        raise pytest.UsageError(
            f"--cb-require-hardware: {plural(len(simulated), 'test')} would run on {simulated[0].backend_label}, "
            "because torch_sendnn is not installed: install it, or leave out --cb-require-hardware"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Attach the data of a case to its test before the test runs, so that the report has it even after a crash."""
    if isinstance(item, CaseItem):
        item.announce()


def pytest_report_header(config: pytest.Config) -> list[str]:
    settings = config.stash[settings_key]
    spyre = backend_label(settings.driver, "sendnn")
    return [
        f"engine under test: {settings.driver.describe()}",
        f"models: {', '.join(settings.models)}; threads per process: {os.environ['OMP_NUM_THREADS']}",
        *([f"backend: {spyre}, because torch_sendnn is not installed"] if spyre != "sendnn" else []),
    ]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Return a line with the number of collected cases and tests and, with ``-v``, a line for each suite file."""
    counts = config.stash[settings_key].counts
    if not counts:
        return []
    cases, tests = sum(c.cases for c in counts.values()), sum(c.tests for c in counts.values())
    files = [f"{file}: {count}" for file, count in counts.items()] if config.option.verbose > 0 else []
    suites = plural(len(counts), "suite")
    left = config.stash[settings_key].left_out
    return [
        *files,
        f"collected {plural(tests, 'test')} of {plural(cases, 'case')} in {suites}, one for each configuration",
        *(f"deselected: {plural(left[name], f'{name} test')}; to run them:  -m {name}" for name in sorted(left)),
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write a line for each server that was replaced, each damaged file, and each reason of skipped tests."""
    properties = [
        (report.nodeid, name, value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
    ]
    for nodeid, why in dict.fromkeys((nodeid, value) for nodeid, name, value in properties if name == SERVER_PROPERTY):
        terminalreporter.write_line(f"warning: before {nodeid}, {why}", yellow=True)
    for what in dict.fromkeys(value for _, name, value in properties if name == DAMAGED_PROPERTY):
        terminalreporter.write_line(f"warning: not used: {what}", yellow=True)
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {plural(count, 'test')}: {reason}")


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    plugins = session.config.pluginmanager
    # The pytest plugin of hypothesis imports hypothesis for its summary, even if no test has used it. That takes over a
    # second.
    if "hypothesis" not in sys.modules and plugins.has_plugin("hypothesispytest"):
        plugins.unregister(name="hypothesispytest")
    yield
    reporter = plugins.get_plugin("terminalreporter")
    if reporter is None:
        return
    blessing = session.config.stash[settings_key].blessing
    if blessing is not None:
        reporter.write_line("\n" + "\n".join(blessing.summary()))
    expression = session.config.option.markexpr
    if expression and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        reporter.write_line(f'-m "{expression}" selects none of the collected tests', red=True)
