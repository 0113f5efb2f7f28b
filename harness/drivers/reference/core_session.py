"""``CoreSession``: a started reference engine, with or without a model, that runs step by step.

It converts the types of the engine to those of the harness.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from engine.config import Limits
from engine.core import EngineCore
from engine.core import StepRecord as EngineRecord
from engine.request import Logprob, PromptLogprobs, Request, SamplingParams, TokenOutput
from engine.scheduling.plan import AlignedDecode, Decode, Idle, MixedStep, SchedulerState, StepPlan, kind_of
from engine.structured_outputs import StructuredOutputsParams
from harness.drivers.base import (
    Observation,
    StepRecord,
)
from harness.types import RequestSpec, SchedulingLimits, Token, Write


class CoreSession:
    """A started reference engine that runs step by step. Implements ``Session`` of ``harness/drivers/base.py``."""

    def __init__(self, core: EngineCore) -> None:
        self.core = core
        self._waiting, self._running, self._outputs = _Numbers(), _Numbers(), _Numbers()
        self._seen: Observation | None = None

    def reset(self, limits: SchedulingLimits) -> SchedulingLimits:
        effective = self.core.reset(
            Limits(
                limits.max_model_len,
                limits.max_num_seqs,
                limits.available_blocks,
                limits.max_batch_tkv_limit,
            )
        )
        self._seen = None
        return SchedulingLimits(**asdict(effective))

    def add_request(self, request: RequestSpec) -> None:
        self._seen = None
        params = self.params_of(request)
        self.core.add_request(Request(str(request.request_id), request.prompt_token_ids, params))

    def params_of(self, request: RequestSpec) -> SamplingParams:
        return sampling_params(request)

    def abort(self, request_id: int) -> None:
        self._seen = None
        self.core.abort(str(request_id))

    def step(self) -> StepRecord:
        record = self.core.step()
        _, _, tkv, waiting, running, _, _, reserved, used, _, chunked, budget = record
        self._seen = self._observation(SchedulerState(tkv, waiting, running, reserved, used, chunked, budget))
        return self._as_record(record)

    def _observation(self, state: SchedulerState) -> Observation:
        waiting, running = self._waiting.of(state.waiting), self._running.of(state.running)
        return observation(state, waiting, running)

    def _as_record(self, record: EngineRecord) -> StepRecord:
        return StepRecord(
            kind_of(record.plan),
            self._outputs.of(record.request_outputs),
            tuple(map(int, record.finished_requests)),
            self._tokens(record),
            block_tables_of(record.plan),
            self._writes(record.plan),
        )

    def observe(self) -> Observation:
        # The state after the last step is still valid unless a request was added or aborted since then.
        if self._seen is None:
            self._seen = self._observation(self.core.state())
        return self._seen

    def _tokens(self, record: EngineRecord) -> tuple[Token, ...]:
        return tuple(map(as_token, record.tokens))

    def _writes(self, plan: StepPlan) -> tuple[Write, ...] | None:  # noqa: ARG002
        """Return the writes of a step to the KV cache, None if this process has no KV cache."""
        return None

    def has_work(self) -> bool:
        return self.core.has_work

    def close(self) -> None:
        pass


def sampling_params(request: RequestSpec, **more: Any) -> SamplingParams:
    """Return the engine's SamplingParams for a request.

    ``more`` has further parameters by name, such as ``n``. If ``request`` has a parameter of the same name, the value
    in ``more`` replaces it.
    """
    params = _checked_params(*_values_of(request))
    if request.structured_outputs is not None:
        more["structured_outputs"] = StructuredOutputsParams(**request.structured_outputs.arguments())
    more |= {name: _as_parameter(name, value) for name, value in request.unchecked.items()}
    return replace(params, **more) if more else params


def _as_parameter(name: str, value: Any) -> Any:
    """Convert a JSON value to the type of the parameter of SamplingParams with this name.

    Raises SamplingParamsError if the value is invalid.
    """
    if name == "structured_outputs":
        return StructuredOutputsParams(**value)
    if name == "logit_bias":
        return {int(token_id): bias for token_id, bias in value.items()}
    return tuple(value) if isinstance(value, list) else value


_PARAMS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "max_tokens",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "ignore_eos",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "logprobs",
    "prompt_logprobs",
    "truncate_prompt_tokens",
    "golden_token_ids",
)
_values_of = attrgetter(*_PARAMS)


@lru_cache(maxsize=1024)
def _checked_params(*values: Any) -> SamplingParams:
    """Return SamplingParams with ``values`` for the parameters in ``_PARAMS``, in this order.

    The result is cached, because many requests have the same parameters, and their validation takes longer than a step.
    """
    return SamplingParams(**dict(zip(_PARAMS, values, strict=True)))


def prompt_values(
    found: PromptLogprobs | None, prompt: Sequence[int]
) -> tuple[tuple[float | None, ...] | None, tuple[tuple[float, ...], ...]]:
    """Return (logprob of each token of a prompt, logprobs of all tokens that are listed at each of its positions).

    The first token of a prompt has no logprob: its two values are None and (). Return (None, ()) if ``found`` is None,
    which means that the request asks for no logprobs of its prompt.
    """
    if found is None:
        return None, ()
    own = tuple([None if at is None else at[token].logprob for at, token in zip(found, prompt, strict=True)])
    return own, tuple([listed_logprobs(at or {}) for at in found])


def listed_logprobs(at: Mapping[int, Logprob]) -> tuple[float, ...]:
    """Return the logprobs of all tokens that are listed at a position."""
    return tuple([each.logprob for each in at.values()])


def observation(
    state: SchedulerState, waiting: tuple[int, ...], running: tuple[int, ...], first: int = 0
) -> Observation:
    """Convert the state of a scheduler to an Observation.

    An Observation names requests by their position in the case, from 0. ``waiting`` and ``running`` have positions
    already. The other fields of ``state`` have request ids, which are numbers as strings. ``first`` is the id of the
    request at position 0, so the position of a request is its id minus ``first``.
    """
    tkv, _, _, reserved, used, chunked, budget = state
    if budget is not None:
        hits = [(int(request_id) - first, tokens) for request_id, tokens in budget.hits if tokens]
        scheduled = [(int(request_id) - first, tokens) for request_id, tokens in budget.scheduled]
        preempted = [int(request_id) - first for request_id in budget.preempted]
        return Observation(None, waiting, running, None, used, None, tuple(hits), tuple(scheduled), tuple(preempted))
    if chunked is not None:
        blocks = [(int(request_id) - first, found) for request_id, found in chunked.usable_hit_blocks]
        paused = tuple([int(request_id) - first for request_id in chunked.paused])
        return Observation(tkv, waiting, running, reserved, used, paused, tuple(sorted(blocks)))
    return Observation(tkv, waiting, running, reserved, used)


def block_tables_of(plan: StepPlan) -> tuple[tuple[int, ...], ...]:
    if isinstance(plan, Decode) or isinstance(plan, AlignedDecode):  # noqa: SIM101 - a union is slower than a step
        return plan.block_tables
    if isinstance(plan, MixedStep):
        return tuple([part.blocks for part in plan.parts])
    if isinstance(plan, Idle) or not plan.request_ids:
        return ()
    return (plan.blocks,)


def as_token(token: TokenOutput) -> Token:
    return Token(token.token_id, token.logprob, token.rank, token.top)


class _Numbers:
    """Converts a queue's request ids (a tuple of strings) to a tuple of integers, and caches the last result.

    The engine returns the same tuple object until the queue changes. If the only change is that the first request has
    left the queue, the integers of the remaining requests are taken from the cache.
    """

    def __init__(self) -> None:
        self._ids: tuple[str, ...] = ()
        self._numbers: tuple[int, ...] = ()

    def of(self, request_ids: tuple[str, ...]) -> tuple[int, ...]:
        if request_ids is not self._ids:
            self._numbers = (
                self._numbers[1:] if self._lacks_only_the_first(request_ids) else tuple(map(int, request_ids))
            )
            self._ids = request_ids
        return self._numbers

    def _lacks_only_the_first(self, request_ids: tuple[str, ...]) -> bool:
        """Return whether ``request_ids`` are the ids that were converted last, without the first of them."""
        before = self._ids
        if not request_ids or len(request_ids) != len(before) - 1:
            return False
        return request_ids[0] is before[1] and request_ids[-1] is before[-1]
