"""An independent model of the scheduling rules: what every step of a workload must look like, apart from any engine.

Written from docs/scheduling-rules.md alone, for reading and not for speed. Two things follow from the rules and
make them short here. A decode moves tkv and every sequence's token count together, so a running sequence is known
by its left padding: what it has in the cache is tkv − padding. And whatever changes padding changes tkv by the same
number of whole blocks, so what a sequence holds is always ceil(tkv/64) − padding // 64 blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace

from harness.schedulers.errors import ImpossibleWorkload
from harness.types import BLOCK_SIZE, EngineSetup, SchedulingLimits, StepRow, blocks_for, ceil_div

_Said = tuple[int, int, int, int]
"""The four numbers of the limits, none of them missing."""


@dataclass(frozen=True)
class PlannedRequest:
    """A request as scheduling sees it: lengths in tokens, times in engine steps.

    ``stops_after`` is the number of tokens after which something other than ``max_tokens`` ends it.
    Raises ValueError for a request that cannot be.
    """

    prompt_length: int
    max_tokens: int
    join_step: int = 0
    abort_step: int | None = None
    stops_after: int | None = None

    def __post_init__(self) -> None:
        if self.prompt_length < 1 or self.max_tokens < 1:
            raise ValueError(f"a request has at least one token in and one out, not {self}")
        if self.join_step < 0 or (self.abort_step is not None and self.abort_step < self.join_step):
            raise ValueError(f"a request joins at step 0 or later and is aborted after that, not {self}")
        if self.stops_after is not None and self.stops_after < 1:
            raise ValueError(f"a request stops after one token or later, not {self}")

    def length(self, max_model_len: int) -> int:
        """How many tokens it gets if it is not aborted: a sequence ends where it fills the context, too."""
        length = min(self.max_tokens, max(1, max_model_len - self.prompt_length))
        return length if self.stops_after is None else min(length, self.stops_after)


@dataclass(frozen=True)
class Seat:
    """A sequence that holds blocks. ``padding`` in tokens, ``reserved`` in blocks."""

    request_id: int
    request: PlannedRequest
    padding: int
    reserved: int

    def decoded(self, tkv: int) -> int:
        """Tokens in the cache beyond the prompt: one fewer than it has generated, the newest is not there yet."""
        return tkv - self.padding - self.request.prompt_length

    def used(self, tkv: int) -> int:
        """Blocks it holds."""
        return blocks_for(tkv) - self.padding // BLOCK_SIZE

    def is_done(self, tkv: int, max_model_len: int) -> bool:
        """Whether its last token has been generated."""
        return self.decoded(tkv) + 1 >= self.request.length(max_model_len)


@dataclass(frozen=True)
class State:
    """The engine between two steps. ``running`` is newest first; ``leaving`` ended, and still hold their blocks.

    ``withdrawn``: a waiting request was aborted since the last step, for which one more step runs. ``refused_at`` are
    the tkvs at which the batch × tkv limit refused the head of the queue since ``running`` last changed.
    """

    tkv: int = 0
    waiting: tuple[tuple[int, PlannedRequest], ...] = ()
    running: tuple[Seat, ...] = ()
    leaving: tuple[Seat, ...] = ()
    refused_at: tuple[int, ...] = ()
    withdrawn: bool = False

    @property
    def has_work(self) -> bool:
        """Whether a further step would change anything."""
        return bool(self.waiting or self.running or self.leaving or self.withdrawn)


@dataclass(frozen=True)
class Moment:
    """A state as it is observed at a step, with what the step that led to it gave."""

    step: int
    state: State
    outputs: tuple[int, ...] = ()
    finished: tuple[int, ...] = ()


def predict(limits: SchedulingLimits, requests: Sequence[PlannedRequest]) -> tuple[StepRow, ...]:
    """Every row of the step table, from step 0 to the last step with nothing left to do or to come.

    Requests are named by their position. ``limits`` says all four numbers (``filled_in`` sees to that).
    Raises ImpossibleWorkload; ValueError where a limit is not said.
    """
    return tuple(_row(moment) for moment in moments(limits, requests))


def explain(limits: SchedulingLimits, requests: Sequence[PlannedRequest], step: int) -> str:
    """What step ``step`` does and why the head of the queue does or does not join in it; one phrase.

    Raises ImpossibleWorkload where the workload gets stuck before that step.
    """
    if step < 1:
        return "the state before any step"
    for moment in moments(limits, requests):
        if moment.step == step - 1 and (moment.state.has_work or step <= _last_event(requests)):
            return f"step {step}: {decision(limits, moment.state)}"
    return f"step {step}: the workload is done"


def decision(limits: SchedulingLimits, state: State) -> str:
    """What the step after ``state`` does, and what keeps the head of the queue waiting where it does."""
    if not state.waiting:
        head = "nothing waits"
    else:
        head_id, request = state.waiting[0]
        reason = why_not(limits, state, request)
        if reason is None:
            why = f"admissible at tkv {state.tkv}" if state.running else "nothing runs"
            return f"prefill of {head_id}, {why}"
        head = f"{head_id} waits for {reason}"
    ids = " ".join(str(seat.request_id) for seat in state.running)
    return f"decode of {ids}, {head}" if ids else f"nothing to run, {head}"


def filled_in(limits: SchedulingLimits, setup: EngineSetup) -> SchedulingLimits:
    """``limits`` with what is not said taken from the engine they tighten."""
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
    """Which conditions of admission hold the head of the queue back, in one phrase; None where none does.

    ``state`` is the one before the step: what ended in the step before it still counts as reserved.
    """
    if not state.running:
        return None
    said = _said(limits)
    tkv = _tkv_with(request.prompt_length, state.tkv)
    reasons = (
        *_other_reasons(said, state, request, tkv),
        _batch_tkv_is_exceeded(said, state, request, tkv) or _batch_tkv_was_exceeded(state, tkv),
    )
    return "; ".join(reason for reason in reasons if reason) or None


def _other_reasons(limits: _Said, state: State, request: PlannedRequest, tkv: int) -> tuple[str | None, ...]:
    """All conditions but the last, which is looked at only where these hold."""
    return (
        _batch_is_full(limits, state),
        _context_is_short(limits, state, request, tkv),
        _blocks_are_short(limits, state, request, tkv),
    )


def obstacles(limits: SchedulingLimits, state: State, request: PlannedRequest) -> dict[str, str | None]:
    """What keeps the head of the queue from joining what runs, by condition; None where it holds.

    ``freed_blocks`` stands in the place of ``blocks`` where those of sequences that ended would be enough.
    """
    said, tkv = _said(limits), _tkv_with(request.prompt_length, state.tkv)
    batch, context, blocks = _other_reasons(said, state, request, tkv)
    now = _batch_tkv_is_exceeded(said, state, request, tkv)
    before = None if now else _batch_tkv_was_exceeded(state, tkv)
    late = blocks and not _blocks_are_short(said, replace(state, leaving=()), request, tkv)
    of_blocks = {"freed_blocks" if late else "blocks": blocks}
    return {"batch": batch, "context": context, **of_blocks, "batch_tkv": now, "earlier refusal": before}


def moments(limits: SchedulingLimits, requests: Sequence[PlannedRequest]) -> Iterator[Moment]:
    """The workload moment by moment. Steps go on while a join or an abort is still to come."""
    last_event = _last_event(requests)
    moment = _with_events(Moment(0, State()), requests)
    yield moment
    while moment.state.has_work or moment.step < last_event:
        moment = _with_events(_next(limits, moment), requests)
        yield moment


def _last_event(requests: Sequence[PlannedRequest]) -> int:
    return max((max(request.join_step, request.abort_step or 0) for request in requests), default=0)


def _said(limits: SchedulingLimits) -> _Said:
    context, batch, blocks, batch_tkv = astuple(limits)
    if context is None or batch is None or blocks is None or batch_tkv is None:
        raise ValueError(f"all four limits must be said, not {limits}")
    return context, batch, blocks, batch_tkv


def _tkv_with(prompt_length: int, tkv: int) -> int:
    """tkv once a prompt is in: grown by whole blocks until it fits. From 0 that is the rounded-up prompt."""
    return tkv + blocks_for(max(0, prompt_length - tkv)) * BLOCK_SIZE


def _worst_case(request: PlannedRequest, tkv: int) -> int:
    """Blocks the request needs if it is prefilled at this tkv and runs to ``max_tokens``."""
    all_padding = (tkv - request.prompt_length) // BLOCK_SIZE
    return blocks_for(tkv + request.max_tokens - 1) - all_padding


# --- admission, condition by condition: what is wrong, or None -------------------------------------------------


def _batch_is_full(limits: _Said, state: State) -> str | None:
    most = limits[1]
    return None if len(state.running) < most else f"batch: {len(state.running)} of {most}"


def _context_is_short(limits: _Said, state: State, request: PlannedRequest, tkv: int) -> str | None:
    left = limits[0] - tkv
    grown = f", grown from {state.tkv} for a prompt of {request.prompt_length}" if tkv > state.tkv else ""
    if request.max_tokens > left:
        return f"context: {request.max_tokens} tokens asked, {left} left at tkv {tkv}{grown}"
    if grown:
        for seat in state.running:
            budget = seat.request.max_tokens - seat.decoded(state.tkv)
            if budget > left:
                return f"context: sequence {seat.request_id} has {budget} tokens to go, {left} left at tkv {tkv}{grown}"
    return None


def _blocks_are_short(limits: _Said, state: State, request: PlannedRequest, tkv: int) -> str | None:
    available = limits[2]
    ended = sum(seat.reserved for seat in state.leaving)
    needed, free = _worst_case(request, tkv), available - ended - sum(seat.reserved for seat in state.running)
    late = f" ({ended} of those that ended go back after this step's admission)" if needed <= free + ended else ""
    return None if needed <= free else f"blocks: {needed} needed, {free} of {available} not reserved{late}"


def _batch_tkv_is_exceeded(limits: _Said, state: State, request: PlannedRequest, tkv: int) -> str | None:
    """The largest batch size x tkv while the new sequence decodes beside others.

    Once everyone else has finished, it is alone, and a lone sequence is not held to the limit.
    """
    limit = limits[3]
    newcomer_ends = tkv + request.max_tokens - 1
    ends = sorted(tkv + seat.request.max_tokens - 1 - seat.decoded(state.tkv) for seat in state.running)
    size, peak = len(ends) + 1, (0, 0)
    for end in ends:
        peak = max(peak, (size, min(end, newcomer_ends)), key=_batch_tkv)
        if newcomer_ends <= end:
            break
        size -= 1
    if _batch_tkv(peak) <= limit:
        return None
    return f"batch x tkv: {peak[0]} x {peak[1]} = {_batch_tkv(peak)} exceeds {limit}"


def _batch_tkv_was_exceeded(state: State, tkv: int) -> str | None:
    """A refusal holds at every larger tkv until the batch changes, whatever a new count would be."""
    at = min(state.refused_at, default=tkv + 1)
    return None if at > tkv else f"batch x tkv: it was exceeded at tkv {at}, which counts until the batch changes"


def _batch_tkv(peak: tuple[int, int]) -> int:
    return peak[0] * peak[1]


# --- one step ---------------------------------------------------------------------------------------------------


def _next(limits: SchedulingLimits, moment: Moment) -> Moment:
    state = moment.state
    joins = bool(state.waiting) and why_not(limits, state, state.waiting[0][1]) is None
    packed = _without_shared_padding(_freed(_remembering(limits, state)))
    if joins:
        return _prefill(limits, moment.step + 1, packed)
    return _decode(limits, moment.step + 1, packed)


def _freed(state: State) -> State:
    """Those that left give their blocks back; tkv belongs to a batch, so without one it is 0."""
    return replace(state, tkv=state.tkv if state.running else 0, leaving=(), withdrawn=False)


def _remembering(limits: SchedulingLimits, state: State) -> State:
    """With the tkv at which only the batch × tkv limit refuses the head of the queue, where it does."""
    if not state.waiting or not state.running:
        return state
    said, request = _said(limits), state.waiting[0][1]
    tkv = _tkv_with(request.prompt_length, state.tkv)
    if any(_other_reasons(said, state, request, tkv)) or not _batch_tkv_is_exceeded(said, state, request, tkv):
        return state
    return replace(state, refused_at=(*state.refused_at, tkv))


def _without_shared_padding(state: State) -> State:
    shared = min((seat.padding for seat in state.running), default=0) // BLOCK_SIZE * BLOCK_SIZE
    return _shifted(state, -shared) if shared else state


def _shifted(state: State, tokens: int) -> State:
    """tkv and everybody's left padding, together, moved by whole blocks."""
    running = tuple(replace(seat, padding=seat.padding + tokens) for seat in state.running)
    return replace(state, tkv=state.tkv + tokens, running=running)


def _prefill(limits: SchedulingLimits, step: int, state: State) -> Moment:
    request_id, request = state.waiting[0]
    tkv = _tkv_with(request.prompt_length, state.tkv)
    needed, available = _worst_case(request, tkv), _said(limits)[2]
    if needed > available:
        raise ImpossibleWorkload(
            f"request {request_id} (prompt {request.prompt_length}, max_tokens {request.max_tokens}) needs {needed} "
            f"blocks with nothing else running, and {available} are available"
        )
    seat = Seat(request_id, request, tkv - request.prompt_length, needed)
    grown = _shifted(state, tkv - state.tkv) if tkv > state.tkv else state
    after = replace(grown, waiting=state.waiting[1:], running=(seat, *grown.running), refused_at=())
    return _finish(limits, Moment(step, after, (request_id,)))


def _decode(limits: SchedulingLimits, step: int, state: State) -> Moment:
    if not state.running:
        return Moment(step, state)
    outputs = tuple(seat.request_id for seat in state.running)
    return _finish(limits, Moment(step, replace(state, tkv=state.tkv + 1), outputs))


def _finish(limits: SchedulingLimits, moment: Moment) -> Moment:
    """Those that got their last token in this step leave; they are listed as they are in the outputs."""
    state, context = moment.state, _said(limits)[0]
    ran = [seat for seat in state.running if seat.request_id in moment.outputs]
    done = tuple(seat for seat in ran if seat.is_done(state.tkv, context))
    if not done:
        return moment
    stay = tuple(seat for seat in state.running if seat not in done)
    return replace(
        moment,
        state=replace(state, running=stay, leaving=done, refused_at=()),
        finished=tuple(seat.request_id for seat in done),
    )


# --- between steps ----------------------------------------------------------------------------------------------


def _with_events(moment: Moment, requests: Sequence[PlannedRequest]) -> Moment:
    """The requests that join now are queued, then those that are aborted now are ended."""
    joining = tuple((i, r) for i, r in enumerate(requests) if r.join_step == moment.step)
    aborted = {i for i, r in enumerate(requests) if r.abort_step == moment.step}
    if not joining and not aborted:
        return moment
    state = moment.state
    waiting = tuple((i, r) for i, r in (*state.waiting, *joining) if i not in aborted)
    running = tuple(seat for seat in state.running if seat.request_id not in aborted)
    same = running == state.running and waiting[:1] == state.waiting[:1]
    after = State(
        tkv=state.tkv,
        waiting=waiting,
        running=running,
        leaving=(*state.leaving, *(seat for seat in state.running if seat.request_id in aborted)),
        refused_at=state.refused_at if same else (),
        withdrawn=len(waiting) < len(state.waiting) + len(joining),
    )
    return replace(moment, state=after)


def _row(moment: Moment) -> StepRow:
    state = moment.state
    holding = (*state.running, *state.leaving)
    return StepRow(
        moment.step,
        state.tkv,
        tuple(request_id for request_id, _ in state.waiting),
        tuple(seat.request_id for seat in state.running),
        moment.outputs,
        moment.finished,
        sum(seat.reserved for seat in holding),
        sum(seat.used(state.tkv) for seat in holding),
    )
