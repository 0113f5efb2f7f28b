"""Search with hypothesis for a workload whose run violates a law (``laws.py``), and shrink the first one found."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as with_seed
from hypothesis.errors import FlakyFailure
from hypothesis.strategies import SearchStrategy

from checkpoints import resolve
from harness.drivers.base import BLOCK_ACCOUNTING, TOKENS, Driver
from harness.drivers.engine_pool import EnginePool
from harness.schedulers import search_tools_of
from harness.schedulers.spec import Workload
from harness.search.interrupt import interruptible
from harness.search.laws import (
    follows_the_rules,
    is_independent_of_batch,
    keeps_invariants,
    try_workload,
)
from harness.suites.prompts import vocabulary_of
from harness.types import DEFAULT_SCHEDULER, Run, Verdict

Progress = Callable[[int, int], None]
"""Called with the number of workloads and the number of engine steps that were run so far."""


@dataclass(frozen=True)
class Found:
    """A failing workload after shrinking, and the verdict about its run.

    ``engine`` is the name and version of the engine (``Driver.describe``). ``on_a_model`` is whether the engine ran an
    LLM.
    """

    workload: Workload
    verdict: Verdict
    engine: str
    on_a_model: bool


@dataclass(frozen=True)
class Alone:
    """The number of requests that got the same tokens in a batch as when they were run again alone.

    ``preempted`` is the number of those requests that were preempted at least once in the batch.
    """

    requests: int = 0
    preempted: int = 0

    def plus(self, run: Run) -> "Alone":
        """Return these numbers plus the numbers of ``run``, in which all requests got the same tokens as alone."""
        preempted = {request for step in run.steps for request in step.preempted or ()}
        return Alone(self.requests + len(run.tokens), self.preempted + len(preempted))


@dataclass(frozen=True)
class SearchResult:
    """The result of a search. ``found`` is the failing workload, None if there is none.

    ``tried`` is the number of workloads that were run, and ``steps`` the number of their engine steps. Both include
    workloads that were run for shrinking. ``seconds`` is the duration of the search. ``alone`` has the number of
    requests that were run again without other requests, and got the same tokens.
    """

    tried: int
    steps: int
    seconds: float
    found: Found | None
    alone: Alone


def search(
    driver: Driver,
    budget: int,
    seed: int = 0,
    *,
    model: str = "tiny-granite",
    scheduler: str = DEFAULT_SCHEDULER,
    early_stops: bool = False,
    progress: Progress | None = None,
) -> SearchResult:
    """Run up to ``budget`` random workloads on engines of ``driver``, and shrink the first that violates a law.

    The same seed gives the same workloads only while the code is the same, because hypothesis also generates constants
    that it finds in the code. If the driver generates tokens, the engine runs ``model``, and each request must get the
    same tokens as without other requests in the batch. With other drivers, only the steps are checked. ``scheduler`` is
    the name of a scheduler that has a scheduler model. With ``early_stops``, some requests end before ``max_tokens``;
    only the strategy of the continuous scheduler has such requests. Raises ValueError if ``early_stops`` is given with
    a driver that runs an LLM.
    """
    tokens = TOKENS in driver.capabilities
    if early_stops and tokens:
        raise ValueError(
            "early_stops needs a driver that runs no LLM, because the tokens of an LLM are not known in advance, "
            f"but {driver.name} runs one: use SimulationDriver"
        )
    engines = EnginePool(driver)
    try:
        with interruptible() as raise_if_interrupted:
            checker = WorkloadChecker(engines, model, progress, raise_if_interrupted)
            started = time.perf_counter()
            workloads = strategy_for(driver, scheduler, model, early_stops=early_stops)
            found = _smallest_failure(checker.check, workloads, budget, seed)
            seconds = time.perf_counter() - started
    finally:
        engines.close()
    smallest = None if found is None else Found(*found, driver.describe(), tokens)
    return SearchResult(checker.tried, checker.steps, seconds, smallest, checker.alone)


def strategy_for(driver: Driver, scheduler: str, model: str, *, early_stops: bool = False) -> SearchStrategy[Workload]:
    """Return the hypothesis strategy for workloads of the scheduler, without those that the driver can't run."""
    workloads = search_tools_of(scheduler).strategy(TOKENS in driver.capabilities, early_stops)
    return workloads.filter(lambda workload: driver.unavailable(workload.setup(model)) is None)


class _LawBrokenError(AssertionError):
    """Raised in a function that hypothesis calls, to pass a failing workload and its verdict to ``search``."""

    def __init__(self, workload: Workload, verdict: Verdict) -> None:
        super().__init__(verdict.headline)
        self.broken = (workload, verdict)


class WorkloadChecker:
    """Runs workloads on engines that stay open, checks the laws (``laws.py``), and counts workloads and steps.

    ``broken`` is whether the last workload left its engine in an undefined state, so that the engine must be replaced.
    """

    def __init__(
        self, engines: EnginePool, model: str, progress: Progress | None, raise_if_interrupted: Callable[[], None]
    ) -> None:
        self.raise_if_interrupted = raise_if_interrupted
        self.engines = engines
        self.model = model
        self.blocks = BLOCK_ACCOUNTING in engines.driver.capabilities
        self.tokens = TOKENS in engines.driver.capabilities
        self.vocabulary = vocabulary_of(resolve(model)) if self.tokens else None
        self.broken = False
        self.progress = progress
        self.tried = 0
        self.steps = 0
        self.alone = Alone()

    def check(self, workload: Workload) -> Verdict:
        """Run a workload, and check the laws (``laws.py``).

        Return the verdict of the first law that the workload violates, or of the last law if it violates none. If the
        engine fails outside of a step, no law is checked, and a failed verdict with the error is returned.
        """
        self.raise_if_interrupted()
        self.broken = True
        try:
            session = self.engines.session(workload.setup(self.model))
            trial = try_workload(session, workload, workload.specs(self.vocabulary))
        except Exception as error:
            return Verdict(False, f"the engine failed outside of a step: {type(error).__name__}: {error}")
        self.broken = trial.run.unfinished is not None
        self.tried += 1
        self.steps += len(trial.run.steps) - 1
        if self.progress:
            self.progress(self.tried, self.steps)
        verdict = follows_the_rules(trial, blocks=self.blocks)
        if verdict.passed:
            verdict = keeps_invariants(trial)
        if verdict.passed and self.tokens:
            verdict = is_independent_of_batch(trial, session)
            if verdict.passed:
                self.alone = self.alone.plus(trial.run)
        return verdict


def _smallest_failure(
    check: Callable[[Workload], Verdict], strategy: SearchStrategy[Workload], budget: int, seed: int
) -> tuple[Workload, Verdict] | None:
    last: list[_LawBrokenError] = []

    @with_seed(seed)
    @settings(
        max_examples=budget,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        print_blob=False,
    )
    @given(strategy)
    def attempt(workload: Workload) -> None:
        verdict = check(workload)
        if not verdict.passed:
            last.append(_LawBrokenError(workload, verdict))
            raise last[-1]

    try:
        attempt()
    except _LawBrokenError as failure:
        return failure.broken
    except FlakyFailure:
        workload, verdict = last[-1].broken
        return workload, replace(verdict, headline=f"fails only sometimes: {verdict.headline}")
    return None
