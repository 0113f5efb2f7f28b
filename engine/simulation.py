"""Scheduling without a model: an executor whose tokens mean nothing."""

from collections.abc import Mapping, Sequence

from engine.config import EngineConfig
from engine.core import DecodeText, EngineCore
from engine.request import TokenOutput
from engine.scheduling.plan import Runnable
from engine.sequence import SequenceState

MADE_UP = TokenOutput(-1)
"""A token outside every vocabulary, so that it is never an end-of-sequence token."""


class NoModel:
    """An executor without a model: returns the tokens given for a request, or else made-up ones.

    ``scripts`` has token ids by request id. A request without a script ends at ``max_tokens`` and nowhere else.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, Sequence[int]] = {}

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> Sequence[TokenOutput]:
        if not self.scripts:
            return [MADE_UP] * len(plan.request_ids)
        return [self._next(request_id, len(sequences[request_id].tokens)) for request_id in plan.request_ids]

    def _next(self, request_id: str, position: int) -> TokenOutput:
        script = self.scripts.get(request_id, ())
        return TokenOutput(script[position]) if position < len(script) else MADE_UP


def simulated_core(
    config: EngineConfig,
    executor: NoModel | None = None,
    *,
    eos_token_ids: frozenset[int] = frozenset(),
    decode_text: DecodeText | None = None,
) -> EngineCore:
    """Return an engine core that schedules and counts blocks, but computes nothing."""
    return EngineCore(config, executor or NoModel(), eos_token_ids=eos_token_ids, decode_text=decode_text)
