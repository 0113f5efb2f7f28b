"""Survey an engine that is known to differ: judge so many workloads, count those that go wrong, and shrink each."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import seed as with_seed

from harness.drivers.base import Driver
from harness.drivers.engine_pool import EnginePool
from harness.schedulers.spec import Workload
from harness.search.run import Found, Hunt, Progress, strategy_for
from harness.search.shrink import limits_that_matter, manner, shrunk
from harness.types import BLOCK_SIZE, DEFAULT_SCHEDULER, Verdict, blocks_for

DRAWS = 3
"""How often hypothesis is asked for each workload that is wanted: it likes to draw the same ones again."""


@dataclass(frozen=True)
class Survey:
    """``found`` is the smallest of each workload that went wrong, in the order in which they did; ``tried`` are the
    workloads that were judged, shrinking not counted.
    """

    tried: int
    steps: int
    seconds: float
    found: tuple[Found, ...]

    @property
    def manners(self) -> Counter[str]:
        """How many went wrong in each way."""
        return Counter(map(way, self.found))

    @property
    def beyond_entry_points(self) -> Counter[str]:
        """How many of each way take a request that no entry point lets in."""
        return Counter(way(each) for each in self.found if beyond_entry_points(each))

    @property
    def smallest(self) -> dict[str, Found]:
        """The smallest workload of each way to go wrong."""
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
    """Judge ``budget`` different workloads on engines of ``driver`` by the laws of ``search``, to the end.

    ``scheduler`` is the name of the one whose workloads and rules they are.
    ``shrinking`` is told, before each workload that went wrong is shrunk, which it is and how many there are.
    """
    engines = EnginePool(driver)
    hunt = Hunt(engines, model, progress)
    wrong: list[tuple[Workload, Verdict]] = []
    judged: dict[Workload, Verdict] = {}

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
    def judge_one(workload: Workload) -> None:
        if workload in judged or len(judged) == budget:
            return
        verdict = judge(workload)
        if not verdict.passed:
            wrong.append((workload, verdict))

    def judge(workload: Workload) -> Verdict:
        # Workloads become alike as they shrink: most have been judged before.
        if workload not in judged:
            judged[workload] = hunt.judge(workload)
            if hunt.broken:
                # It may be in any state: the next workload gets an engine that is not.
                engines.discard(workload.setup(model))
        return judged[workload]

    try:
        started = time.perf_counter()
        judge_one()
        seconds, tried, steps = time.perf_counter() - started, len(judged), hunt.steps
        hunt.progress = None
        found = []
        for number, each in enumerate(wrong, 1):
            shrinking(number, len(wrong))
            found.append(Found(*shrunk(*each, judge), driver.describe(), hunt.tokens))
    finally:
        engines.close()
    return Survey(tried, steps, seconds, tuple(found))


def way(found: Found) -> str:
    """In which way a workload that was shrunk goes wrong: what is said of it, and which limits it takes."""
    limits = ", ".join(limits_that_matter(found.workload))
    return manner(found.verdict) + (f" [{limits}]" if limits else "")


def beyond_entry_points(found: Found) -> bool:
    """Whether it takes a request that no entry point lets in, put into the core past it ("Limits")."""
    context = found.workload.limits.max_model_len
    requests = found.workload.requests
    padded = [blocks_for(r.prompt_length) * BLOCK_SIZE + r.max_tokens for r in requests]
    return context is not None and max(padded) > context


def _size(found: Found) -> tuple[int, int]:
    workload = found.workload
    return len(workload.requests), sum(r.prompt_length + r.max_tokens + r.join_step for r in workload.requests)
