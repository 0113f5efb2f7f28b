"""Shared value types: engine setups, limits, requests, tokens, steps, runs and verdicts."""

from harness.types.blocks import BLOCK_SIZE, blocks_for, ceil_div
from harness.types.request import STRUCTURE_KINDS, RequestSpec, Structure
from harness.types.run import Run, Token, Verdict, failures
from harness.types.setup import (
    DEFAULT_SCHEDULER,
    ChunkingSetup,
    EngineSetup,
    SchedulerOptions,
    SchedulingLimits,
    TokenBudgetRules,
    TokenBudgetSetup,
)
from harness.types.step_table import StepRow, Write

__all__ = [
    "BLOCK_SIZE",
    "DEFAULT_SCHEDULER",
    "STRUCTURE_KINDS",
    "ChunkingSetup",
    "EngineSetup",
    "RequestSpec",
    "Run",
    "SchedulerOptions",
    "SchedulingLimits",
    "StepRow",
    "Structure",
    "Token",
    "TokenBudgetRules",
    "TokenBudgetSetup",
    "Verdict",
    "Write",
    "blocks_for",
    "ceil_div",
    "failures",
]
