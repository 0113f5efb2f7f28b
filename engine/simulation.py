"""Scheduling without a model: an executor whose tokens mean nothing."""

from collections.abc import Mapping, Sequence

from engine.config import EngineConfig
from engine.core import EngineCore
from engine.request import TokenOutput
from engine.scheduling.plan import Decode, Prefill
from engine.sequence import SequenceState

MADE_UP = TokenOutput(-1)
"""No vocabulary has this token, so nothing can mistake it for an end of text."""


class NoModel:
    """Answers every plan with made-up tokens, so that sequences end at ``max_tokens`` and nowhere else."""

    def execute(self, plan: Prefill | Decode, sequences: Mapping[str, SequenceState]) -> Sequence[TokenOutput]:  # noqa: ARG002
        return [MADE_UP] * len(plan.request_ids)


def simulated_core(config: EngineConfig) -> EngineCore:
    """An engine core that schedules and keeps account of blocks, and computes nothing."""
    return EngineCore(config, NoModel())
