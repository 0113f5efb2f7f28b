"""Invariants of the chunked scheduler: properties of every step of every workload, as far as the driver observes them.

They do not depend on the expected schedule: the number of tokens that a request has in its cache follows from the
tokens it got, and the blocks that two requests may share follow from their texts.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken, as_verdict, length_broken
from harness.schedulers.chunked.rules import DOC
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
    "blocks": f'{DOC} "Reservation": used + reserved ≤ available blocks; what is reserved is what may still be taken',
    "owner": f'{DOC} "Prefix caching": requests share a block only if their texts are equal up to its end',
    "held": f'{DOC} "Decode" and "Chunks": a request that has its prompt holds ceil(tokens/64) blocks, in order',
    "batch": f'{DOC} "May prefill": never more than max_num_seqs requests run',
    "batch_tkv": f'{DOC} "Pausing": batch size × tkv of a decode never exceeds max_batch_tkv_limit',
    "tkv": f'{DOC} "Chunks" and "Decode": L in a prefill; the largest (m − b)·64 + computed + 1 in a decode',
    "outputs": f'{DOC} "Decode": a decode gives a token to each running request that is not in prefill, in order',
    "pausing": f'{DOC} "Pausing": a paused request neither runs nor waits, and no request is prefilled meanwhile',
    "interleave": f'{DOC} "May prefill": with interleaving no chunk runs right after another while any request decodes',
    "queue": f'{DOC} "Candidates": first in, first out, and never two prefills at the same time',
    "chunks": f'{DOC} "Chunks" and "Prefix caching": a prompt takes its chunks, less those that were entirely hit',
    "end": f'{DOC} "Steps": every request ends exactly once: with its tokens, or where it fills the context',
    "abort": f'{DOC} "Aborts": an aborted request leaves immediately and gets no further token',
    "idle": f'{DOC} "Steps": nothing is held and tkv is 0 when nothing is left to do',
}


def check_invariants(
    run: Run,
    requests: Sequence[RequestSpec],
    timings: Sequence[Request],
    limits: SchedulingLimits,
    chunking: ChunkingSetup,
) -> Verdict:
    """Check all invariants over all steps. Invariants of a limit that is None (not known) are not checked."""
    if run.unfinished is not None:
        return Verdict(False, f"invariants: {run.unfinished}", rule=RULES["end"])
    watch = _Watch(requests, timings, limits, chunking)
    broken = [found for step in run.steps for found in watch.see(step)]
    broken += [*watch.left(run.steps[-1]), *_ends(run, requests, timings, limits)]
    return as_verdict(broken, RULES, len(run.steps))


@dataclass
class _Watch:
    """State of all requests, updated step by step."""

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
        """Yield the violations of the next observation."""
        yield from self._always(step)
        if step.kind == "prefill":
            yield from self._prefill(step)
        elif step.kind == "decode":
            yield from self._decode(step)
        elif step.kind == "idle" and (step.tkv or step.outputs):
            yield Broken(step.step, f"nothing ran, and tkv is {step.tkv}, outputs {step.outputs}", "idle")
        for request in step.outputs:
            self.got[request] += 1
        yield from self._tables(step)
        yield from self._events(step)
        self.after_chunk = step.kind == "prefill"
        self.before = step

    def left(self, last: StepRow) -> Iterator[Broken]:
        """Yield the violations after the last observation."""
        held = (last.tkv, last.waiting, last.running, last.paused or (), last.reserved or 0, last.used or 0)
        if any(held):
            names = "tkv", "waiting", "running", "paused", "reserved", "used"
            what = ", ".join(f"{name} {value}" for name, value in zip(names, held, strict=True) if value)
            yield Broken(last.step, f"left behind: {what}", "idle")

    def _gone(self, step: StepRow) -> set[int]:
        """Return the requests that have been aborted so far."""
        return {i for i, t in enumerate(self.timings) if t.abort_step is not None and t.abort_step <= step.step}

    def _always(self, step: StepRow) -> Iterator[Broken]:
        paused, number, limits = step.paused or (), step.step, self.limits
        everybody = [*step.running, *paused, *step.waiting]
        if len(set(everybody)) != len(everybody):
            yield Broken(number, f"a request is in two states: {step.running}, {paused}, {step.waiting}", "pausing")
        if limits.max_num_seqs and len(step.running) > limits.max_num_seqs:
            what = f"{len(step.running)} requests run, max_num_seqs is {limits.max_num_seqs}"
            yield Broken(number, what, "batch")
        if limits.available_blocks and (step.used or 0) + (step.reserved or 0) > limits.available_blocks:
            what = f"{step.used} blocks used and {step.reserved} reserved, {limits.available_blocks} available"
            yield Broken(number, what, "blocks")
        for request, blocks in step.hits or ():
            if blocks and not self.chunking.enable_prefix_caching:
                yield Broken(number, f"{request} hit {blocks} blocks, and prefix caching is off", "owner")

    def _prefill(self, step: StepRow) -> Iterator[Broken]:
        number, before = step.step, self.before
        assert before is not None
        under_way = [request for request in before.running if not self.got[request]]
        new = next(iter((*step.outputs, *under_way, *before.waiting)), None)
        if new is None or len(step.outputs) > 1:
            yield Broken(number, f"a prefill gave tokens to {step.outputs}, {before.waiting} waited", "outputs")
            return
        self.chunks[new] += 1
        self.prefilled = new
        if new not in step.finished and new not in self._gone(step) and step.running[:1] != (new,):
            yield Broken(number, f"a chunk of {new} ran, and running is {step.running}", "outputs")
        if step.tkv != len(self.requests[new].prompt_token_ids):
            length = len(self.requests[new].prompt_token_ids)
            yield Broken(number, f"tkv {step.tkv} in the prefill of {new}, whose prompt has {length}", "tkv")
        decoding = [request for request in before.running if self.got[request]]
        others = [request for request in under_way if request != new]
        if others:
            yield Broken(number, f"{new} is prefilled while {others} are", "queue")
        if before.paused and before.running:
            yield Broken(number, f"{new} is prefilled while {before.paused} are paused", "pausing")
        if self.chunking.interleave and self.after_chunk and decoding:
            yield Broken(number, f"a chunk of {new} right after a chunk, and {decoding} decode", "interleave")
        if new not in before.running and (before.waiting[:1] != (new,)):
            yield Broken(number, f"{new} was prefilled, {before.waiting} waited", "queue")
        if step.outputs and self.got[new]:
            yield Broken(number, f"the prefill of {new} gave it a token again", "outputs")
        elif step.outputs:
            yield from self._all_chunks(step, new)

    def _all_chunks(self, step: StepRow, new: int) -> Iterator[Broken]:
        size, length = self.chunking.chunk_size, len(self.requests[new].prompt_token_ids)
        count = ceil_div(length, size)
        padding = count * size - blocks_for(length) * BLOCK_SIZE
        usable = dict(step.hits or ()).get(new, 0) * BLOCK_SIZE
        skipped = (padding + usable) // size if usable else 0
        if new in step.finished or new in self._gone(step):
            # Hits skip whole chunks, but never the last chunk.
            if not 1 <= self.chunks[new] <= count:
                yield Broken(step.step, f"the prompt of {new} took {self.chunks[new]} chunks, it has {count}", "chunks")
        elif self.chunks[new] != count - skipped:
            what = f"the prompt of {new} took {self.chunks[new]} chunks: it has {count}, and {skipped} were hit"
            yield Broken(step.step, what, "chunks")

    def _decode(self, step: StepRow) -> Iterator[Broken]:
        number, before = step.step, self.before
        assert before is not None
        known = {*step.running, *step.finished, *self._gone(step)}
        decoding = [r for r in step.running if self.got[r]]
        if not step.outputs or set(decoding) - set(step.outputs) or set(step.outputs) - known:
            yield Broken(number, f"tokens went to {step.outputs}, {step.running} run", "outputs")
        elif [r for r in step.outputs if r in step.running] != decoding:
            yield Broken(number, f"tokens went to {step.outputs} in this order, running is {step.running}", "outputs")
        tokens = {request: self._computed(request) + 1 for request in step.outputs}
        most = max(map(blocks_for, tokens.values()), default=0)
        tkv = max(((most - blocks_for(count)) * BLOCK_SIZE + count for count in tokens.values()), default=0)
        if step.tkv != tkv:
            yield Broken(number, f"tkv {step.tkv} after a decode of {sorted(tokens.items())}, not {tkv}", "tkv")
        limit, size = self.limits.max_batch_tkv_limit, len(step.outputs)
        if limit and size * step.tkv_or_0 > limit:
            yield Broken(
                number,
                f"{size} x {step.tkv_or_0} = {size * step.tkv_or_0} exceeds max_batch_tkv_limit {limit}",
                "batch_tkv",
            )

    def _computed(self, request: int) -> int:
        """Return the tokens in the cache of a decoding request: its prompt, and its generated tokens but the last."""
        return len(self.requests[request].prompt_token_ids) + self.got[request] - 1

    def _tables(self, step: StepRow) -> Iterator[Broken]:
        """Check block tables, if visible: complete and in order, and shared only between requests with equal text."""
        if not step.block_tables:
            return
        for request, table in zip(step.outputs, step.block_tables, strict=True):
            wanted = blocks_for(self._computed(request))
            if len(table) != wanted or 0 in table or len(set(table)) != len(table):
                yield Broken(step.step, f"{request} holds {table}, {wanted} blocks other than 0 are due", "held")
            earlier = self.tables.get(request, ())
            if table[: len(earlier)] != earlier:
                yield Broken(step.step, f"{request} held {earlier}, now {table}", "held")
            self.tables[request] = table
        self.tables = {
            r: t for r, t in self.tables.items() if r in (*step.outputs, *step.running, *(step.paused or ()))
        }
        owners: dict[int, tuple[int, int]] = {}
        for request, table in self.tables.items():
            for place, block in enumerate(table):
                other, elsewhere = owners.setdefault(block, (request, place))
                if other != request and (place != elsewhere or not self._alike(request, other, place)):
                    yield Broken(step.step, f"block {block} belongs to {other} and to {request}", "owner")
        gone = set(step.finished)
        self.tables = {r: t for r, t in self.tables.items() if r not in gone}

    def _alike(self, one: int, other: int, place: int) -> bool:
        """Return whether two requests may share their block number ``place``.

        They may if it is full, and the prompts are equal up to its end. Generated tokens are not known here, so a block
        with generated tokens of either request is accepted.
        """
        end = (place + 1) * BLOCK_SIZE
        if not self.chunking.enable_prefix_caching:
            return False
        first, second = self.requests[one].prompt_token_ids, self.requests[other].prompt_token_ids
        known = min(end, len(first), len(second))
        return first[:known] == second[:known] and end <= max(len(first), len(second))

    def _events(self, step: StepRow) -> Iterator[Broken]:
        """Check the queue: the requests that joined, in order, without those that were prefilled or aborted."""
        joined = tuple(i for i, t in enumerate(self.timings) if t.join_step == step.step)
        gone = self._gone(step)
        started = self.prefilled if step.kind == "prefill" else None
        queue = tuple(r for r in (*self.queue, *joined) if r not in gone and r != started)
        if step.waiting != queue:
            yield Broken(step.step, f"waiting {step.waiting}, in order of arrival {queue}", "queue")
        self.queue = step.waiting
        still = sorted(gone & {*step.running, *(step.paused or ()), *step.waiting})
        if still:
            yield Broken(step.step, f"{still} were aborted and are still there", "abort")
        for request in step.outputs:
            abort = self.timings[request].abort_step
            if abort is not None and abort < step.step:
                yield Broken(step.step, f"{request} got a token after it was aborted", "abort")


def _ends(
    run: Run, requests: Sequence[RequestSpec], timings: Sequence[Request], limits: SchedulingLimits
) -> Iterator[Broken]:
    last = run.steps[-1].step
    for request, timing, tokens in zip(requests, timings, run.tokens, strict=True):
        number = request.request_id
        ends = [step.step for step in run.steps if number in step.finished]
        if len(ends) > 1 or (not ends and timing.abort_step is None):
            yield Broken(ends[-1] if ends else last, f"request {number} finished at steps {ends}", "end")
            continue
        yield from length_broken(request, timing, len(tokens), limits.max_model_len, ends[0] if ends else None, last)
