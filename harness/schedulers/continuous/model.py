"""The scheduler model of the continuous scheduler: it predicts every step of a workload without code of the engine.

The model implements only the rules of docs/scheduling-rules.md, and is meant to be easy to read, not fast. Two
consequences of the rules keep the model short. First, a decode adds 1 to tkv and to the number of tokens of every
running sequence. So only the left padding of a sequence must be stored: the sequence has tkv − padding tokens in the KV
cache. Second, padding changes only together with tkv, and both change by the same number of whole blocks. So a sequence
always holds ceil(tkv/64) − padding // 64 blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace

from harness.schedulers.continuous.planned import PlannedRequest
from harness.schedulers.errors import ImpossibleWorkload
from harness.types import BLOCK_SIZE, EngineSetup, SchedulingLimits, StepRow, blocks_for, ceil_div

_GivenLimits = tuple[int, int, int, int]
"""The four limits in the order of ``SchedulingLimits``, none of which is None."""


@dataclass(frozen=True)
class ModelSequence:
    """A sequence that holds blocks. ``padding`` is its left padding in tokens.

    ``reserved`` is the number of blocks that are reserved for it. tkv is an argument of the methods and not an
    attribute, because all sequences have the same tkv.
    """

    request_id: int
    request: PlannedRequest
    padding: int
    reserved: int

    def decoded(self, tkv: int) -> int:
        """Return the number of generated tokens in the KV cache. The newest generated token is not in it yet."""
        return tkv - self.padding - self.request.prompt_length

    def used(self, tkv: int) -> int:
        """Return the number of blocks that the sequence holds."""
        return blocks_for(tkv) - self.padding // BLOCK_SIZE

    def is_done(self, tkv: int, max_model_len: int) -> bool:
        """Return whether the sequence has generated its last token."""
        return self.decoded(tkv) + 1 >= self.request.length(max_model_len)


@dataclass(frozen=True)
class State:
    """The state of the scheduler model between two steps.

    ``waiting`` has (number, request) for each waiting request. ``running`` has the newest sequence first. ``leaving``
    are sequences that have ended but still hold their blocks. ``refused_at`` has the values of tkv at which the head of
    the queue had to wait for the batch x tkv limit since ``running`` last changed. ``withdrawn`` is whether a waiting
    request was aborted since the last step; if so, the scheduler runs one more step.
    """

    tkv: int = 0
    waiting: tuple[tuple[int, PlannedRequest], ...] = ()
    running: tuple[ModelSequence, ...] = ()
    leaving: tuple[ModelSequence, ...] = ()
    refused_at: tuple[int, ...] = ()
    withdrawn: bool = False

    @property
    def has_work(self) -> bool:
        """Return whether another step would change the state."""
        return bool(self.waiting or self.running or self.leaving or self.withdrawn)


@dataclass(frozen=True)
class PredictedStep:
    """The state after a step. ``outputs`` are the requests that got a token in it, ``finished`` those that finished."""

    step: int
    state: State
    outputs: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()


def predict(limits: SchedulingLimits, requests: Sequence[PlannedRequest]) -> tuple[StepRow, ...]:
    """Return the step table of a workload, up to the step after which there is no more work.

    The number of a request is its position in ``requests``. No limit may be None (see ``filled_in``). Raises
    ImpossibleWorkload if a request can never be admitted, and ValueError if a limit is None.
    """
    return tuple(_row(predicted) for predicted in predicted_steps(limits, requests))


def explain(limits: SchedulingLimits, requests: Sequence[PlannedRequest], step: int) -> str:
    """Return a phrase about what step ``step`` does, and why the head of the queue is admitted or waits.

    Raises ImpossibleWorkload if an earlier step would start a request that needs more blocks than there are.
    """
    if step < 1:
        return "the state before any step"
    for predicted in predicted_steps(limits, requests):
        if predicted.step == step - 1 and (predicted.state.has_work or step <= _last_event(requests)):
            return f"step {step}: {decision(limits, predicted.state)}"
    return f"step {step}: the workload is done"


def decision(limits: SchedulingLimits, state: State) -> str:
    """Return a phrase about what the step after ``state`` does and, if the head of the queue waits, why."""
    if not state.waiting:
        head = "nothing waits"
    else:
        head_id, request = state.waiting[0]
        reason = why_not(limits, state, request)
        if reason is None:
            why = f"admissible at tkv {state.tkv}" if state.running else "nothing runs"
            return f"prefill of {head_id}, {why}"
        head = f"{head_id} waits for {reason}"
    ids = " ".join(str(sequence.request_id) for sequence in state.running)
    return f"decode of {ids}, {head}" if ids else f"nothing to run, {head}"


def filled_in(limits: SchedulingLimits, setup: EngineSetup) -> SchedulingLimits:
    """Return ``limits`` with every None replaced by the limit that an engine with this setup has."""
    context, batch = setup.max_model_len, setup.max_num_seqs
    if setup.num_blocks is None:
        blocks = ceil_div(batch * context // BLOCK_SIZE + 1, batch) * batch
    else:
        blocks = setup.num_blocks // batch * batch
    built = SchedulingLimits(context, batch, blocks - 1, context * batch)
    return SchedulingLimits(
        limits.max_model_len or built.max_model_len,
        limits.max_num_seqs or built.max_num_seqs,
        limits.available_blocks or built.available_blocks,
        limits.max_batch_tkv_limit or built.max_batch_tkv_limit,
    )


def why_not(limits: SchedulingLimits, state: State, request: PlannedRequest) -> str | None:
    """Return a phrase with the admission conditions that ``request``, the head of the queue, does not fulfil.

    Return None if the request is admitted. ``state`` is the state before the step, in which the blocks of sequences
    that ended in the last step are still reserved.
    """
    if not state.running:
        return None
    given = _given(limits)
    tkv = _tkv_with(request.prompt_length, state.tkv)
    reasons = (
        *_other_reasons(given, state, request, tkv),
        _batch_tkv_is_exceeded(given, state, request, tkv) or _batch_tkv_was_exceeded(state, tkv),
    )
    return "; ".join(reason for reason in reasons if reason) or None


def _other_reasons(limits: _GivenLimits, state: State, request: PlannedRequest, tkv: int) -> tuple[str | None, ...]:
    """Check each admission condition except the batch x tkv limit for ``request``, the head of the queue.

    The result has one element for each condition: None if the request fulfils it, else a phrase that says why not.
    """
    return (
        _batch_is_full(limits, state),
        _context_is_short(limits, state, request, tkv),
        _blocks_are_short(limits, state, request, tkv),
    )


def obstacles(limits: SchedulingLimits, state: State, request: PlannedRequest) -> dict[str, str | None]:
    """Check each admission condition for ``request``, the head of the queue.

    The keys of the result are the names of the conditions. A value is None if the request fulfils the condition, else a
    phrase that says why not. The key is ``freed_blocks`` instead of ``blocks`` if blocks are missing now, but are
    enough as soon as the blocks of ended sequences are freed.
    """
    given, tkv = _given(limits), _tkv_with(request.prompt_length, state.tkv)
    batch, context, blocks = _other_reasons(given, state, request, tkv)
    now = _batch_tkv_is_exceeded(given, state, request, tkv)
    before = None if now else _batch_tkv_was_exceeded(state, tkv)
    late = blocks and not _blocks_are_short(given, replace(state, leaving=()), request, tkv)
    of_blocks = {"freed_blocks" if late else "blocks": blocks}
    return {"batch": batch, "context": context, **of_blocks, "batch_tkv": now, "earlier refusal": before}


def predicted_steps(limits: SchedulingLimits, requests: Sequence[PlannedRequest]) -> Iterator[PredictedStep]:
    """Yield the state before the first step and after each step.

    In the state after step n, the requests with ``join_step`` n are in the queue, and those with ``abort_step`` n are
    removed. The last step is the one after which no request runs or waits, and none will join or be aborted.
    """
    last_event = _last_event(requests)
    predicted = _with_events(PredictedStep(0, State()), requests)
    yield predicted
    while predicted.state.has_work or predicted.step < last_event:
        predicted = _with_events(_next(limits, predicted), requests)
        yield predicted


def _last_event(requests: Sequence[PlannedRequest]) -> int:
    return max((max(request.join_step, request.abort_step or 0) for request in requests), default=0)


def _given(limits: SchedulingLimits) -> _GivenLimits:
    context, batch, blocks, batch_tkv = astuple(limits)
    if context is None or batch is None or blocks is None or batch_tkv is None:
        missing = ", ".join(name for name, value in asdict(limits).items() if value is None)
        raise ValueError(f"the scheduler model can't predict steps, because these limits are not known: {missing}")
    return context, batch, blocks, batch_tkv


def _tkv_with(prompt_length: int, tkv: int) -> int:
    """Return tkv after the prefill of a prompt, if tkv is ``tkv`` before.

    tkv does not change if the prompt is not longer than ``tkv``. Otherwise it grows by as few whole blocks as are
    needed for the prompt. If ``tkv`` is 0, the result is the length of the prompt rounded up to whole blocks.
    """
    return tkv + blocks_for(max(0, prompt_length - tkv)) * BLOCK_SIZE


def _worst_case(request: PlannedRequest, tkv: int) -> int:
    """Return how many blocks a request needs if it is prefilled at ``tkv`` and generates ``max_tokens`` tokens."""
    all_padding = (tkv - request.prompt_length) // BLOCK_SIZE
    return blocks_for(tkv + request.max_tokens - 1) - all_padding


# --- admission: each function returns why one condition is violated, or None if it holds -----------------------------


def _batch_is_full(limits: _GivenLimits, state: State) -> str | None:
    max_num_seqs = limits[1]
    return None if len(state.running) < max_num_seqs else f"batch: {len(state.running)} of {max_num_seqs}"


def _context_is_short(limits: _GivenLimits, state: State, request: PlannedRequest, tkv: int) -> str | None:
    left = limits[0] - tkv
    grown = f", grown from {state.tkv} for a prompt of {request.prompt_length}" if tkv > state.tkv else ""
    if request.max_tokens > left:
        return f"context: {request.max_tokens} tokens requested, {left} left at tkv {tkv}{grown}"
    if grown:
        for sequence in state.running:
            budget = sequence.request.max_tokens - sequence.decoded(state.tkv)
            if budget > left:
                return f"context: sequence {sequence.request_id} needs {budget} tokens, {left} left at tkv {tkv}{grown}"
    return None


def _blocks_are_short(limits: _GivenLimits, state: State, request: PlannedRequest, tkv: int) -> str | None:
    available = limits[2]
    ended = sum(sequence.reserved for sequence in state.leaving)
    needed, free = _worst_case(request, tkv), available - ended - sum(sequence.reserved for sequence in state.running)
    late = f" ({ended} more are freed after this step's admission)" if needed <= free + ended else ""
    return None if needed <= free else f"blocks: {needed} needed, {free} of {available} not reserved{late}"


def _batch_tkv_is_exceeded(limits: _GivenLimits, state: State, request: PlannedRequest, tkv: int) -> str | None:
    """Return a phrase if batch size x tkv would exceed its limit after ``request`` is prefilled at ``tkv``.

    Return None if it would not. The value that must not exceed the limit is the largest batch size x tkv while the
    request decodes together with other sequences. The limit does not apply to a single sequence.
    """
    limit = limits[3]
    new_ends = tkv + request.max_tokens - 1
    ends = sorted(tkv + sequence.request.max_tokens - 1 - sequence.decoded(state.tkv) for sequence in state.running)
    size, peak = len(ends) + 1, (0, 0)
    for end in ends:
        peak = max(peak, (size, min(end, new_ends)), key=_batch_tkv)
        if new_ends <= end:
            break
        size -= 1
    if _batch_tkv(peak) <= limit:
        return None
    return f"batch x tkv: {peak[0]} x {peak[1]} = {_batch_tkv(peak)} exceeds {limit}"


def _batch_tkv_was_exceeded(state: State, tkv: int) -> str | None:
    """Return a phrase if the batch x tkv limit made the head of the queue wait before, at ``tkv`` or a smaller tkv.

    The request then continues to wait, without a new calculation, until the batch changes. Return None otherwise.
    """
    at = min(state.refused_at, default=tkv + 1)
    return None if at > tkv else f"batch x tkv: was exceeded at tkv {at}; refused until the batch changes"


def _batch_tkv(peak: tuple[int, int]) -> int:
    return peak[0] * peak[1]


# --- one step ---------------------------------------------------------------------------------------------------


def _next(limits: SchedulingLimits, predicted: PredictedStep) -> PredictedStep:
    state = predicted.state
    joins = bool(state.waiting) and why_not(limits, state, state.waiting[0][1]) is None
    packed = _without_shared_padding(_freed(_remembering(limits, state)))
    if joins:
        return _prefill(limits, predicted.step + 1, packed)
    return _decode(limits, predicted.step + 1, packed)


def _freed(state: State) -> State:
    """Return the state after the blocks of ended sequences are freed. Its tkv is 0 if no sequence is running."""
    return replace(state, tkv=state.tkv if state.running else 0, leaving=(), withdrawn=False)


def _remembering(limits: SchedulingLimits, state: State) -> State:
    """Add tkv to ``refused_at`` of the state if the head of the queue waits only for the batch x tkv limit.

    The added tkv is the tkv that the batch would have after the prefill of the head of the queue.
    """
    if not state.waiting or not state.running:
        return state
    given, request = _given(limits), state.waiting[0][1]
    tkv = _tkv_with(request.prompt_length, state.tkv)
    if any(_other_reasons(given, state, request, tkv)) or not _batch_tkv_is_exceeded(given, state, request, tkv):
        return state
    return replace(state, refused_at=(*state.refused_at, tkv))


def _without_shared_padding(state: State) -> State:
    shared = min((sequence.padding for sequence in state.running), default=0) // BLOCK_SIZE * BLOCK_SIZE
    return _shifted(state, -shared) if shared else state


def _shifted(state: State, tokens: int) -> State:
    """Return the state with ``tokens`` added to tkv and to the left padding of all running sequences.

    ``tokens`` is a multiple of 64, and can be negative.
    """
    running = tuple(replace(sequence, padding=sequence.padding + tokens) for sequence in state.running)
    return replace(state, tkv=state.tkv + tokens, running=running)


def _prefill(limits: SchedulingLimits, step: int, state: State) -> PredictedStep:
    request_id, request = state.waiting[0]
    tkv = _tkv_with(request.prompt_length, state.tkv)
    needed, available = _worst_case(request, tkv), _given(limits)[2]
    if needed > available:
        raise ImpossibleWorkload(
            f"request {request_id} (prompt {request.prompt_length}, max_tokens {request.max_tokens}) needs {needed} "
            f"blocks with nothing else running, but {available} are available",
            "available_blocks",
        )
    sequence = ModelSequence(request_id, request, tkv - request.prompt_length, needed)
    grown = _shifted(state, tkv - state.tkv) if tkv > state.tkv else state
    after = replace(grown, waiting=state.waiting[1:], running=(sequence, *grown.running), refused_at=())
    return _finish(limits, PredictedStep(step, after, (request_id,)))


def _decode(limits: SchedulingLimits, step: int, state: State) -> PredictedStep:
    if not state.running:
        return PredictedStep(step, state)
    outputs = tuple(sequence.request_id for sequence in state.running)
    return _finish(limits, PredictedStep(step, replace(state, tkv=state.tkv + 1), outputs))


def _finish(limits: SchedulingLimits, predicted: PredictedStep) -> PredictedStep:
    """Move the sequences that got their last token in this step from ``running`` to ``leaving``."""
    state, context = predicted.state, _given(limits)[0]
    ran = [sequence for sequence in state.running if sequence.request_id in predicted.outputs]
    done = tuple(sequence for sequence in ran if sequence.is_done(state.tkv, context))
    if not done:
        return predicted
    stay = tuple(sequence for sequence in state.running if sequence not in done)
    return replace(
        predicted,
        state=replace(state, running=stay, leaving=done, refused_at=()),
        finished=tuple(sequence.request_id for sequence in done),
    )


# --- between steps ----------------------------------------------------------------------------------------------


def _with_events(predicted: PredictedStep, requests: Sequence[PlannedRequest]) -> PredictedStep:
    """Add the requests that join after the predicted step to the queue, then remove the requests that are aborted."""
    joining = tuple((i, r) for i, r in enumerate(requests) if r.join_step == predicted.step)
    aborted = {i for i, r in enumerate(requests) if r.abort_step == predicted.step}
    if not joining and not aborted:
        return predicted
    state = predicted.state
    waiting = tuple((i, r) for i, r in (*state.waiting, *joining) if i not in aborted)
    running = tuple(sequence for sequence in state.running if sequence.request_id not in aborted)
    same = running == state.running and waiting[:1] == state.waiting[:1]
    after = State(
        tkv=state.tkv,
        waiting=waiting,
        running=running,
        leaving=(*state.leaving, *(sequence for sequence in state.running if sequence.request_id in aborted)),
        refused_at=state.refused_at if same else (),
        withdrawn=len(waiting) < len(state.waiting) + len(joining),
    )
    return replace(predicted, state=after)


def _row(predicted: PredictedStep) -> StepRow:
    state = predicted.state
    holding = (*state.running, *state.leaving)
    return StepRow(
        predicted.step,
        state.tkv,
        tuple(request_id for request_id, _ in state.waiting),
        tuple(sequence.request_id for sequence in state.running),
        predicted.outputs,
        predicted.finished,
        sum(sequence.reserved for sequence in holding),
        sum(sequence.used(state.tkv) for sequence in holding),
    )
