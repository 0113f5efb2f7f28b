"""A survey: run many random workloads on an engine, shrink each one that fails, and count the kinds of failures.

A survey is for engines that fail many workloads. In contrast, ``search`` stops at the first failure.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as with_seed
from hypothesis.strategies import SearchStrategy

from harness.drivers.base import Driver
from harness.drivers.engine_pool import EnginePool
from harness.schedulers.spec import Workload
from harness.search.interrupt import interruptible
from harness.search.run import Alone, Found, Progress, WorkloadChecker, strategy_for
from harness.search.shrink import failure_kind, features_of, shrunk
from harness.types import BLOCK_SIZE, DEFAULT_SCHEDULER, Verdict, blocks_for

DRAWS = 3
"""How many workloads are generated at most, divided by how many are to be run: hypothesis generates some repeatedly."""


@dataclass(frozen=True)
class Survey:
    """The result of running many random workloads.

    ``found`` has the workloads that failed, after shrinking, in the order in which they failed.

    ``tried`` is the number of workloads that were run, ``steps`` the number of their engine steps, and ``seconds`` the
    duration. ``alone`` has the number of requests that were run again without other requests, and got the same tokens.
    None of these numbers includes the runs for shrinking.
    """

    tried: int
    steps: int
    seconds: float
    found: tuple[Found, ...]
    alone: Alone

    @property
    def kinds(self) -> Counter[str]:
        """Return the number of failures of each kind (``kind_with_features``)."""
        return Counter(map(kind_with_features, self.found))

    @property
    def beyond_entry_points(self) -> Counter[str]:
        """Return, for each kind of failure, how many failing workloads have a request that all entry points refuse."""
        return Counter(kind_with_features(each) for each in self.found if beyond_entry_points(each))

    @property
    def smallest(self) -> dict[str, Found]:
        """Return the smallest failing workload of each kind of failure."""
        kept: dict[str, Found] = {}
        for each in sorted(self.found, key=_size):
            kept.setdefault(kind_with_features(each), each)
        return kept


def survey(
    driver: Driver,
    budget: int,
    seed: int = 0,
    *,
    model: str = "tiny-granite",
    scheduler: str = DEFAULT_SCHEDULER,
    progress: Progress | None = None,
    shrinking: Callable[[int, int], None] = lambda number, count: None,  # noqa: ARG005
) -> Survey:
    """Run ``budget`` different workloads on engines of ``driver``, and shrink every one that violates a law (laws.py).

    ``model`` is the LLM that the engine runs, if the driver runs one. ``scheduler`` is the name of the scheduler whose
    workloads and rules are used. ``shrinking(number, count)`` is called before each failing workload is shrunk:
    ``number`` is the number of the workload, counted from 1, and ``count`` is the number of all failing workloads.
    """
    with interruptible() as raise_if_interrupted:
        checker = WorkloadChecker(EnginePool(driver), model, progress, raise_if_interrupted)
        return _surveyed(checker, strategy_for(driver, scheduler, model), budget, seed, shrinking)


def _surveyed(
    checker: WorkloadChecker,
    strategy: SearchStrategy[Workload],
    budget: int,
    seed: int,
    shrinking: Callable[[int, int], None],
) -> Survey:
    engines, model = checker.engines, checker.model
    wrong: list[tuple[Workload, Verdict]] = []
    checked: dict[Workload, Verdict] = {}

    @with_seed(seed)
    @settings(
        max_examples=budget * DRAWS,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def check_one(workload: Workload) -> None:
        if workload in checked or len(checked) == budget:
            return
        verdict = check(workload)
        if not verdict.passed:
            wrong.append((workload, verdict))

    def check(workload: Workload) -> Verdict:
        # Shrinking different failures leads to many equal workloads, which need to be run only once.
        if workload not in checked:
            checked[workload] = checker.check(workload)
            if checker.broken:
                # The state of the engine is undefined, so the next workload gets a new engine.
                engines.discard(workload.setup(model))
        return checked[workload]

    try:
        started = time.perf_counter()
        check_one()
        seconds, tried, steps = time.perf_counter() - started, len(checked), checker.steps
        alone = checker.alone
        checker.progress = None
        found = []
        for number, each in enumerate(wrong, 1):
            shrinking(number, len(wrong))
            found.append(Found(*shrunk(*each, check), engines.driver.describe(), checker.tokens))
    finally:
        engines.close()
    return Survey(tried, steps, seconds, tuple(found), alone)


def kind_with_features(found: Found) -> str:
    """Return a text that is equal for similar failures.

    It is the ``failure_kind`` of the verdict, followed by what is not default in the shrunk workload, in brackets, for
    example ``[max_num_seqs, an abort]``.
    """
    limits = ", ".join(features_of(found.workload))
    return failure_kind(found.verdict) + (f" [{limits}]" if limits else "")


def beyond_entry_points(found: Found) -> bool:
    """Return whether the workload has a request that all entry points refuse, because it exceeds ``max_model_len``.

    Random workloads are added directly to the engine core, which does not check the size of a request
    (docs/scheduling-rules.md, "Limits").
    """
    context = found.workload.limits.max_model_len
    requests = found.workload.requests
    padded = [blocks_for(r.prompt_length) * BLOCK_SIZE + r.max_tokens for r in requests]
    return context is not None and max(padded) > context


def _size(found: Found) -> tuple[int, int]:
    workload = found.workload
    return len(workload.requests), sum(r.prompt_length + r.max_tokens + r.join_step for r in workload.requests)
