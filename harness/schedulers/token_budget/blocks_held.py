"""Check the block ids in the block tables of requests, for the token-budget scheduler.

A request may hold a block of another request only if it found the block in the prefix cache. The number of used blocks
must be the number of different blocks in the block tables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken, listed, named
from harness.types import StepRow, blocks_for

TokenIds = tuple[int, ...]


@dataclass
class BlocksHeld:
    """The block tables of all requests, updated step by step.

    By request number, ``tables`` has the block table of the request, and ``found`` the number of blocks that the
    request found in the prefix cache at its admission. ``content`` has, for each full block, all tokens from the start
    of the sequence to the end of the block. ``seen`` has all block ids that were ever in a block table.
    ``token_ids_of(request, end)`` returns the first ``end`` tokens of a request. ``available`` is the number of blocks
    that the KV cache has for requests, None if it is not known. ``size`` is the number of tokens in a block.
    """

    token_ids_of: Callable[[int, int], TokenIds]
    available: int | None
    size: int
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    found: dict[int, int] = field(default_factory=dict)
    content: dict[int, TokenIds] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def lose(self, requests: Sequence[int]) -> None:
        """Remove the block tables of requests that have ended, or were aborted or preempted."""
        for request in requests:
            self.tables.pop(request, None)
            self.found.pop(request, None)

    def see(self, step: StepRow, computed: Mapping[int, int]) -> Iterator[Broken]:
        """Check the block tables of the requests that a step scheduled, and yield the violations.

        The block tables are those before requests that ended in the step free their blocks. ``computed`` has the number
        of tokens that each request has in the KV cache at the end of the step.
        """
        self.found |= {request: tokens // self.size for request, tokens in step.hits or ()}
        for (request, _), table in zip(step.scheduled or (), step.block_tables, strict=False):
            yield from self._extended(step.step, request, table, computed.get(request, 0))

    def conserved(self, step: StepRow) -> Iterator[Broken]:
        """Yield the violations in the number of used blocks at the end of a step, after blocks were freed."""
        held = {block for request in step.running for block in self.tables.get(request, ())}
        if step.used != len(held):
            yield Broken(step.step, f"{step.used} blocks are used, but the block tables have {len(held)}", "conserved")
        if self.available is not None and len(self.seen) > self.available:
            what = f"{len(self.seen)} different blocks have been used, but only {self.available} exist"
            yield Broken(step.step, what, "conserved")

    def _extended(self, number: int, request: int, table: tuple[int, ...], computed: int) -> Iterator[Broken]:
        before, found = self.tables.get(request, ()), self.found.get(request, 0)
        due = blocks_for(computed, self.size)
        if len(table) != due or 0 in table or len(set(table)) != len(table):
            what = f"the block table of request {request} is {listed(table)}, but must be "
            what += f"{due} different blocks without block 0"
            yield Broken(number, what, "held")
        if table[: len(before)] != before:
            what = f"the block table of request {request} was {listed(before)}, and is now {listed(table)}"
            yield Broken(number, what, "held")
        for place in range(len(before), len(table)):
            yield from self._got(number, request, table[place], place, by_finding=place < found)
        self.tables[request] = table
        self.seen.update(table)
        for place in range(found, min(computed // self.size, len(table))):
            self.content[table[place]] = self.token_ids_of(request, (place + 1) * self.size)

    def _got(self, number: int, request: int, block: int, place: int, *, by_finding: bool) -> Iterator[Broken]:
        """Check a block that was added to the block table of a request, at position ``place``.

        With ``by_finding``, the block was found in the prefix cache, and must contain the tokens of the request.
        Otherwise it was allocated, and no other request may hold it.
        """
        if by_finding:
            if self.content.get(block) != self.token_ids_of(request, (place + 1) * self.size):
                what = f"request {request} found block {block} in the prefix cache, but the block has other tokens"
                yield Broken(number, what, "content")
            return
        holders = sorted(other for other, held in self.tables.items() if block in held and other != request)
        if holders:
            what = f"block {block} was allocated to request {request}, but is still held by {named(holders)}"
            yield Broken(number, what, "written")
        self.content.pop(block, None)
