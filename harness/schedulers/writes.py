"""Check the slots of the KV cache that each step wrote, if the driver can observe writes.

No step may write to a block that is in the prefix cache. The outputs of requests do not show such a write if it writes
the content that the block already has.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken, listed
from harness.types import BLOCK_SIZE, RequestSpec, Run, StepRow, Write

RULE = "written"
"""The key of this invariant in the ``RULES`` of each scheduler."""

TokenIds = tuple[int, ...]


def wrongly_written(
    run: Run, requests: Sequence[RequestSpec], *, caching: bool = False, block_size: int = BLOCK_SIZE
) -> Iterator[Broken]:
    """Yield a violation for each write of a request to a block that the request does not hold or must not change.

    A request must not change blocks that it found in the prefix cache, or blocks that other requests hold as well.
    ``caching`` is whether prefix caching is enabled. ``block_size`` is in tokens.
    """
    if not any(step.writes for step in run.steps):
        return
    watch = _Written(run, requests, caching, block_size)
    for step in run.steps:
        yield from watch.see(step)


@dataclass
class _Written:
    """The block tables of requests and the content of blocks, updated write by write.

    ``tables`` has the block table of each request, from the first write of the request until it no longer runs.
    ``found`` has the number of blocks of each request that were found in the prefix cache. ``content`` has, for each
    block in the prefix cache, all tokens from the start of the sequence to the end of the block. ``got`` has the number
    of tokens that each request has generated. ``size`` is the number of tokens in a block.
    """

    run: Run
    requests: Sequence[RequestSpec]
    caching: bool
    size: int
    got: Counter[int] = field(default_factory=Counter)
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    found: dict[int, int] = field(default_factory=dict)
    content: dict[int, TokenIds] = field(default_factory=dict)

    def see(self, step: StepRow) -> Iterator[Broken]:
        """Process ``step``, the next row of the step table. Yield a violation for each write that is not allowed."""
        self._forget(step.preempted or ())
        for write in step.writes or ():
            self._hold(write)
            yield from self._check(step.step, write)
            for place in range(self.found[write.request], min(write.computed // self.size, len(write.table))):
                self.content[write.table[place]] = self._token_ids(write.request, place)
        self.got.update(step.outputs)
        holds = {*step.running, *(step.paused or ())}
        self._forget([request for request in self.tables if request not in holds])

    def _forget(self, requests: Sequence[int]) -> None:
        for request in requests:
            self.tables.pop(request, None)
            self.found.pop(request, None)

    def _hold(self, write: Write) -> None:
        """Store the block table of the request that writes. Its newly allocated blocks leave the prefix cache."""
        request, table = write.request, write.table
        if request not in self.found:
            self.found[request] = self._findable(request, table) if self.caching else 0
        before = self.tables.get(request, ())
        for block in table[max(len(before), self.found[request]) :]:
            self.content.pop(block, None)
        self.tables[request] = table

    def _findable(self, request: int, table: Sequence[int]) -> int:
        """Return how many blocks at the beginning of a new block table were found in the prefix cache.

        A block was found if, before the current step, its content already was the tokens of the request. The block with
        the last token of the request is never found.
        """
        length = len(self.requests[request].prompt_token_ids) + self.got[request]
        found = 0
        while found < min(len(table), (length - 1) // self.size):
            if self.content.get(table[found]) != self._token_ids(request, found):
                break
            found += 1
        return found

    def _token_ids(self, request: int, place: int) -> TokenIds:
        spec = self.requests[request]
        generated = (token.token_id for token in self.run.tokens[request])
        return (*spec.prompt_token_ids, *generated)[: (place + 1) * self.size]

    def _check(self, number: int, write: Write) -> Iterator[Broken]:
        request, table = write.request, write.table
        for block in sorted({slot // self.size for slot in write.slots}):
            others = sorted(other for other, held in self.tables.items() if other != request and block in held)
            if block not in table:
                what = f"request {request} writes to block {block}, but holds only {listed(table)}"
                yield Broken(number, what, RULE)
            elif table.index(block) < self.found[request]:
                yield Broken(
                    number, f"request {request} writes to block {block}, which it found in the prefix cache", RULE
                )
            elif others:
                yield Broken(number, f"request {request} writes to block {block}, which {_named(others)} as well", RULE)


def _named(requests: Sequence[int]) -> str:
    return f"request {requests[0]} holds" if len(requests) == 1 else f"requests {listed(requests)} hold"
