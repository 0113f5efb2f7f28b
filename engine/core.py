"""The engine core: runs requests step by step with a scheduler and an executor, and records every step.

This file does not import torch. The core does not check whether a request fits the context: entry points do
(engine/entrypoints/validation.py).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from engine.config import EngineConfig, Limits, ResolvedLimits, resolve_limits
from engine.request import FinishReason, Request, SamplingParams, TokenOutput
from engine.scheduling.plan import ChunkedState, Idle, Runnable, SchedulerState, StepPlan, TokenBudgetState
from engine.scheduling.schedulers import SCHEDULERS, Scheduler
from engine.sequence import Grammar, SequenceState
from engine.structured_outputs import SamplingParamsError, StructuredOutputsError, StructuredOutputsParams

DecodeText = Callable[..., str]


class Executor(Protocol):
    """The interface of an object that runs step plans: ModelRunner runs a model, NoModel returns made-up tokens."""

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> Sequence[TokenOutput]:
        """Run ``plan``, and return one token for each of ``plan.request_ids``, in that order.

        ``sequences`` has the state of every request of the engine by request id.
        """
        ...


class GrammarCompiler(Protocol):
    """The interface for compiling structured outputs to grammars. Implemented by ``Grammars`` in engine/grammars.py."""

    def check(self, params: StructuredOutputsParams, golden_token_ids: Sequence[int] = ()) -> None:
        """Compile ``params``, and check that the grammar allows ``golden_token_ids`` as the first tokens of the answer.

        Raises SamplingParamsError if ``params`` cannot be compiled, or if the grammar forbids one of these tokens.
        """

    def start(self, params: StructuredOutputsParams) -> Grammar:
        """Return the grammar of a new request, before its first token.

        Raises StructuredOutputsError if ``params`` cannot be compiled.
        """
        ...


class StepRecord(NamedTuple):
    """The record of one engine step: its plan, its tokens, and the scheduler's state after the step.

    ``step`` is the number of the step; the first is 1. ``request_outputs`` lists the requests that got a token in this
    step, in the order of the plan; ``tokens`` has these tokens in the same order. ``finished_requests`` lists the
    requests that ended in this step. With the continuous scheduler, ``n_reserved_blocks`` and ``n_used_blocks`` still
    count the blocks of requests that ended in this step. ``chunked`` and ``token_budget`` have the state that only the
    scheduler of that name has; with another scheduler they are None.
    """

    step: int
    plan: StepPlan
    tkv: int
    waiting: tuple[str, ...]
    running: tuple[str, ...]
    request_outputs: tuple[str, ...]
    finished_requests: tuple[str, ...]
    n_reserved_blocks: int
    n_used_blocks: int
    tokens: tuple[TokenOutput, ...]
    chunked: ChunkedState | None = None
    token_budget: TokenBudgetState | None = None


class EngineCore:
    """Runs queued requests one step at a time and returns a record of each step."""

    def __init__(
        self,
        config: EngineConfig,
        executor: Executor,
        *,
        eos_token_ids: frozenset[int] = frozenset(),
        decode_text: DecodeText | None = None,
        grammars: GrammarCompiler | None = None,
    ) -> None:
        self.config = config
        self._executor = executor
        self._eos_token_ids = eos_token_ids
        self._decode_text = decode_text
        self._grammars = grammars
        self.reset(Limits())

    def reset(self, limits: Limits) -> ResolvedLimits:
        """Drop every request and set new limits. The model stays loaded and compiled.

        Raises ConfigError for a limit below 1, or above the value that the engine was built with.
        """
        return self.restart(resolve_limits(self.config, limits))

    def restart(self, limits: ResolvedLimits) -> ResolvedLimits:
        """Drop every request and set ``limits``, which ``resolve_limits`` has returned for this engine."""
        self.limits = limits
        self.scheduler: Scheduler = SCHEDULERS[self.config.scheduler](self.config, self.limits)
        self.sequences: dict[str, SequenceState] = {}
        self.steps_done = 0
        return self.limits

    def add_request(self, request: Request) -> None:
        """Queue a request. The core does not check whether the request fits the context: entry points do that.

        Raises ValueError if the prompt is empty, if the id is in use, or if ``max_tokens`` is None. Raises
        SamplingParamsError, a ValueError, if the engine has no tokenizer and the request has stop strings or structured
        outputs, or if its structured outputs cannot be compiled.
        """
        if not request.prompt_token_ids:
            raise ValueError(f"request {request.request_id} has an empty prompt")
        if request.request_id in self.sequences:
            raise ValueError(f"request id {request.request_id} is already in use")
        params, decode = request.sampling_params, None
        if params.stop_strings:
            if self._decode_text is None:
                raise SamplingParamsError("stop strings need a tokenizer, which this engine does not have")
            decode = partial(self._decode_text, skip_special_tokens=params.skip_special_tokens)
        max_tokens = request.max_tokens
        sequence = SequenceState(request, self._eos_token_ids, decode, self.limits.max_model_len)
        if params.structured_outputs is not None:
            sequence.grammar = self._compiler().start(params.structured_outputs)
        self.sequences[request.request_id] = sequence
        self.scheduler.add(request.request_id, len(request.prompt_token_ids), max_tokens, sequence)

    def check_grammar(self, params: SamplingParams) -> None:
        """Compile the structured outputs of a request, if it has any, so that ``add_request`` finds them in a cache.

        Entry points call this method before they queue a request. AsyncLLM calls it outside the engine's thread,
        because compiling can take long. Raises SamplingParamsError if the structured outputs cannot be compiled, or if
        they forbid one of ``golden_token_ids``.
        """
        if params.structured_outputs is not None:
            self._compiler().check(params.structured_outputs, params.golden_token_ids)

    def _compiler(self) -> GrammarCompiler:
        if self._grammars is None:
            raise StructuredOutputsError("structured_outputs needs a tokenizer, which this engine does not have")
        return self._grammars

    def abort(self, request_id: str) -> bool:
        """End a request between two steps. Return False if no request with this id is queued or running."""
        if not self.scheduler.abort(request_id):
            return False
        self.sequences[request_id].finish_reason = FinishReason.ABORT
        return True

    def step(self) -> StepRecord:
        """Plan and run one step, sample, and end the requests that are finished.

        Raises OutOfBlocksError if no request can run, now or later: for example, nothing is running, and the first
        request in the queue needs more blocks than the whole KV cache has.
        """
        scheduler, sequences = self.scheduler, self.sequences
        plan = scheduler.plan()
        tokens = () if isinstance(plan, Idle) else tuple(self._executor.execute(plan, sequences))
        ids = plan.request_ids
        finished = tuple([i for i, token in zip(ids, tokens, strict=True) if sequences[i].append(token)])
        scheduler.commit(finished)
        self.steps_done += 1
        tkv, waiting, running, reserved, used, chunked, budget = scheduler.state()
        number = self.steps_done
        return StepRecord(number, plan, tkv, waiting, running, ids, finished, reserved, used, tokens, chunked, budget)

    def state(self) -> SchedulerState:
        """Return the scheduler's state between two steps."""
        return self.scheduler.state()

    def release(self, request_id: str) -> SequenceState:
        """Forget a request that has ended, and return its state."""
        return self.sequences.pop(request_id)

    @property
    def has_work(self) -> bool:
        """Return whether another step would change the state of the engine."""
        return self.scheduler.has_work
