"""Register the parts of the pytest plugin that a process of the run needs.

There are three kinds of processes: the controller, which is pytest's own process; workers, which xdist starts; and
children, which run single cases and return their reports (``isolation/child.py``).
"""

import os

import pytest

from harness.pytest_plugin.cards import CardsHere, CardsShown, cards_of_run
from harness.pytest_plugin.case_protocol import CaseProtocol, run_here
from harness.pytest_plugin.isolation import modes, workers
from harness.pytest_plugin.isolation.distribution import Distribution
from harness.pytest_plugin.isolation.messages import SERVING
from harness.pytest_plugin.isolation.parents import Parents
from harness.pytest_plugin.isolation.plugin import Isolation
from harness.pytest_plugin.isolation.reports import FailuresTravel
from harness.pytest_plugin.known_failures import plugin as known_failures
from harness.pytest_plugin.links import Links
from harness.pytest_plugin.outputs import check_outputs
from harness.pytest_plugin.planning import PLANNING, Planning, earlier_for
from harness.pytest_plugin.progress import Progress
from harness.pytest_plugin.report_options import wanted_reports
from harness.pytest_plugin.results import ResultStream
from harness.pytest_plugin.resuming import NOTHING, EarlierRun, Resuming, earlier_run
from harness.pytest_plugin.retries import FlakyTests
from harness.pytest_plugin.shards import Sharding
from harness.pytest_plugin.stages import Stages
from harness.utils.subprocesses import end_with_parent


def register(config: pytest.Config) -> None:
    """Register the plugins that this process needs. Raises pytest.UsageError for options that can't be combined."""
    manager, option = config.pluginmanager, config.option
    manager.register(FailuresTravel(), "spyre-cb-failures")
    manager.register(Links(), "spyre-cb-links")
    manager.register(known_failures.KnownFailures(config, option.cb_known_failures), known_failures.NAME)
    if manager.has_plugin(SERVING):
        return
    cards = cards_of_run()
    option.cards_of_run = len(cards)  # Children get this option, because they see only the cards of their lease.
    _register_how_cases_run(config)
    sharding = None
    if option.cb_shard is not None:
        sharding = Sharding(config, option.cb_shard, option.cb_durations_from or ())
        manager.register(sharding, "spyre-cb-shard")
    elif option.cb_durations_from:
        raise pytest.UsageError("--cb-durations-from needs --cb-shard I/N: durations are only used to divide the tests")
    if hasattr(config, "workerinput"):
        manager.register(Planning(config, sharding, earlier_for(config), None), PLANNING)
        end_with_parent(os.getppid())
        if option.cb_isolation == "engine":
            manager.register(Distribution(config, None), "spyre-cb-distribution")
        return
    check_outputs(config)
    if option.cb_retries:
        manager.register(FlakyTests(allowed=option.cb_allow_flaky), "spyre-cb-flaky")
    elif option.cb_allow_flaky:
        raise pytest.UsageError("--cb-allow-flaky needs --cb-retries: without retries no test is flaky")
    manager.register(CardsShown(cards), "spyre-cb-cards")
    earlier = _earlier_run(config)
    results = ResultStream(config, option.cb_results, wanted_reports(config), earlier)
    manager.register(results, "spyre-cb-results")
    if earlier is not None:
        manager.register(Resuming(config, earlier), "spyre-cb-resuming")
    manager.register(Planning(config, sharding, earlier.tests if earlier else NOTHING, results.plan), PLANNING)
    if option.cb_isolation == "engine":
        stages = Stages(results)
        manager.register(stages, "spyre-cb-stages")
        manager.register(Distribution(config, stages), "spyre-cb-distribution")
    manager.register(Progress(results), "spyre-cb-progress")


def _earlier_run(config: pytest.Config) -> EarlierRun | None:
    """Return the run that ``--cb-resume`` continues, None if there is none.

    Raises pytest.UsageError if there is no option ``--cb-results``, or if another option contradicts ``--cb-resume``.
    """
    option = config.option
    if not option.cb_resume:
        return None
    if option.cb_results is None:
        raise pytest.UsageError("--cb-resume needs --cb-results FILE, the results file of the run to continue")
    for name, given in (("--collect-only", option.collectonly), ("--cb-bless", option.cb_bless)):
        if given:
            raise pytest.UsageError(f"--cb-resume can't be combined with {name}: leave out one of them")
    return earlier_run(option.cb_results)


def _register_how_cases_run(config: pytest.Config) -> None:
    mode = modes.mode_from(config)
    limit = modes.case_seconds(config.option, mode)
    run = run_here
    if mode != "none":
        parents = Parents(config)
        isolation = Isolation(config, mode, limit, parents)
        config.pluginmanager.register(parents, "spyre-cb-parents")
        config.pluginmanager.register(isolation, "spyre-cb-isolation")
        run = isolation.run
    else:
        config.pluginmanager.register(CardsHere(), "spyre-cb-cards-here")
        if limit is not None:
            workers.register(config, limit)
    if mode != "none" or config.option.cb_retries:
        config.pluginmanager.register(CaseProtocol(run, config.option.cb_retries), "spyre-cb-protocol")
