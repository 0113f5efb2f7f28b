"""The pytest plugin: suites become items, options become choices. What a test does is in harness/cases/.

Threads are set before torch is imported anywhere: on the tiny model one thread a process is fastest, and two
workers that fight for cores are many times slower.
"""

import os
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from harness.utils.gc import freeze_gc, gc_paused

with gc_paused():  # every process of a run starts with these, and modules are no garbage
    from checkpoints import CheckpointError, resolve
    from harness.drivers.base import TOKENS
    from harness.drivers.engine_pool import EnginePool
    from harness.pytest_plugin import register as plugins
    from harness.pytest_plugin import report_options
    from harness.pytest_plugin.isolation.worker_count import workers_that_pay
    from harness.pytest_plugin.items import SERVER_PROPERTY, CaseItem, SuiteFile
    from harness.pytest_plugin.known_failures.plugin import KnownFailures
    from harness.pytest_plugin.settings import DRIVERS, Settings, driver_from_options, settings_key
    from harness.suites.discovery import NO_FOLDERS_OF_SUITES, NOT_SUITES, SUITE_SUFFIXES
    from harness.suites.markers import MARKERS, explain_unknown, left_out, registered, unknown_names
    from harness.suites.schema import POLICY_NAMES
    from harness.utils.text import plural

MODEL_LIST = "VLLM_SPYRE_TEST_MODEL_LIST"
BROKEN_WITH_FORKED = (9, 2)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("spyre-cb", "continuous-batching conformance")
    group.addoption("--driver", choices=DRIVERS, default="reference", help="the engine under test")
    group.addoption(
        "--simulate",
        action="store_true",
        help="step tables only, without a model: --driver simulation; with --driver vllm the plugin's own scheduler",
    )
    group.addoption(
        "--attention",
        choices=("paged", "fms"),
        help="attention of the reference engine: ours, or the one that ibm-fms ships (slow, but on sendnn)",
    )
    group.addoption(
        "--require-hardware", action="store_true", help="a test on a simulated card is an error, before anything runs"
    )
    group.addoption("--server-url", metavar="URL", help="for openai-http: a server that runs already")
    group.addoption("--serve", choices=("reference", "vllm"), help="for openai-http: what to start for each case")
    group.addoption(
        "--server-shape",
        metavar="NAME=VALUE,…",
        help="what that server was started with: max_num_seqs=4,backend=sendnn",
    )
    group.addoption(
        "--policy", choices=POLICY_NAMES, help="compare outputs by this policy where a case says none (docs/outputs.md)"
    )
    group.addoption(
        "--references",
        choices=("compute", "committed"),
        help="reference outputs that are not in expectations/: compute them, or fail (the default where CI is set)",
    )
    group.addoption(
        "--bless", action="store_true", help="write golden step tables from what the engine does, and references"
    )
    plugins.add_options(group)
    group.addoption("--max-tests", type=int, metavar="N", help="let a suite expand to up to N tests")
    group.addoption(
        "--plot", action="store_true", default=None, help="draw a failed run as a time-line (the default with -s)"
    )
    report_options.add_options(group)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    report_options.take_over_allure(config)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    _refuse_what_cannot_work(config)
    # One malformed suite must not keep the others from running; the exit status says that it was there.
    config.option.continue_on_collection_errors = True
    driver = driver_from_options(config.option)
    config.stash[settings_key] = Settings.from_options(config.option, driver, EnginePool(driver))
    plugins.register(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """For ``-n auto``, asked before anything is configured; None leaves it to xdist."""
    return workers_that_pay() if config.option.isolation or getattr(config.option, "forked", False) else None


def _refuse_what_cannot_work(config: pytest.Config) -> None:
    if config.option.bless and os.environ.get("CI"):
        raise pytest.UsageError("--bless: golden tables are never written where CI is set")
    if config.option.bless and (
        getattr(config.option, "forked", False) or getattr(config.option, "numprocesses", None)
    ):
        raise pytest.UsageError("--bless: not together with --forked or -n")
    version = tuple(map(int, pytest.__version__.split(".")[:2]))
    if getattr(config.option, "forked", False) and version >= BROKEN_WITH_FORKED:
        raise pytest.UsageError(
            f"--forked: every test fails with pytest {pytest.__version__}, its reports cannot be sent from the "
            "child; install pytest<9.2 (constraints.txt does)"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    settings = config.stash.get(settings_key, None)
    if settings is not None:
        settings.engines.close()
    # pytest collects garbage five times over at its very end. What is left now goes with the process: it need not look.
    freeze_gc()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Every YAML file that pytest comes by is a suite, unless its name or its folder says otherwise."""
    if file_path.suffix not in SUITE_SUFFIXES:
        return None
    if file_path.name not in NOT_SUITES and not NO_FOLDERS_OF_SUITES & {*file_path.parts}:
        return SuiteFile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Tests by the ten thousand, and no garbage among them: later looks leave them out as well."""
    with gc_paused():
        result = yield
        freeze_gc()
        return result


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """What is typed wrongly is an error before workers are started: pytest itself would select nothing, quietly."""
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
    """A model that is not there is one error at the start, not one in every test."""
    try:
        resolve(model)
    except CheckpointError as error:
        raise pytest.UsageError(f"{MODEL_LIST}: {error}") from error


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs only where it is named, and remember how many, to say so."""
    expression = config.option.markexpr or ""
    reasons = {item: left_out({mark.name for mark in item.iter_markers()}, expression) for item in items}
    out = [item for item, reason in reasons.items() if reason]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if not reasons[item]]
        config.stash[settings_key].left_out.update(filter(None, reasons.values()))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse what must not run here. Of golden tables that no suite asks for any more, blessing leaves none."""
    settings = session.config.stash[settings_key]
    if session.config.option.require_hardware and not hasattr(session.config, "workerinput"):
        _refuse_simulation(session.items)
    if settings.blessing is not None and not session.config.option.collectonly:
        for folder in filter(Path.is_dir, (session.config.invocation_params.dir / arg for arg in session.config.args)):
            settings.blessing.remove_stale_folders(folder)


def _refuse_simulation(items: list[pytest.Item]) -> None:
    simulated = [item for item in items if isinstance(item, CaseItem) and item.get_closest_marker("simulated")]
    if simulated:
        raise pytest.UsageError(
            f"--require-hardware: {plural(len(simulated), 'test')} would run on {simulated[0].backend_label}, "
            "since torch_sendnn is not installed here"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Runs where pytest itself runs, also where the test is then forked: a crash keeps its name."""
    if isinstance(item, CaseItem):
        item.announce()


def pytest_report_header(config: pytest.Config) -> list[str]:
    settings = config.stash[settings_key]
    spyre = settings.driver.backend_label("sendnn")
    return [
        f"engine under test: {settings.driver.describe()}",
        f"models: {', '.join(settings.models)}; threads a process: {os.environ['OMP_NUM_THREADS']}",
        *([f"backend: {spyre}, torch_sendnn is not installed here"] if spyre != "sendnn" else []),
    ]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """How many tests the parameters made of the cases: a line in all, with -v a line a file."""
    counts = config.stash[settings_key].counts
    if not counts:
        return []
    cases, tests = sum(c.cases for c in counts.values()), sum(c.tests for c in counts.values())
    files = [f"{file}: {count}" for file, count in counts.items()] if config.option.verbose > 0 else []
    suites = plural(len(counts), "suite")
    left = config.stash[settings_key].left_out
    return [
        *files,
        f"collected from {plural(cases, 'case')} in {suites}, with their parameters: {plural(tests, 'test')}",
        *(f"left out: {plural(left[name], f'{name} test')}; to run them:  -m {name}" for name in sorted(left)),
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which servers were replaced, and why tests were skipped, a line a reason: beside their names there is no room."""
    replaced = {
        (report.nodeid, value): None
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == SERVER_PROPERTY
    }
    for nodeid, why in replaced:
        terminalreporter.write_line(f"warning: before {nodeid}, {why}", yellow=True)
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
    # Its summary would import hypothesis, which takes a second and more, only to say that no test used it.
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
        reporter.write_line(f'-m "{expression}" selects nothing among what was collected', red=True)
