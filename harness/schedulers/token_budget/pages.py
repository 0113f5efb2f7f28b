"""The scheduler model's cache: pages by the text they hold, and the queue of free ones in the order of handing out.

Written from docs/scheduling-rules-token-budget.md, "Blocks and the prefix cache", alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.types import BLOCK_SIZE, TokenBudgetSetup

Text = tuple[int, ...]


@dataclass(eq=False)
class Page:
    """A block. ``text`` is what it can be found by: all tokens up to its end; None where it can't be found."""

    number: int
    holders: int = 0
    text: Text | None = None


class Pages:
    """``count`` blocks, numbered from 1: block 0 is the null block, which no request gets."""

    def __init__(self, count: int, options: TokenBudgetSetup, size: int = BLOCK_SIZE) -> None:
        self.size = size
        self.caching = options.enable_prefix_caching
        self.uncached_go_last = options.rules == "0.27" and not self.caching
        self.free = [Page(number) for number in range(1, count + 1)]
        self._shelf: dict[Text, list[Page]] = {}

    def found(self, text: Text) -> list[Page]:
        """The longest run of pages, from the first on, that hold all but the last token of ``text``.

        The last token is left out, so that at least one is computed.
        """
        run: list[Page] = []
        for end in range(self.size, len(text), self.size):
            known = self._shelf.get(text[:end])
            if not known:
                break
            run.append(known[0])
        return run

    def share(self, pages: Sequence[Page]) -> None:
        """Let one more request hold these pages; free ones leave the queue."""
        for page in pages:
            if page.holders == 0:
                self.free.remove(page)
            page.holders += 1

    def take(self, count: int) -> list[Page]:
        """Hand out so many pages; only now they lose what they could be found by."""
        taken, self.free = self.free[:count], self.free[count:]
        for page in taken:
            self._forget(page)
            page.holders = 1
        return taken

    def remember(self, pages: Sequence[Page], text: Text) -> None:
        """Let every page that ``text`` fills be found from now on, behind others with the same text."""
        if not self.caching:
            return
        for place, page in enumerate(pages[: len(text) // self.size]):
            if page.text is None:
                page.text = text[: (place + 1) * self.size]
                self._shelf.setdefault(page.text, []).append(page)

    def give_back(self, pages: Sequence[Page]) -> None:
        """One request less holds these pages. Those with no holder are free: the last page is queued first.

        Pages that can be found go to the end of the queue, others to its front. Where nothing is cached, all go to the
        front by the rules of 0.32 and to the end by those of 0.27.
        """
        for page in pages:
            page.holders -= 1
        freed = [page for page in reversed(pages) if page.holders == 0]
        last = [page for page in freed if page.text is not None or self.uncached_go_last]
        first = [page for page in freed if page not in last]
        self.free = [*first, *self.free, *last]

    def _forget(self, page: Page) -> None:
        if page.text is not None:
            alike = self._shelf[page.text]
            alike.remove(page)
            if not alike:
                del self._shelf[page.text]
            page.text = None
