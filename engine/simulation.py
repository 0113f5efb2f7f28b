"""Simulation: an engine core that schedules requests without a model, with made-up tokens."""

from collections.abc import Mapping, Sequence

from engine.config import EngineConfig
from engine.core import DecodeText, EngineCore
from engine.request import TokenOutput
from engine.scheduling.plan import Runnable
from engine.sequence import SequenceState

MADE_UP = TokenOutput(-1)
"""The made-up token. Its id is in no vocabulary, so it is never an end-of-sequence token."""


class NoModel:
    """An executor without a model.

    ``scripts`` maps a request id to the token ids that ``execute`` returns for this request, one per step. After the
    last of these token ids, and for requests without a script, ``execute`` returns made-up tokens, which never end a
    request before ``max_tokens``.
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
    """Return an engine core that schedules requests and allocates blocks, but runs no model.

    ``executor`` returns the tokens; None means a new ``NoModel``.
    """
    return EngineCore(config, executor or NoModel(), eos_token_ids=eos_token_ids, decode_text=decode_text)
