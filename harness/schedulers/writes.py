"""Checks of the slots that each step wrote, where a driver can observe them: no block that can be found is written.

A block with the right content that is written again with the same content cannot be detected in any output.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.schedulers.broken import Broken
from harness.types import BLOCK_SIZE, RequestSpec, Run, StepRow, Write

RULE = "written"
"""The key of the rule in the texts of each scheduler."""

Text = tuple[int, ...]


def wrongly_written(run: Run, requests: Sequence[RequestSpec], *, caching: bool = False) -> Iterator[Broken]:
    """Yield the writes to blocks that the writing request found, does not hold, or shares.

    ``caching``: blocks are shared by content.
    """
    if not any(step.writes for step in run.steps):
        return
    watch = _Written(run, requests, caching)
    for step in run.steps:
        yield from watch.see(step)


@dataclass
class _Written:
    """Block tables and the content of blocks, updated write by write.

    ``tables`` and ``found`` are by request, from its first write on until it no longer runs: its blocks, and the number
    of those that it found. ``content`` is the text up to the end of each block that can be found.
    """

    run: Run
    requests: Sequence[RequestSpec]
    caching: bool
    got: Counter[int] = field(default_factory=Counter)
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    found: dict[int, int] = field(default_factory=dict)
    content: dict[int, Text] = field(default_factory=dict)

    def see(self, step: StepRow) -> Iterator[Broken]:
        self._forget(step.preempted or ())
        for write in step.writes or ():
            self._hold(write)
            yield from self._check(step.step, write)
            for place in range(self.found[write.request], min(write.computed // BLOCK_SIZE, len(write.table))):
                self.content[write.table[place]] = self._text(write.request, place)
        self.got.update(step.outputs)
        holds = {*step.running, *(step.paused or ())}
        self._forget([request for request in self.tables if request not in holds])

    def _forget(self, requests: Sequence[int]) -> None:
        for request in requests:
            self.tables.pop(request, None)
            self.found.pop(request, None)

    def _hold(self, write: Write) -> None:
        """Take over the table of a request. The content of blocks that it did not find is lost."""
        request, table = write.request, write.table
        if request not in self.found:
            self.found[request] = self._findable(request, table) if self.caching else 0
        before = self.tables.get(request, ())
        for block in table[max(len(before), self.found[request]) :]:
            self.content.pop(block, None)
        self.tables[request] = table

    def _findable(self, request: int, table: Sequence[int]) -> int:
        """Return how many blocks of a new table were found: the first ones that have the request's own text.

        The block of its last token is never found.
        """
        length = len(self.requests[request].prompt_token_ids) + self.got[request]
        found = 0
        while found < min(len(table), (length - 1) // BLOCK_SIZE):
            if self.content.get(table[found]) != self._text(request, found):
                break
            found += 1
        return found

    def _text(self, request: int, place: int) -> Text:
        spec = self.requests[request]
        generated = (token.token_id for token in self.run.tokens[request])
        return (*spec.prompt_token_ids, *generated)[: (place + 1) * BLOCK_SIZE]

    def _check(self, number: int, write: Write) -> Iterator[Broken]:
        request, table = write.request, write.table
        for block in sorted({slot // BLOCK_SIZE for slot in write.slots}):
            others = sorted(other for other, held in self.tables.items() if other != request and block in held)
            if block not in table:
                yield Broken(number, f"{request} writes to block {block}, and holds {table}", RULE)
            elif table.index(block) < self.found[request]:
                yield Broken(number, f"{request} writes to block {block}, which it found", RULE)
            elif others:
                yield Broken(number, f"{request} writes to block {block}, which {others} hold", RULE)
