"""Check the invariants of the chunked scheduler, properties that every step of every run has.

The checks need no expected step table. The number of tokens that a request must have in the KV cache follows from the
number of tokens that it has generated. The blocks that two requests may share follow from their token ids. Properties
of values that the driver can't observe are not checked.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken, as_verdict, ends_broken, listed, named
from harness.schedulers.chunked.rules import DOC
from harness.schedulers.writes import wrongly_written
from harness.suites.schema import Request
from harness.types import (
    BLOCK_SIZE,
    ChunkingSetup,
    RequestSpec,
    Run,
    SchedulingLimits,
    StepRow,
    Verdict,
    blocks_for,
    ceil_div,
)

RULES = {
    "blocks": f'{DOC} "Reservation": used + reserved ≤ available blocks, so that no running request lacks one',
    "owner": f'{DOC} "Prefix caching": requests share a block only if their tokens are equal up to its end',
    "written": f'{DOC} "Prefix caching": a step never writes to a block that can be found',
    "held": f'{DOC} "Decode" and "Chunks": a decoding request holds exactly the blocks for its tokens, in order',
    "batch": f'{DOC} "May prefill": never more than max_num_seqs requests run',
    "batch_tkv": f'{DOC} "Pausing": batch size × tkv of a decode never exceeds max_batch_tkv_limit',
    "tkv": f'{DOC} "Chunks" and "Decode": tkv of a prefill is the length of the prompt; tkv of a decode is the largest '
    "number of tokens of a request, with the whole blocks of padding that align all requests to the same block",
    "outputs": f'{DOC} "Decode": a decode gives a token to each running request that is not in prefill, in this order',
    "pausing": f'{DOC} "Pausing": a paused request neither runs nor waits, and no request is prefilled while one is '
    "paused",
    "interleave": f'{DOC} "May prefill": with interleaving, no chunk runs right after another while any request '
    "decodes",
    "queue": f'{DOC} "Waiting requests": first in, first out, and never two prefills at the same time',
    "chunks": f'{DOC} "Chunks" and "Prefix caching": every chunk of a prompt runs once, except entirely cached ones',
    "end": f'{DOC} "Steps": every request finishes exactly once: with its last token, or when it fills the context',
    "abort": f'{DOC} "Aborts": an aborted request leaves immediately and gets no further token',
    "idle": f'{DOC} "Steps": when no request is left, no block is held and tkv is 0',
}


def check_invariants(
    run: Run,
    requests: Sequence[RequestSpec],
    timings: Sequence[Request],
    limits: SchedulingLimits,
    chunking: ChunkingSetup,
) -> Verdict:
    """Check all invariants after each step of a run. Invariants about a limit that is None are not checked."""
    if run.unfinished is not None:
        return Verdict(False, f"invariants: {run.unfinished}", rule=RULES["end"])
    watch = _Watch(requests, timings, limits, chunking)
    broken = [found for step in run.steps for found in watch.see(step)]
    broken += [*watch.left(run.steps[-1]), *ends_broken(run, requests, timings, limits.max_model_len)]
    broken += wrongly_written(run, requests, caching=chunking.enable_prefix_caching)
    return as_verdict(broken, RULES, len(run.steps))


@dataclass
class _Watch:
    """The observed state of all requests, which is updated step by step while the invariants are checked.

    By request number, ``got`` has the number of tokens that the request has generated, ``chunks`` the number of its
    chunks that have run, and ``tables`` its block table. ``queue`` are the waiting requests. ``before`` is the row of
    the previous step, and ``after_chunk`` is whether the previous step ran a chunk. ``prefilled`` is the request whose
    chunk ran last, None before the first chunk.
    """

    requests: Sequence[RequestSpec]
    timings: Sequence[Request]
    limits: SchedulingLimits
    chunking: ChunkingSetup
    got: Counter[int] = field(default_factory=Counter)
    chunks: Counter[int] = field(default_factory=Counter)
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    queue: tuple[int, ...] = ()
    before: StepRow | None = None
    after_chunk: bool = False
    prefilled: int | None = None

    def see(self, step: StepRow) -> Iterator[Broken]:
        """Yield the violations of invariants in ``step``, the next row of the step table, and update the state."""
        yield from self._always(step)
        if step.kind == "prefill":
            yield from self._prefill(step)
        elif step.kind == "decode":
            yield from self._decode(step)
        elif step.kind == "idle" and (step.tkv or step.outputs):
            yield Broken(
                step.step, f"no request ran, but tkv is {step.tkv}, and {named(step.outputs)} got a token", "idle"
            )
        for request in step.outputs:
            self.got[request] += 1
        yield from self._tables(step)
        yield from self._events(step)
        self.after_chunk = step.kind == "prefill"
        self.before = step

    def left(self, last: StepRow) -> Iterator[Broken]:
        """Yield a violation if tkv is not 0 in ``last``, or if ``last`` still has requests or blocks.

        ``last`` is the row after all requests have ended.
        """
        held = (last.tkv, last.waiting, last.running, last.paused or (), last.reserved or 0, last.used or 0)
        if any(held):
            names = "tkv", "waiting", "running", "paused", "reserved", "used"
            left = ((name, value) for name, value in zip(names, held, strict=True) if value)
            what = "; ".join(f"{name} {listed(value) if isinstance(value, tuple) else value}" for name, value in left)
            yield Broken(last.step, f"no request is left, but these must be 0 or none: {what}", "idle")

    def _gone(self, step: StepRow) -> set[int]:
        """Return the numbers of the requests that were aborted at or before ``step``."""
        return {i for i, t in enumerate(self.timings) if t.abort_step is not None and t.abort_step <= step.step}

    def _always(self, step: StepRow) -> Iterator[Broken]:
        paused, number, limits = step.paused or (), step.step, self.limits
        requests = [*step.running, *paused, *step.waiting]
        if len(set(requests)) != len(requests):
            states = f"running {listed(step.running)}; paused {listed(paused)}; waiting {listed(step.waiting)}"
            yield Broken(number, f"a request occurs twice in these lists: {states}", "pausing")
        if limits.max_num_seqs and len(step.running) > limits.max_num_seqs:
            what = f"{len(step.running)} requests run, but max_num_seqs is {limits.max_num_seqs}"
            yield Broken(number, what, "batch")
        if limits.available_blocks and (step.used or 0) + (step.reserved or 0) > limits.available_blocks:
            what = f"{step.used} blocks are used and {step.reserved} reserved, but {limits.available_blocks} exist"
            yield Broken(number, what, "blocks")
        for request, blocks in step.hits or ():
            if blocks and not self.chunking.enable_prefix_caching:
                yield Broken(
                    number, f"request {request} has {blocks} cached blocks, but prefix caching is off", "owner"
                )

    def _prefill(self, step: StepRow) -> Iterator[Broken]:
        number, before = step.step, self.before
        assert before is not None
        under_way = [request for request in before.running if not self.got[request]]
        new = next(iter((*step.outputs, *under_way, *before.waiting)), None)
        if new is None or len(step.outputs) > 1:
            what = (
                f"a prefill runs one request, but {named(step.outputs)} got a token and {named(before.waiting)} waited"
            )
            yield Broken(number, what, "outputs")
            return
        self.chunks[new] += 1
        self.prefilled = new
        if new not in step.finished and new not in self._gone(step) and step.running[:1] != (new,):
            what = f"a chunk of request {new} ran, so running must begin with {new}, but is {listed(step.running)}"
            yield Broken(number, what, "outputs")
        if step.tkv not in (None, len(self.requests[new].prompt_token_ids)):
            length = len(self.requests[new].prompt_token_ids)
            what = f"tkv is {step.tkv} in the prefill of request {new}, but must be the length of its prompt, {length}"
            yield Broken(number, what, "tkv")
        decoding = [request for request in before.running if self.got[request]]
        others = [request for request in under_way if request != new]
        if others:
            yield Broken(number, f"request {new} is prefilled before the prefill of {named(others)} has ended", "queue")
        if before.paused and before.running:
            what = f"request {new} is prefilled while requests are paused: {listed(before.paused)}"
            yield Broken(number, what, "pausing")
        if self.chunking.interleave and self.after_chunk and decoding:
            what = f"a chunk of request {new} ran right after another chunk while requests decode: {listed(decoding)}"
            yield Broken(number, what, "interleave")
        if new not in before.running and (before.waiting[:1] != (new,)):
            what = f"request {new} was prefilled, but the queue was {listed(before.waiting)}"
            yield Broken(number, what, "queue")
        if step.outputs and self.got[new]:
            yield Broken(number, f"the prefill of request {new} gave it a second token", "outputs")
        elif step.outputs:
            yield from self._all_chunks(step, new)

    def _all_chunks(self, step: StepRow, new: int) -> Iterator[Broken]:
        size, length = self.chunking.chunk_size, len(self.requests[new].prompt_token_ids)
        count = ceil_div(length, size)
        padding = count * size - blocks_for(length) * BLOCK_SIZE
        usable = dict(step.hits or ()).get(new, 0) * BLOCK_SIZE
        skipped = (padding + usable) // size if usable else 0
        if new in step.finished or new in self._gone(step) or step.hits is None:
            # Prefix cache hits, which are not known here, can skip all chunks but the last one.
            if not 1 <= self.chunks[new] <= count:
                what = f"the prefill of request {new} took {self.chunks[new]} steps, but its prompt has {count} chunks"
                yield Broken(step.step, what, "chunks")
        elif self.chunks[new] != count - skipped:
            what = (
                f"{self.chunks[new]} of the {count} chunks of request {new} ran, but must be {count - skipped}, "
                f"because {skipped} were found in the prefix cache"
            )
            yield Broken(step.step, what, "chunks")

    def _decode(self, step: StepRow) -> Iterator[Broken]:
        number, before = step.step, self.before
        assert before is not None
        known = {*step.running, *step.finished, *self._gone(step)}
        decoding = [r for r in step.running if self.got[r]]
        if not step.outputs or set(decoding) - set(step.outputs) or set(step.outputs) - known:
            what = f"{named(step.outputs)} got a token, but the running requests are {listed(step.running)}"
            yield Broken(number, what, "outputs")
        elif [r for r in step.outputs if r in step.running] != decoding:
            got, running = listed(step.outputs), listed(step.running)
            what = f"requests got tokens in the order {got}, but the order of running requests is {running}"
            yield Broken(number, what, "outputs")
        tokens = {request: self._computed(request) + 1 for request in step.outputs}
        most = max(map(blocks_for, tokens.values()), default=0)
        tkv = max(((most - blocks_for(count)) * BLOCK_SIZE + count for count in tokens.values()), default=0)
        if step.tkv not in (None, tkv):
            yield Broken(number, f"tkv is {step.tkv}, expected {tkv} after a decode with {_counts(tokens)}", "tkv")
        limit, size = self.limits.max_batch_tkv_limit, len(step.outputs)
        if limit and size * step.tkv_or_0 > limit:
            yield Broken(
                number,
                f"batch size x tkv: {size} x {step.tkv_or_0} = {size * step.tkv_or_0} "
                f"exceeds max_batch_tkv_limit {limit}",
                "batch_tkv",
            )

    def _computed(self, request: int) -> int:
        """Return how many tokens a decoding request has in the KV cache: all of its tokens except the last one."""
        return len(self.requests[request].prompt_token_ids) + self.got[request] - 1

    def _tables(self, step: StepRow) -> Iterator[Broken]:
        """Check block tables, if the driver reports them. Requests may share blocks only if their tokens are equal."""
        if not step.block_tables:
            return
        for request, table in zip(step.outputs, step.block_tables, strict=True):
            wanted = blocks_for(self._computed(request))
            if len(table) != wanted or 0 in table or len(set(table)) != len(table):
                what = f"the block table of request {request} is {listed(table)}, but must be "
                what += f"{wanted} different blocks without block 0"
                yield Broken(step.step, what, "held")
            earlier = self.tables.get(request, ())
            if table[: len(earlier)] != earlier:
                what = f"the block table of request {request} was {listed(earlier)}, and is now {listed(table)}"
                yield Broken(step.step, what, "held")
            self.tables[request] = table
        self.tables = {
            r: t for r, t in self.tables.items() if r in (*step.outputs, *step.running, *(step.paused or ()))
        }
        owners: dict[int, tuple[int, int]] = {}
        for request, table in self.tables.items():
            for place, block in enumerate(table):
                other, elsewhere = owners.setdefault(block, (request, place))
                if other != request and (place != elsewhere or not self._alike(request, other, place)):
                    what = f"block {block} belongs to request {other} and to request {request}"
                    yield Broken(step.step, what, "owner")
        gone = set(step.finished)
        self.tables = {r: t for r, t in self.tables.items() if r not in gone}

    def _alike(self, one: int, other: int, place: int) -> bool:
        """Return whether two requests may share the block at position ``place`` of their block tables.

        They may share the block if it is full and their prompts are equal up to the end of the block. Generated tokens
        in the block are not compared, because they are not known.
        """
        end = (place + 1) * BLOCK_SIZE
        if not self.chunking.enable_prefix_caching:
            return False
        first, second = self.requests[one].prompt_token_ids, self.requests[other].prompt_token_ids
        known = min(end, len(first), len(second))
        return first[:known] == second[:known] and end <= max(len(first), len(second))

    def _events(self, step: StepRow) -> Iterator[Broken]:
        """Check the queue of waiting requests, and that aborted requests have left and get no token.

        The queue must have all requests that have joined, in order of arrival, without those whose prefill has begun
        and those that were aborted.
        """
        joined = tuple(i for i, t in enumerate(self.timings) if t.join_step == step.step)
        gone = self._gone(step)
        started = self.prefilled if step.kind == "prefill" else None
        queue = tuple(r for r in (*self.queue, *joined) if r not in gone and r != started)
        if step.waiting != queue:
            what = f"the queue is {listed(step.waiting)}, but must be {listed(queue)} (in order of arrival)"
            yield Broken(step.step, what, "queue")
        self.queue = step.waiting
        still = sorted(gone & {*step.running, *(step.paused or ()), *step.waiting})
        if still:
            what = f"these requests were aborted but still run, wait or are paused: {listed(still)}"
            yield Broken(step.step, what, "abort")
        for request in step.outputs:
            abort = self.timings[request].abort_step
            if abort is not None and abort < step.step:
                yield Broken(step.step, f"request {request} got a token after it was aborted", "abort")


def _counts(tokens: Mapping[int, int]) -> str:
    return ", ".join(f"{count} tokens of request {request}" for request, count in sorted(tokens.items()))
