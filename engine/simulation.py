"""Scheduling without a model: an executor whose tokens mean nothing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.config import EngineConfig
from engine.core import DecodeText, EngineCore, StepRecord
from engine.request import TokenOutput
from engine.scheduling.plan import AlignedDecode, Decode, Runnable
from engine.sequence import SequenceState

MADE_UP = TokenOutput(-1)
"""No vocabulary has this token, so nothing can mistake it for an end of text."""


DECODES = Decode, AlignedDecode


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


class Jump(NamedTuple):
    """Steps taken at once: what the first did, how many there were, and who ended in the last of several.

    The others have the first one's record but for ``step`` and tkv, which grow by 1, and for those that ended.
    """

    record: StepRecord
    steps: int
    finished: tuple[str, ...] = ()


def jump(core: EngineCore, executor: NoModel, most: int) -> Jump:
    """The next step of a simulated core and, where it is a decode, those like it, up to ``most`` in all.

    They go as far as nothing else can happen: to where a block is due, somebody could come in or padding goes, or to
    the step in which somebody ends.
    """
    if executor.scripts or not core.scheduler.decodes_next:
        return Jump(core.step(), 1)
    plan = core.scheduler.plan()
    assert isinstance(plan, DECODES)
    batch = [core.sequences[request_id] for request_id in plan.request_ids]
    steps = min([most, 1 + core.scheduler.plain_decodes(), *[sequence.tokens_certain for sequence in batch]])
    if steps <= 1:
        return Jump(core.run(plan), 1)
    _, waiting, running, reserved, used, chunked = core.scheduler.state()
    made_up = [MADE_UP] * steps
    finished = tuple([i for i, sequence in zip(running, batch, strict=True) if sequence.extend(made_up)])
    number = core.steps_done + 1
    core.decode_on(steps, finished)
    tkv = plan.tkv + 1 if isinstance(plan, Decode) else max(plan.tkvs)
    tokens = (MADE_UP,) * len(running)
    record = StepRecord(number, plan, tkv, waiting, running, running, (), reserved, used, tokens, chunked)
    return Jump(record, steps, finished)
