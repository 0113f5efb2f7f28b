"""Survey an engine with many differences: check a number of workloads, count failures, and shrink each."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as with_seed

from harness.drivers.base import Driver
from harness.drivers.engine_pool import EnginePool
from harness.schedulers.spec import Workload
from harness.search.run import Alone, Found, Hunt, Progress, strategy_for
from harness.search.shrink import limits_that_matter, manner, shrunk
from harness.types import BLOCK_SIZE, DEFAULT_SCHEDULER, Verdict, blocks_for

DRAWS = 3
"""Draws of hypothesis for each workload, because it repeats workloads."""


@dataclass(frozen=True)
class Survey:
    """The result: ``found`` is the smallest workload of each failure, in order; ``tried`` counts checked workloads.

    Workloads run while shrinking are not counted. ``alone`` as in SearchResult.
    """

    tried: int
    steps: int
    seconds: float
    found: tuple[Found, ...]
    alone: Alone

    @property
    def manners(self) -> Counter[str]:
        """Return the number of failures of each kind."""
        return Counter(map(way, self.found))

    @property
    def beyond_entry_points(self) -> Counter[str]:
        """Return the number of failures of each kind with a request that no entry point accepts."""
        return Counter(way(each) for each in self.found if beyond_entry_points(each))

    @property
    def smallest(self) -> dict[str, Found]:
        """Return the smallest workload of each kind of failure."""
        kept: dict[str, Found] = {}
        for each in sorted(self.found, key=_size):
            kept.setdefault(way(each), each)
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
    """Check all of ``budget`` different workloads on engines of ``driver`` by the laws of ``search``.

    ``scheduler`` is the name of the scheduler whose workloads and rules are used. ``shrinking`` is called before each
    failed workload is shrunk, with its number and the total.
    """
    engines = EnginePool(driver)
    hunt = Hunt(engines, model, progress)
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
    @given(strategy_for(driver, scheduler, model))
    def check_one(workload: Workload) -> None:
        if workload in checked or len(checked) == budget:
            return
        verdict = check(workload)
        if not verdict.passed:
            wrong.append((workload, verdict))

    def check(workload: Workload) -> Verdict:
        # Shrinking leads to the same workloads again, most of which have been checked already.
        if workload not in checked:
            checked[workload] = hunt.check(workload)
            if hunt.broken:
                # The engine may be in any state: the next workload gets a new one.
                engines.discard(workload.setup(model))
        return checked[workload]

    try:
        started = time.perf_counter()
        check_one()
        seconds, tried, steps = time.perf_counter() - started, len(checked), hunt.steps
        alone = hunt.alone
        hunt.progress = None
        found = []
        for number, each in enumerate(wrong, 1):
            shrinking(number, len(wrong))
            found.append(Found(*shrunk(*each, check), driver.describe(), hunt.tokens))
    finally:
        engines.close()
    return Survey(tried, steps, seconds, tuple(found), alone)


def way(found: Found) -> str:
    """Return the kind of failure of a shrunk workload, and the limits it needs."""
    limits = ", ".join(limits_that_matter(found.workload))
    return manner(found.verdict) + (f" [{limits}]" if limits else "")


def beyond_entry_points(found: Found) -> bool:
    """Return whether it has a request that no entry point accepts, added to the core directly ("Limits")."""
    context = found.workload.limits.max_model_len
    requests = found.workload.requests
    padded = [blocks_for(r.prompt_length) * BLOCK_SIZE + r.max_tokens for r in requests]
    return context is not None and max(padded) > context


def _size(found: Found) -> tuple[int, int]:
    workload = found.workload
    return len(workload.requests), sum(r.prompt_length + r.max_tokens + r.join_step for r in workload.requests)
