"""Scheduling without a model: an executor whose tokens mean nothing."""

from collections.abc import Mapping, Sequence

from engine.config import EngineConfig
from engine.core import DecodeText, EngineCore, StepRecord
from engine.request import TokenOutput
from engine.scheduling.plan import Decode, Runnable
from engine.sequence import SequenceState

MADE_UP = TokenOutput(-1)
"""No vocabulary has this token, so nothing can mistake it for an end of text."""


class NoModel:
    """Answers every plan without a model: with the tokens given for a request, else with made-up ones.

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
    """An engine core that schedules and keeps account of blocks, and computes nothing."""
    return EngineCore(config, executor or NoModel(), eos_token_ids=eos_token_ids, decode_text=decode_text)


def jump(core: EngineCore, executor: NoModel, most: int) -> tuple[StepRecord, int] | None:
    """Up to ``most`` plain decodes of a simulated core at once: the record of the first, and how many there are.

    The others would have the same record but for ``step`` and tkv, which grow by 1: they go as far as nothing else can
    happen, to where a block is due, a request ends or could come in, or padding goes. None where the next step is, or
    may be, another; ``step`` runs it.
    """
    if executor.scripts:
        return None
    scheduler, sequences = core.scheduler, core.sequences
    steps = min(most, scheduler.plain_decodes())
    if steps < 1:
        return None
    _, waiting, running, reserved, used, chunked = scheduler.state()
    batch = [sequences[request_id] for request_id in running]
    steps = min([steps, *[sequence.tokens_before_its_end for sequence in batch]])
    if steps < 1:
        return None
    made_up = [MADE_UP] * steps
    for sequence in batch:
        sequence.tokens += made_up
    number = core.steps_done + 1
    core.steps_done += steps
    plan = scheduler.decode_on(steps)
    tokens = (MADE_UP,) * len(running)
    tkv = plan.tkv + 1 if isinstance(plan, Decode) else max(plan.tkvs)
    record = StepRecord(number, plan, tkv, waiting, running, running, (), reserved, used, tokens, chunked)
    return record, steps
