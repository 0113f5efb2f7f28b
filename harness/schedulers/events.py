"""Find the events of a run that are visible in its step table, for all schedulers.

An event is something that a case can require with ``happens:``, such as a join, a pause, or a full batch.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.suites.schema import EventName, Request
from harness.types import RequestSpec, Run, StepRow

_ABORTED_AFTER: Mapping[str, EventName] = {
    "start": "abort_before_any_step",
    "prefill": "abort_after_prefill",
    "decode": "abort_after_decode",
    "mixed": "abort_after_decode",
    "idle": "abort_after_idle",
}


class Event(NamedTuple):
    """An event in step ``step``. ``request`` is the number of its request, None if the event concerns the batch."""

    step: int
    name: EventName
    request: int | None = None


def seen_events(
    run: Run,
    specs: Sequence[RequestSpec],
    timings: Sequence[Request],
    max_model_len: int | None,
    max_num_seqs: int | None,
) -> Iterator[Event]:
    """Yield the events that are visible in the step table of a run. Events about a limit that is None are left out."""
    yield from _aborts(run, timings)
    yield from _ends(run, specs, timings, max_model_len)
    got: Counter[int] = Counter()
    for before, after in pairwise(run.steps):
        yield from _kinds(before, after, got) if after.scheduled is None else _by_tokens(before, after, got)
        yield from _pauses(before, after)
        if max_num_seqs is not None and len(after.running) == max_num_seqs:
            yield Event(after.step, "full_batch")
        got.update(after.outputs)
    yield from _gaps(run.steps)


def _kinds(before: StepRow, after: StepRow, got: Counter[int]) -> Iterator[Event]:
    """Yield the events of a step about joins, chunks, tkv, blocks and ends, for the schedulers that have tkv.

    ``after`` is the row of the step, and ``before`` the row of the previous step. ``got`` has the number of tokens that
    each request had generated before the step.
    """
    under_way = [request for request in before.running if not got[request]]
    decoding = [request for request in before.running if got[request]]
    tkv, tkv_before = after.tkv_or_0, before.tkv_or_0
    if after.kind == "prefill":
        started = next(iter((*under_way, *before.waiting)), None)
        if decoding and not under_way:
            yield Event(after.step, "join", started)
        if not after.outputs:
            yield Event(after.step, "several_chunks", started)
        for request in set(after.outputs) & set(after.finished):
            yield Event(after.step, "end_at_prefill", request)
        if decoding and after.paused is None and tkv > tkv_before:
            yield Event(after.step, "tkv_growth")
    if after.kind == "decode":
        if under_way:
            yield Event(after.step, "chunk_between_decodes", under_way[0])
        if before.used is not None and after.used is not None and not before.finished and after.used > before.used:
            yield Event(after.step, "block_taken_in_decode")
        if before.kind == "decode" and tkv > tkv_before + 1:
            yield Event(after.step, "tkv_growth")
    if after.running and after.kind == "decode" and before.kind == "decode" and tkv <= tkv_before:
        yield Event(after.step, "tkv_fall")
    if after.kind == "prefill" and after.paused is None and decoding and tkv < tkv_before:
        yield Event(after.step, "tkv_fall")
    if len(after.finished) > 1:
        yield Event(after.step, "ends_together")


def _by_tokens(before: StepRow, after: StepRow, got: Counter[int]) -> Iterator[Event]:
    """Yield the events of a step of the token-budget scheduler about joins, chunks, preemptions, hits, blocks and ends.

    ``after`` is the row of the step, and ``before`` the row of the previous step. ``got`` has the number of tokens that
    each request had generated before the step.
    """
    scheduled = dict(after.scheduled or ())
    decodes = [request for request in scheduled if request in before.running and got[request]]
    yield from (Event(after.step, "join", r) for r in scheduled if decodes and r not in before.running)
    yield from (Event(after.step, "several_chunks", r) for r in scheduled if r not in after.outputs)
    yield from (Event(after.step, "end_at_prefill", r) for r in after.finished if not got[r])
    yield from (Event(after.step, "preemption", r) for r in after.preempted or ())
    yield from (Event(after.step, "hit", r) for r, _ in after.hits or ())
    if after.kind == "mixed":
        yield Event(after.step, "mixed_step")
    grew = before.used is not None and after.used is not None and after.used > before.used
    if after.kind == "decode" and grew and not before.finished:
        yield Event(after.step, "block_taken_in_decode")
    if len(after.finished) > 1:
        yield Event(after.step, "ends_together")


def _pauses(before: StepRow, after: StepRow) -> Iterator[Event]:
    was, now = set(before.paused or ()), set(after.paused or ())
    for request in now - was:
        yield Event(after.step, "pause", request)
    for request in was & set(after.outputs):
        yield Event(after.step, "resume", request)


def _gaps(steps: Sequence[StepRow]) -> Iterator[Event]:
    """Yield an event for each idle step that is followed by steps with work."""
    last = max((row.step for row in steps if row.outputs), default=0)
    yield from (Event(row.step, "idle_gap") for row in steps if row.kind == "idle" and row.step < last)


def _ends(
    run: Run, specs: Sequence[RequestSpec], timings: Sequence[Request], max_model_len: int | None
) -> Iterator[Event]:
    ends = {request: row.step for row in run.steps for request in row.finished}
    for spec, timing, tokens in zip(specs, timings, run.tokens, strict=True):
        number, room = spec.request_id, spec.within(max_model_len).max_tokens
        if number not in ends:
            continue
        if room < spec.max_tokens and len(tokens) == room:
            yield Event(ends[number], "context_filled", number)
        elif len(tokens) < room and not timing.runs_to_max_tokens:
            yield Event(ends[number], "early_end", number)


def _aborts(run: Run, timings: Sequence[Request]) -> Iterator[Event]:
    for request, timing in enumerate(timings):
        if timing.abort_step is not None and timing.abort_step < len(run.steps):
            yield Event(timing.abort_step, _aborted_as(run.steps, request, timing), request)
            yield Event(timing.abort_step, _ABORTED_AFTER[run.steps[timing.abort_step].kind], request)


def _aborted_as(steps: Sequence[StepRow], request: int, timing: Request) -> EventName:
    """Return the name of the event for the abort of a request, which says what the request was doing when aborted."""
    assert timing.abort_step is not None
    step = timing.abort_step
    row = steps[step]
    if timing.join_step == step:
        return "abort_of_waiting"
    before = steps[step - 1]
    if request in row.finished:
        return "abort_of_finishing"
    if request in row.outputs:
        return "abort_of_decoding"
    if request in (before.paused or ()):
        return "abort_of_paused"
    first_token = any(request in earlier.outputs for earlier in steps[:step])
    if request in before.running:
        if not first_token:
            return "abort_of_prefilling"
        return "abort_of_paused" if row.kind == "decode" else "abort_of_decoding"
    if request in before.waiting:
        started = row.kind == "prefill" and not row.outputs and before.waiting[0] == request
        others = any(not any(r in earlier.outputs for earlier in steps[:step]) for r in before.running)
        return "abort_of_prefilling" if started and not others else "abort_of_waiting"
    return "abort_of_ended"
