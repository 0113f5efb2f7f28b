"""Checks of block tables by block id: no block is lost, held twice, or written after it was found in the cache."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken
from harness.types import BLOCK_SIZE, StepRow, blocks_for

Text = tuple[int, ...]


@dataclass
class BlocksHeld:
    """Block tables of all requests, updated step by step.

    ``tables`` are by request; ``found`` is the number of blocks of each request that were found at its admission;
    ``content`` is the key of each block in the prefix cache: all tokens up to its end. ``text_of(request, end)``
    returns the first tokens of a request.
    """

    text_of: Callable[[int, int], Text]
    available: int | None
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    found: dict[int, int] = field(default_factory=dict)
    content: dict[int, Text] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def lose(self, requests: Sequence[int]) -> None:
        """Remove the tables of requests that were preempted, or ended, or were aborted."""
        for request in requests:
            self.tables.pop(request, None)
            self.found.pop(request, None)

    def see(self, step: StepRow, computed: Mapping[int, int]) -> Iterator[Broken]:
        """Yield what is wrong with the tables of a step, before any request frees blocks.

        ``computed`` is the number of tokens of each request that are in its blocks at the end of the step.
        """
        self.found |= {request: tokens // BLOCK_SIZE for request, tokens in step.hits or ()}
        for (request, _), table in zip(step.scheduled or (), step.block_tables, strict=False):
            yield from self._extended(step.step, request, table, computed.get(request, 0))

    def conserved(self, step: StepRow) -> Iterator[Broken]:
        """Yield what is wrong with the number of used blocks, after blocks were freed."""
        held = {block for request in step.running for block in self.tables.get(request, ())}
        if step.used != len(held):
            yield Broken(step.step, f"{step.used} blocks are used, {len(held)} are in block tables", "conserved")
        if self.available is not None and len(self.seen) > self.available:
            yield Broken(step.step, f"{len(self.seen)} blocks were handed out, there are {self.available}", "conserved")

    def _extended(self, number: int, request: int, table: tuple[int, ...], computed: int) -> Iterator[Broken]:
        before, found = self.tables.get(request, ()), self.found.get(request, 0)
        due = blocks_for(computed)
        if len(table) != due or 0 in table or len(set(table)) != len(table):
            yield Broken(number, f"{request} holds {table}, {due} blocks other than 0 are due", "held")
        if table[: len(before)] != before:
            yield Broken(number, f"{request} held {before}, now {table}", "held")
        for place in range(len(before), len(table)):
            yield from self._got(number, request, table[place], place, by_finding=place < found)
        self.tables[request] = table
        self.seen.update(table)
        for place in range(found, min(computed // BLOCK_SIZE, len(table))):
            self.content[table[place]] = self.text_of(request, (place + 1) * BLOCK_SIZE)

    def _got(self, number: int, request: int, block: int, place: int, *, by_finding: bool) -> Iterator[Broken]:
        """Check a new block of a request: it was found with the request's own text, or no other request holds it."""
        if by_finding:
            if self.content.get(block) != self.text_of(request, (place + 1) * BLOCK_SIZE):
                yield Broken(number, f"{request} found block {block}, which does not hold its tokens", "content")
            return
        holders = sorted(other for other, held in self.tables.items() if block in held and other != request)
        if holders:
            what = f"{request} writes block {block}, which {' and '.join(map(str, holders))} holds"
            yield Broken(number, what, "written")
        self.content.pop(block, None)
