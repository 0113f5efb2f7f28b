"""Check the invariants of the continuous scheduler about the change from each row of a step table to the next row.

Between rows, the checks store only the left padding and the reserved blocks of each running sequence. The number of
tokens of a sequence follows from the padding, because a decode adds 1 to tkv and to the number of tokens of every
sequence. Padding changes by whole blocks, so a sequence holds ceil(tkv/64) − padding // 64 blocks.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken, listed, named
from harness.suites.schema import Request
from harness.types import BLOCK_SIZE, RequestSpec, StepRow, blocks_for


def each_move(
    steps: Sequence[StepRow], checked: Sequence[StepRow], requests: Sequence[RequestSpec], timings: Sequence[Request]
) -> Iterator[Broken]:
    """Yield the violations in the changes from one row of the step table ``steps`` to the next.

    Only the changes to the rows ``checked`` are checked.
    """
    events = _Events.of(timings)
    ledger = _Ledger(requests)
    for step in checked:
        before = steps[step.step - 1] if step.step else None
        gone = events.aborts.get(step.step, frozenset())
        came = events.joins.get(step.step, ())
        if before is None:
            if step.waiting != (wanted := tuple(i for i in came if i not in gone)):
                what = f"the queue is {listed(step.waiting)}, but the requests that joined are {listed(wanted)}"
                yield Broken(step.step, what, "queue")
            continue
        yield from _queue(before, step, came, gone)
        yield from _check_running(before, step, gone)
        if step.kind == "idle":
            yield from _idle(before, step)
            yield from _empty(step) if step is not steps[-1] else ()
        else:
            yield from ledger.account(before, step)


@dataclass(frozen=True)
class _Events:
    """The requests that join at each step, and the requests that are aborted at each step."""

    joins: Mapping[int, Sequence[int]]
    aborts: Mapping[int, frozenset[int]]

    @classmethod
    def of(cls, timings: Sequence[Request]) -> "_Events":
        joins: defaultdict[int, list[int]] = defaultdict(list)
        aborts: defaultdict[int, set[int]] = defaultdict(set)
        for number, timing in enumerate(timings):
            joins[timing.join_step].append(number)
            if timing.abort_step is not None:
                aborts[timing.abort_step].add(number)
        return cls(joins, {step: frozenset(numbers) for step, numbers in aborts.items()})


def _queue(before: StepRow, after: StepRow, came: Sequence[int], gone: frozenset[int]) -> Iterator[Broken]:
    """Check that only the head of the queue is prefilled, and that new requests join the queue at its end.

    ``before`` and ``after`` are two consecutive rows of the step table. ``came`` are the requests that join at the step
    of ``after``, and ``gone`` the requests that are aborted at this step.
    """
    waiting = before.waiting
    if after.kind == "prefill" and after.outputs:
        new = after.outputs[0]
        if waiting[:1] != (new,):
            what = f"request {new} was prefilled, but the queue was {listed(waiting)}"
            yield Broken(after.step, what, "queue")
        waiting = waiting[1:] if waiting[:1] == (new,) else tuple(i for i in waiting if i != new)
    if came or gone:
        waiting = tuple(i for i in (*waiting, *came) if i not in gone)
    # Another invariant reports aborted requests that are still waiting.
    still = tuple(i for i in after.waiting if i not in gone) if gone else after.waiting
    if still != waiting:
        what = f"the queue is {listed(after.waiting)}, but must be {listed(waiting)} (in order of arrival)"
        yield Broken(after.step, what, "queue")


def _check_running(before: StepRow, after: StepRow, gone: frozenset[int]) -> Iterator[Broken]:
    """Check which sequences get a token, and that ``running`` is newest first, without sequences that have ended."""
    running = before.running
    if after.kind == "prefill":
        if len(after.outputs) != 1:
            what = f"a prefill gives a token to exactly one request, but {named(after.outputs)} got one"
            yield Broken(after.step, what, "outputs")
        running = (*after.outputs[:1], *running)
    elif after.outputs != (running if after.kind == "decode" else ()):
        yield Broken(after.step, f"{named(running)} ran, but {named(after.outputs)} got a token", "outputs")
    if not set(after.finished) <= set(after.outputs):
        what = f"{named(after.finished)} finished, but {named(after.outputs)} got a token"
        yield Broken(after.step, what, "outputs")
    left = set(running) - set(after.running)
    if left - gone != set(after.finished) - gone:
        what = f"{named(sorted(left))} stopped running, but {named(sorted(after.finished))} finished"
        yield Broken(after.step, what, "end")
    elif after.running != (stay := tuple(i for i in running if i not in left)):
        what = f"the running requests are {listed(after.running)}, but must be {listed(stay)} (newest first)"
        yield Broken(after.step, what, "running")


def _idle(before: StepRow, after: StepRow) -> Iterator[Broken]:
    if before.running or before.waiting:
        what = f"no request ran, although running was {listed(before.running)} and waiting was {listed(before.waiting)}"
        yield Broken(after.step, what, "queue")


def _empty(step: StepRow) -> Iterator[Broken]:
    if step.tkv or step.reserved or step.used:
        what = f"no request runs, but tkv is {step.tkv}, {step.reserved} blocks are reserved, and {step.used} are used"
        yield Broken(step.step, what, "idle")


@dataclass
class _Ledger:
    """The left padding, in tokens, and the reserved blocks of each running sequence, updated step by step."""

    requests: Sequence[RequestSpec]
    padding: dict[int, int] = field(default_factory=dict)
    reserved: dict[int, int] = field(default_factory=dict)

    def account(self, before: StepRow, after: StepRow) -> Iterator[Broken]:
        """Check tkv and the numbers of used and reserved blocks after a prefill or a decode."""
        running = [i for i in before.running if i in self.padding]
        shared = min((self.padding[i] for i in running), default=0) // BLOCK_SIZE * BLOCK_SIZE
        tkv = before.tkv_or_0 - shared if running else 0
        new = after.outputs[0] if after.kind == "prefill" and after.outputs else None
        length = len(self.requests[new].prompt_token_ids) if new is not None else 0
        wanted = tkv + blocks_for(max(0, length - tkv)) * BLOCK_SIZE if new is not None else tkv + 1
        if after.tkv != wanted:
            removed = f", after removing {shared} tokens of shared padding" if shared else ""
            what = f"a {after.kind} changed tkv from {before.tkv} to {after.tkv}, expected {wanted}{removed}"
            yield Broken(after.step, what, "tkv")
        moved = after.tkv_or_0 - before.tkv_or_0 - (after.kind == "decode")
        self.padding = {i: self.padding[i] + moved for i in running}
        self.reserved = {i: self.reserved[i] for i in running}
        if new is not None:
            self.padding[new] = after.tkv_or_0 - length
            budget = self.requests[new].max_tokens
            self.reserved[new] = blocks_for(after.tkv_or_0 + budget - 1) - self.padding[new] // BLOCK_SIZE
        used = sum(blocks_for(after.tkv_or_0) - padding // BLOCK_SIZE for padding in self.padding.values())
        reserved = sum(self.reserved.values())
        if after.used is not None and after.used != used:
            yield Broken(after.step, f"{after.used} blocks are used, but the sequences need {used}", "held")
        if after.reserved is not None and after.reserved != reserved:
            what = f"{after.reserved} blocks are reserved, but the sequences need {reserved} to run to max_tokens"
            yield Broken(after.step, what, "held")
