"""What must hold after every step of every workload, whatever the engine, as far as its driver can see.

Expected tables say what one workload does; invariants say what no workload may ever do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.checks.verdict import Verdict
from harness.drivers.base import RequestSpec, SchedulingLimits
from harness.schema import Request
from harness.workload import Run, Step

BLOCK_SIZE = 64
PADDING_BLOCK = 0


@dataclass(frozen=True)
class Broken:
    """An invariant that does not hold after a step."""

    step: int
    what: str
    rule: str


def check_invariants(
    run: Run, requests: Sequence[RequestSpec], timings: Sequence[Request], limits: SchedulingLimits
) -> Verdict:
    """All invariants over all steps of a run of the first generation (one tkv for the batch).

    ``limits`` are the ones the engine was held to; what is None there is not known, and not checked.
    """
    if run.unfinished is not None:
        return Verdict(False, f"invariants: {run.unfinished}", rule=_RULES["end"])
    broken = sorted(
        [
            *_each_step(run.steps, limits),
            *_each_move(run.steps, timings),
            *_first_in_first_out(run.steps, timings),
            *_every_request_ends_once(run, requests, timings),
            *_aborted_ones_are_gone(run.steps, timings),
            *_blocks_have_one_owner(run.steps),
        ],
        key=lambda found: found.step,
    )
    if not broken:
        return Verdict(True, f"invariants hold after each of {len(run.steps)} observations")
    details = tuple(f"step {found.step}: {found.what}" for found in broken[:8]) if len(broken) > 1 else ()
    more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
    return Verdict(False, f"invariant broken at step {broken[0].step}: {broken[0].what}{more}", details, broken[0].rule)


_RULES = {
    "blocks": 'docs/scheduling-rules.md "Words": used ≤ reserved ≤ available blocks',
    "owner": 'docs/scheduling-rules.md "Words": a block belongs to one sequence until it ends; block 0 to nobody',
    "batch": 'docs/scheduling-rules.md "Admission", 1: never more than max_num_seqs sequences run',
    "volume": 'docs/scheduling-rules.md "Admission", 5: batch size x tkv never exceeds max_batch_tkv_limit',
    "tkv": 'docs/scheduling-rules.md "Prefill" and "Decode": tkv moves by whole blocks, and by 1 in a decode',
    "outputs": 'docs/scheduling-rules.md "Steps": only a running sequence gets a token, one a step',
    "queue": 'docs/scheduling-rules.md "One step", 2: strict first in, first out',
    "end": 'docs/scheduling-rules.md "One step", 4: every sequence ends exactly once, with its tokens',
    "abort": 'docs/scheduling-rules.md "Aborts": an aborted request leaves at once and gets no further token',
    "idle": 'docs/scheduling-rules.md "Steps": nothing is held and tkv is 0 when nothing is left to do',
}


def _each_step(steps: Sequence[Step], limits: SchedulingLimits) -> Iterator[Broken]:
    for step in steps:
        size, number = len(step.running), step.step
        if len(set(step.running)) != size or set(step.running) & set(step.waiting):
            yield Broken(
                number, f"running {step.running} and waiting {step.waiting} share a request", _RULES["outputs"]
            )
        if limits.max_num_seqs and size > limits.max_num_seqs:
            yield Broken(number, f"{size} sequences run, max_num_seqs is {limits.max_num_seqs}", _RULES["batch"])
        batch = max(size, len(step.outputs))
        if limits.max_batch_tkv_limit and batch > 1 and batch * step.tkv > limits.max_batch_tkv_limit:
            product = f"{batch} x {step.tkv} = {batch * step.tkv}"
            yield Broken(number, f"{product} exceeds the volume {limits.max_batch_tkv_limit}", _RULES["volume"])
        if step.used is not None and step.reserved is not None and step.used > step.reserved:
            yield Broken(number, f"{step.used} blocks used, {step.reserved} reserved", _RULES["blocks"])
        if limits.available_blocks and (step.reserved or 0) > limits.available_blocks:
            yield Broken(number, f"{step.reserved} reserved, {limits.available_blocks} available", _RULES["blocks"])
        if step.running and step.used is not None and step.used < size:
            yield Broken(number, f"{size} sequences run on {step.used} blocks", _RULES["blocks"])
    last = steps[-1]
    if last.tkv or last.waiting or last.running or last.reserved or last.used:
        what = (
            f"left behind: tkv {last.tkv}, waiting {last.waiting}, running {last.running}, "
            f"reserved {last.reserved}, used {last.used}"
        )
        yield Broken(last.step, what, _RULES["idle"])


def _each_move(steps: Sequence[Step], timings: Sequence[Request]) -> Iterator[Broken]:
    """From one observation to the next: what a prefill, a decode and an empty step may change."""
    for before, after in pairwise(steps):
        moved = after.tkv - before.tkv
        if after.kind == "prefill" and before.running and moved % BLOCK_SIZE:
            yield Broken(after.step, f"a prefill moved tkv from {before.tkv} to {after.tkv}", _RULES["tkv"])
        elif after.kind == "prefill" and not before.running and after.tkv % BLOCK_SIZE:
            yield Broken(after.step, f"a new batch starts at tkv {after.tkv}", _RULES["tkv"])
        elif after.kind == "decode" and ((moved - 1) % BLOCK_SIZE or moved > 1):
            yield Broken(after.step, f"a decode moved tkv from {before.tkv} to {after.tkv}", _RULES["tkv"])
        elif after.kind == "idle" and after.tkv:
            yield Broken(after.step, f"nothing runs at tkv {after.tkv}", _RULES["idle"])
        if after.kind == "prefill" and len(after.outputs) != 1:
            yield Broken(after.step, f"a prefill gave tokens to {after.outputs}", _RULES["outputs"])
        if after.kind == "decode" and after.outputs != before.running:
            what = f"{before.running} ran, tokens went to {after.outputs}"
            yield Broken(after.step, what, _RULES["outputs"])
        if not set(after.finished) <= set(after.outputs):
            what = f"{after.finished} finished, tokens went to {after.outputs}"
            yield Broken(after.step, what, _RULES["outputs"])
        aborted = {i for i, timing in enumerate(timings) if timing.abort_step == after.step}
        gone = (set(before.running) | set(after.outputs)) - set(after.running)
        if gone != set(after.finished) | (aborted & gone):
            what = f"{sorted(gone)} left, {sorted(after.finished)} finished"
            yield Broken(after.step, what, _RULES["end"])


def _first_in_first_out(steps: Sequence[Step], timings: Sequence[Request]) -> Iterator[Broken]:
    """Requests are numbered as they come, so prefills must come in rising order; an abort makes a gap, no swap."""
    latest = -1
    for step in steps:
        if list(step.waiting) != sorted(step.waiting):
            yield Broken(step.step, f"waiting {step.waiting} is not in order of arrival", _RULES["queue"])
        if step.kind == "prefill" and step.outputs:
            if step.outputs[0] < latest:
                yield Broken(step.step, f"{step.outputs[0]} was prefilled after {latest}", _RULES["queue"])
            latest = max(latest, step.outputs[0])
        late = [i for i in step.waiting if timings[i].join_step > step.step]
        if late:
            yield Broken(step.step, f"{late} wait before they came", _RULES["queue"])


def _every_request_ends_once(run: Run, requests: Sequence[RequestSpec], timings: Sequence[Request]) -> Iterator[Broken]:
    ends: dict[int, list[int]] = {request.request_id: [] for request in requests}
    for step in run.steps:
        for request_id in step.finished:
            ends[request_id].append(step.step)
    last = run.steps[-1].step
    for request, timing, tokens in zip(requests, timings, run.tokens, strict=True):
        number, found = request.request_id, ends[request.request_id]
        if len(found) > 1:
            yield Broken(found[1], f"request {number} finished twice, at steps {found}", _RULES["end"])
        if not found and timing.abort_step is None:
            yield Broken(last, f"request {number} never finished", _RULES["end"])
        if len(tokens) > request.max_tokens:
            what = f"request {number} got {len(tokens)} tokens, max_tokens is {request.max_tokens}"
            yield Broken(last, what, _RULES["end"])
        if found and timing.runs_to_max_tokens and len(tokens) != request.max_tokens:
            what = f"request {number} finished with {len(tokens)} of {request.max_tokens} tokens"
            yield Broken(found[0], what, _RULES["end"])


def _aborted_ones_are_gone(steps: Sequence[Step], timings: Sequence[Request]) -> Iterator[Broken]:
    aborts = {i: timing.abort_step for i, timing in enumerate(timings) if timing.abort_step is not None}
    for step in steps:
        still = sorted(i for i in (*step.waiting, *step.running) if i in aborts and aborts[i] <= step.step)
        if still:
            yield Broken(step.step, f"{still} were aborted and still wait or run", _RULES["abort"])
        late = sorted(i for i in step.outputs if i in aborts and aborts[i] < step.step)
        if late:
            yield Broken(step.step, f"{late} got a token after they were aborted", _RULES["abort"])


def _blocks_have_one_owner(steps: Sequence[Step]) -> Iterator[Broken]:
    """Where blocks can be seen by id: each has one owner, who keeps it, and block 0 has none."""
    tables: dict[int, tuple[int, ...]] = {}
    for step in steps:
        for request_id, table in zip(step.outputs, step.block_tables, strict=False):
            before = tables.get(request_id, ())
            if table[: len(before)] != before:
                yield Broken(step.step, f"{request_id} held {before}, now {table}", _RULES["owner"])
            tables[request_id] = table
        owners: dict[int, int] = {}
        for request_id, table in tables.items():
            for block in table:
                if block == PADDING_BLOCK:
                    yield Broken(step.step, f"{request_id} holds the padding block", _RULES["owner"])
                elif owners.setdefault(block, request_id) != request_id or table.count(block) > 1:
                    what = f"block {block} belongs to {owners[block]} and to {request_id}"
                    yield Broken(step.step, what, _RULES["owner"])
        tables = {request_id: table for request_id, table in tables.items() if request_id in step.running}
