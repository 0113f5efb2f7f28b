"""Check the invariants of the continuous scheduler, properties that every step of every run has.

The checks need no expected step table. This module checks each row of the observed step table by itself, and
``moves.py`` checks the changes from each row to the next. Properties of values that the driver can't observe are not
checked.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from harness.schedulers.broken import Broken, as_verdict, length_broken, listed
from harness.schedulers.continuous.moves import each_move
from harness.schedulers.writes import wrongly_written
from harness.suites.schema import Request, decodes_on
from harness.types import RequestSpec, Run, SchedulingLimits, StepRow, Verdict

PADDING_BLOCK = 0


def check_invariants(
    run: Run, requests: Sequence[RequestSpec], timings: Sequence[Request], limits: SchedulingLimits
) -> Verdict:
    """Check all invariants after each step of a run. Invariants about a limit that is None are not checked."""
    if run.unfinished is not None:
        return Verdict(False, f"invariants: {run.unfinished}", rule=RULES["end"])
    checked = _rows_to_check(run.steps, timings)
    broken = [
        *_each_step(checked, limits),
        *_batch_tkv(run.steps, limits),
        *_nothing_is_left(run.steps[-1]),
        *each_move(run.steps, checked, requests, timings),
        *_every_request_ends_once(run, checked, requests, timings, limits),
        *_aborted_ones_are_gone(checked, timings),
        *_blocks_have_one_owner(checked),
        *wrongly_written(run, requests),
    ]
    return as_verdict(broken, RULES, len(run.steps))


RULES = {
    "blocks": 'docs/scheduling-rules.md "Words": used ≤ reserved ≤ available blocks',
    "owner": 'docs/scheduling-rules.md "Words": a block belongs to one sequence until this sequence ends; block 0 '
    "belongs to none",
    "written": 'docs/scheduling-rules.md "Words": a step writes only to blocks of the sequences that it computes',
    "held": 'docs/scheduling-rules.md "Prefill" and "Decode": every sequence uses ceil(tkv/64) blocks and reserves '
    "ceil((tkv at its prefill + max_tokens − 1)/64), both minus its blocks that are all padding",
    "batch": 'docs/scheduling-rules.md "Admission", 1: never more than max_num_seqs sequences run',
    "batch_tkv": 'docs/scheduling-rules.md "Admission", 5: batch size x tkv never exceeds max_batch_tkv_limit',
    "tkv": 'docs/scheduling-rules.md "One step", 3, "Prefill" and "Decode": whole blocks of padding that all '
    "sequences have are removed; a prompt that is longer than tkv makes tkv grow by whole blocks; a decode adds 1",
    "outputs": 'docs/scheduling-rules.md "Steps": only a running sequence gets a token, and only one token in a step',
    "running": 'docs/scheduling-rules.md "Steps": running is newest first',
    "queue": 'docs/scheduling-rules.md "One step", 1: strict first in, first out',
    "end": 'docs/scheduling-rules.md "One step", 4: every sequence finishes exactly once: with its last token, or '
    "when it fills the context",
    "abort": 'docs/scheduling-rules.md "Aborts": an aborted request leaves immediately and gets no further token',
    "idle": 'docs/scheduling-rules.md "Steps": when no request is left, no block is held and tkv is 0',
}


def _rows_to_check(steps: Sequence[StepRow], timings: Sequence[Request]) -> list[StepRow]:
    """Return the rows of the step table that have to be checked.

    A plain decode is a decode step in which no request joins, ends or takes a block. Of several consecutive plain
    decodes, only the first one has to be checked: padding may have to be removed before it, but not before the others.
    """
    events = {timing.join_step for timing in timings} | {timing.abort_step for timing in timings}
    plain = [False, *(decodes_on(before, after) and after.step not in events for before, after in pairwise(steps))]
    skipped = map(bool.__and__, plain, [False, *plain])
    return [step for step, skip in zip(steps, skipped, strict=True) if not skip]


def _each_step(steps: Sequence[StepRow], limits: SchedulingLimits) -> Iterator[Broken]:
    for step in steps:
        size, number = len(step.running), step.step
        if len(set(step.running)) != size:
            yield Broken(number, f"running lists a sequence twice: {listed(step.running)}", "outputs")
        if limits.max_num_seqs and size > limits.max_num_seqs:
            yield Broken(number, f"{size} sequences run, but max_num_seqs is {limits.max_num_seqs}", "batch")
        if step.used is not None and step.reserved is not None and step.used > step.reserved:
            yield Broken(number, f"{step.used} blocks are used, but only {step.reserved} are reserved", "blocks")
        if limits.available_blocks and (step.reserved or 0) > limits.available_blocks:
            what = f"{step.reserved} blocks are reserved, but only {limits.available_blocks} are available"
            yield Broken(number, what, "blocks")


def _batch_tkv(steps: Sequence[StepRow], limits: SchedulingLimits) -> Iterator[Broken]:
    """Check that batch size x tkv never exceeds ``max_batch_tkv_limit`` while more than one sequence runs.

    A sequence that ends in a step belongs to the batch of this step.
    """
    limit = limits.max_batch_tkv_limit
    if not limit:
        return
    for step in steps:
        size = max(len(step.running), len(step.outputs))
        if size * step.tkv_or_0 > limit and size > 1:
            yield Broken(
                step.step,
                f"batch size x tkv: {size} x {step.tkv_or_0} = {size * step.tkv_or_0} "
                f"exceeds max_batch_tkv_limit {limit}",
                "batch_tkv",
            )


def _nothing_is_left(last: StepRow) -> Iterator[Broken]:
    if last.tkv or last.waiting or last.running or last.reserved or last.used:
        what = (
            f"no request is left, but these must be 0 or none: tkv {last.tkv}; waiting {listed(last.waiting)}; "
            f"running {listed(last.running)}; reserved {last.reserved}; used {last.used}"
        )
        yield Broken(last.step, what, "idle")


def _every_request_ends_once(
    run: Run,
    steps: Sequence[StepRow],
    requests: Sequence[RequestSpec],
    timings: Sequence[Request],
    limits: SchedulingLimits,
) -> Iterator[Broken]:
    ends: dict[int, list[int]] = {request.request_id: [] for request in requests}
    for step in steps:
        for request_id in step.finished:
            ends[request_id].append(step.step)
    last = run.steps[-1].step
    for request, timing, tokens in zip(requests, timings, run.tokens, strict=True):
        number, found, count = request.request_id, ends[request.request_id], len(tokens)
        if len(found) > 1:
            yield Broken(found[1], f"request {number} finished more than once, at steps {listed(found)}", "end")
        if not found and timing.abort_step is None:
            yield Broken(last, f"request {number} never finished", "end")
        yield from length_broken(request, timing, count, limits.max_model_len, found[0] if found else None, last)
        if found and count < request.within(limits.max_model_len).min_tokens:
            what = f"request {number} finished with {count} tokens, but its min_tokens is {request.min_tokens}"
            yield Broken(found[0], what, "end")


def _aborted_ones_are_gone(steps: Sequence[StepRow], timings: Sequence[Request]) -> Iterator[Broken]:
    aborts = {i: timing.abort_step for i, timing in enumerate(timings) if timing.abort_step is not None}
    if not aborts:
        return
    for step in steps:
        still = sorted(i for i in (*step.waiting, *step.running) if i in aborts and aborts[i] <= step.step)
        if still:
            yield Broken(step.step, f"these requests were aborted and still wait or run: {listed(still)}", "abort")
        late = sorted(i for i in step.outputs if i in aborts and aborts[i] < step.step)
        if late:
            yield Broken(step.step, f"these requests got a token after they were aborted: {listed(late)}", "abort")


def _blocks_have_one_owner(steps: Sequence[StepRow]) -> Iterator[Broken]:
    """Check block tables, if the driver reports them.

    A block belongs to one sequence until that sequence ends. Block 0 belongs to no sequence. The block tables of all
    sequences together must have as many blocks as the column ``used`` says.
    """
    tables: dict[int, tuple[int, ...]] = {}
    seen = any(step.block_tables for step in steps)
    for step in steps:
        for request_id, table in zip(step.outputs, step.block_tables, strict=False):
            before = tables.get(request_id, ())
            if table[: len(before)] != before:
                what = f"the block table of request {request_id} was {listed(before)}, and is now {listed(table)}"
                yield Broken(step.step, what, "owner")
            tables[request_id] = table
        held, different = sum(map(len, tables.values())), set[int]().union(*tables.values())
        if len(different) != held or PADDING_BLOCK in different:
            yield from _wrongly_owned(step, tables)
        if seen and step.used is not None and step.used != held:
            yield Broken(step.step, f"{step.used} blocks are used, but the block tables have {held}", "owner")
        tables = {request_id: table for request_id, table in tables.items() if request_id in step.running}


def _wrongly_owned(step: StepRow, tables: Mapping[int, tuple[int, ...]]) -> Iterator[Broken]:
    owners: dict[int, int] = {}
    for request_id, table in tables.items():
        for block in table:
            if block == PADDING_BLOCK:
                yield Broken(step.step, f"request {request_id} holds the padding block", "owner")
            elif owners.setdefault(block, request_id) != request_id or table.count(block) > 1:
                what = f"block {block} belongs to request {owners[block]} and to request {request_id}"
                yield Broken(step.step, what, "owner")
