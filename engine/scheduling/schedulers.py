"""The interface of a scheduler, and the schedulers by their names in ``EngineConfig.scheduler``."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from engine.config import EngineConfig, ResolvedLimits
from engine.kv_cache.block_hash import TokenSource
from engine.scheduling.chunked.scheduler import ChunkedScheduler
from engine.scheduling.continuous.scheduler import ContinuousScheduler
from engine.scheduling.plan import SchedulerState, StepPlan
from engine.scheduling.static import StaticScheduler
from engine.scheduling.token_budget.scheduler import TokenBudgetScheduler


class Scheduler(Protocol):
    """The interface of a scheduler. ContinuousScheduler documents each method."""

    def add(self, request_id: str, prompt_length: int, max_tokens: int, tokens: TokenSource) -> None: ...
    def abort(self, request_id: str) -> bool: ...
    def plan(self) -> StepPlan: ...
    def commit(self, ended: Collection[str]) -> None: ...
    def state(self) -> SchedulerState: ...
    @property
    def has_work(self) -> bool: ...


SCHEDULERS: Mapping[str, Callable[[EngineConfig, ResolvedLimits], Scheduler]] = {
    "continuous": lambda config, limits: ContinuousScheduler(limits),  # noqa: ARG005
    "static": lambda config, limits: StaticScheduler(limits),  # noqa: ARG005
    "chunked": lambda config, limits: ChunkedScheduler(limits, config.chunking),
    "token_budget": lambda config, limits: TokenBudgetScheduler(limits, config.token_budget),
}
