"""Check the invariants of the token-budget scheduler, properties that every step of every run has.

The checks need no expected step table. The number of computed tokens of a request is the sum of the tokens that were
found in the prefix cache and the tokens that were scheduled. Properties of values that the driver can't observe are not
checked.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken, as_verdict, ends_broken, listed, named
from harness.schedulers.token_budget.blocks_held import BlocksHeld, TokenIds
from harness.schedulers.token_budget.kinds import kind_of_row
from harness.schedulers.token_budget.rules import DOC
from harness.schedulers.writes import wrongly_written
from harness.suites.schema import Request
from harness.types import (
    RequestSpec,
    Run,
    SchedulingLimits,
    StepRow,
    TokenBudgetSetup,
    Verdict,
    blocks_for,
)

RULES = {
    "kind": f'{DOC} "One step": a part is a decode if its request ran before the step and the part computes its newest '
    "token; other parts are prefill",
    "budget": f'{DOC} "TB-BUDGET" and "TB-THRESHOLD": a step never has more tokens than max_num_batched_tokens, and '
    "one request never more than long_prefill_token_threshold",
    "places": f'{DOC} "TB-ADMIT": never more than max_num_seqs requests run',
    "order": f'{DOC} "TB-RUNNING" and "TB-ADMIT": running requests are scheduled in the order in which they joined, '
    "then requests from the head of the queue",
    "queue": f'{DOC} "TB-ADMIT": requests wait in order of arrival, behind preempted requests',
    "victim": f'{DOC} "TB-PREEMPT": the last running request is preempted, and no request starts in that step',
    "lost": f'{DOC} "TB-PREEMPT" and "TB-TOKEN": a preempted request keeps its tokens, and a request gets its next '
    "token when all its tokens are computed",
    "hits": f'{DOC} "TB-HIT": a prefix cache hit has whole blocks, not the last token, and occurs at admission',
    "content": f'{DOC} "TB-REGISTER": the key of a cached block is all tokens up to its end, until reallocation',
    "written": f'{DOC} "TB-HIT" and "TB-FREE": a block that another request holds is never allocated or written to',
    "held": f'{DOC} "TB-RUNNING": a request holds ceil(computed tokens/block_size) blocks, in order, and never block 0',
    "conserved": f'{DOC} "TB-FREE": every block is in use or free; used is the number of blocks of running requests',
    "end": f'{DOC} "TB-END": every request finishes exactly once: with its last token, or when it fills the context',
    "abort": f'{DOC} "TB-ABORT": an aborted request leaves immediately and gets no further token',
    "idle": f'{DOC} "TB-END": when no request is left, no block is held',
}


def check_invariants(
    run: Run,
    requests: Sequence[RequestSpec],
    timings: Sequence[Request],
    limits: SchedulingLimits,
    options: TokenBudgetSetup,
) -> Verdict:
    """Check all invariants after each step of a run. Invariants about a limit that is None are not checked."""
    if run.unfinished is not None:
        return Verdict(False, f"invariants: {run.unfinished}", rule=RULES["end"])
    watch = _Watch(run, requests, timings, limits, options)
    broken = [found for step in run.steps for found in watch.see(step)]
    broken += [*watch.left(run.steps[-1]), *ends_broken(run, requests, timings, limits.max_model_len)]
    broken += wrongly_written(run, requests, caching=options.enable_prefix_caching, block_size=options.block_size)
    return as_verdict(broken, RULES, len(run.steps))


@dataclass
class _Watch:
    """The observed state of all requests, which is updated step by step while the invariants are checked.

    By request number, ``got`` has the number of tokens that the request has generated, and ``computed`` the number of
    its tokens that are in the KV cache.
    """

    run: Run
    requests: Sequence[RequestSpec]
    timings: Sequence[Request]
    limits: SchedulingLimits
    options: TokenBudgetSetup
    got: Counter[int] = field(default_factory=Counter)
    computed: dict[int, int] = field(default_factory=dict)
    before: StepRow = field(default_factory=lambda: StepRow(-1, None, (), (), (), ()))

    def __post_init__(self) -> None:
        self.blocks = BlocksHeld(self._token_ids, self.limits.available_blocks, self.options.block_size)
        self.by_id = any(step.block_tables for step in self.run.steps)

    def see(self, step: StepRow) -> Iterator[Broken]:
        """Yield the violations of invariants in ``step``, the next row of the step table, and update the state."""
        admitted = self._admitted(step)
        if step.step:
            yield from self._tokens(step)
            yield from self._order(step, admitted)
            yield from self._preempted(step, admitted)
            yield from self._hits(step, admitted)
            yield from self._computed(step)
            yield from self._kind(step)
        yield from self._queue(step, admitted)
        yield from self._aborted(step)
        yield from self._used(step)
        self.before = step

    def left(self, last: StepRow) -> Iterator[Broken]:
        """Yield a violation if ``last``, the row after all requests have ended, still has requests or used blocks."""
        if last.waiting or last.running or last.used:
            what = f"waiting {listed(last.waiting)}; running {listed(last.running)}; used {last.used}"
            yield Broken(last.step, f"no request is left, but these must be 0 or none: {what}", "idle")

    def _admitted(self, step: StepRow) -> tuple[int, ...]:
        return tuple(request for request, _ in step.scheduled or () if request not in self.before.running)

    def _length(self, request: int) -> int:
        return len(self.requests[request].prompt_token_ids) + self.got[request]

    def _token_ids(self, request: int, end: int) -> TokenIds:
        # If no model runs, the generated tokens are the simulated tokens of the case.
        spec = self.requests[request]
        generated = spec.simulated_token_ids or (token.token_id for token in self.run.tokens[request])
        return (*spec.prompt_token_ids, *generated)[:end]

    def _gone(self, step: StepRow) -> set[int]:
        """Return the numbers of the requests that were aborted at or before ``step``."""
        return {i for i, t in enumerate(self.timings) if t.abort_step is not None and t.abort_step <= step.step}

    def _kind(self, step: StepRow) -> Iterator[Broken]:
        due = kind_of_row(step, self.before)
        if step.kind and step.kind != due:
            yield Broken(step.step, f"the engine reports a step of kind {step.kind}, expected {due}", "kind")

    def _tokens(self, step: StepRow) -> Iterator[Broken]:
        number, options = step.step, self.options
        total, budget = sum(tokens for _, tokens in step.scheduled or ()), options.max_num_batched_tokens
        if total > budget:
            yield Broken(number, f"{total} tokens are scheduled, but max_num_batched_tokens is {budget}", "budget")
        threshold = options.long_prefill_token_threshold
        alone = len(self.before.running) + len(self.before.waiting) <= 1 and options.rules == "0.32"
        for request, tokens in step.scheduled or ():
            if tokens < 1 or (threshold and not alone and tokens > threshold):
                bound = f"long_prefill_token_threshold is {threshold}" if threshold else "it must be at least 1"
                what = f"{tokens} tokens of request {request} are scheduled, but {bound}"
                yield Broken(number, what, "budget")
        places = self.limits.max_num_seqs
        size = max(len(step.running), len(step.scheduled or ()))
        if places and size > places:
            yield Broken(number, f"{size} requests run, but max_num_seqs is {places}", "places")

    def _order(self, step: StepRow, admitted: Sequence[int]) -> Iterator[Broken]:
        ids = [request for request, _ in step.scheduled or ()]
        if len(set(ids)) != len(ids):
            yield Broken(step.step, f"a request is scheduled twice in one step: {listed(ids)}", "order")
        went_on = [request for request in self.before.running if request in ids]
        if ids != [*went_on, *self.before.waiting[: len(admitted)]]:
            ran, waited = listed(self.before.running), listed(self.before.waiting)
            what = f"the step scheduled {listed(ids)}, but the running requests were {ran} and the queue was {waited}"
            yield Broken(step.step, what, "order")
        leaves = {*step.finished, *(step.preempted or ()), *self._gone(step)}
        due = tuple(request for request in (*self.before.running, *admitted) if request not in leaves)
        if step.running != due:
            what = f"the running requests are {listed(step.running)}, but must be {listed(due)} (in order of joining)"
            yield Broken(step.step, what, "order")

    def _preempted(self, step: StepRow, admitted: Sequence[int]) -> Iterator[Broken]:
        preempted = step.preempted or ()
        last = tuple(reversed(self.before.running))[: len(preempted)]
        if preempted != last:
            what = f"the step preempted {listed(preempted)}, but must preempt the last of the running requests, "
            what += f"which were {listed(self.before.running)}"
            yield Broken(step.step, what, "victim")
        if preempted and admitted:
            what = f"requests were preempted ({listed(preempted)}) and others started ({listed(admitted)}) in one step"
            yield Broken(step.step, what, "victim")
        self.blocks.lose(preempted)
        self.computed |= dict.fromkeys(preempted, 0)

    def _hits(self, step: StepRow, admitted: Sequence[int]) -> Iterator[Broken]:
        for request, tokens in step.hits or ():
            allowed = self.options.enable_prefix_caching and request in admitted
            if not allowed or tokens < 1 or tokens % self.options.block_size or tokens >= self._length(request):
                what = f"{tokens} of the {self._length(request)} tokens of request {request} are a prefix cache hit"
                yield Broken(step.step, what, "hits")
        self.computed |= dict.fromkeys(admitted, 0)
        self.computed |= dict(step.hits or ())

    def _computed(self, step: StepRow) -> Iterator[Broken]:
        """Check the number of computed tokens of each scheduled request, and which requests get a token and finish.

        A request can't have more computed tokens than it has tokens. Exactly the scheduled requests whose tokens are
        all computed must get a token. Only requests that get a token may finish.
        """
        caught_up = []
        for request, tokens in step.scheduled or ():
            self.computed[request] = self.computed.get(request, 0) + tokens
            done, length = self.computed[request], self._length(request)
            if done > length:
                what = f"{done} tokens of request {request} are computed, but it has only {length} tokens"
                yield Broken(step.step, what, "lost")
            elif done == length:
                caught_up.append(request)
        if step.outputs != tuple(caught_up):
            what = f"{named(step.outputs)} got a token, but all tokens are computed only of {named(caught_up)}"
            yield Broken(step.step, what, "lost")
        if not set(step.finished) <= set(step.outputs):
            what = f"{named(step.finished)} finished, but {named(step.outputs)} got a token"
            yield Broken(step.step, what, "end")
        if self.by_id:
            yield from self.blocks.see(step, self.computed)
        for request in step.outputs:
            self.got[request] += 1

    def _queue(self, step: StepRow, admitted: Sequence[int]) -> Iterator[Broken]:
        joined = tuple(i for i, t in enumerate(self.timings) if t.join_step == step.step)
        again = tuple(reversed(step.preempted or ()))
        gone = self._gone(step)
        due = tuple(
            r for r in (*again, *self.before.waiting, *joined) if r not in gone and (r not in admitted or r in again)
        )
        if step.waiting != due:
            what = f"the queue is {listed(step.waiting)}, but must be {listed(due)} (preempted first, then by arrival)"
            yield Broken(step.step, what, "queue")

    def _aborted(self, step: StepRow) -> Iterator[Broken]:
        gone = self._gone(step)
        still = sorted(gone & {*step.running, *step.waiting})
        if still:
            yield Broken(step.step, f"these requests were aborted but still run or wait: {listed(still)}", "abort")
        for request, _ in step.scheduled or ():
            abort = self.timings[request].abort_step
            if abort is not None and abort < step.step:
                yield Broken(step.step, f"request {request} was scheduled after it was aborted", "abort")
        self.blocks.lose([*step.finished, *gone])

    def _used(self, step: StepRow) -> Iterator[Broken]:
        if step.used is None:
            return
        available = self.limits.available_blocks
        if available and step.used > available:
            yield Broken(step.step, f"{step.used} blocks are used, but only {available} exist", "conserved")
        if self.by_id:
            yield from self.blocks.conserved(step)
            return
        size = self.options.block_size
        held = [blocks_for(self.computed.get(request, 0), size) for request in step.running]
        largest, total = max(held, default=0), sum(held)
        if not (largest if self.options.enable_prefix_caching else total) <= step.used <= total:
            what = f"{step.used} blocks are used, but the computed tokens of the running requests need {listed(held)}"
            yield Broken(step.step, what, "conserved")
