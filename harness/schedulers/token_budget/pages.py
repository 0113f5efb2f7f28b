"""The blocks of the model of the token-budget scheduler: the prefix cache, and the queue of free pages.

It is written only from docs/scheduling-rules-token-budget.md, "Blocks and the prefix cache".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.types import BLOCK_SIZE, TokenBudgetSetup

Text = tuple[int, ...]


@dataclass(eq=False)
class Page:
    """A block of the KV cache. ``holders`` is the number of requests that hold it.

    ``text`` is its key in the prefix cache, all tokens up to its end. It is None if the page is not in the cache.
    """

    number: int
    holders: int = 0
    text: Text | None = None


class Pages:
    """All pages of the KV cache. They are numbered from 1, because no request gets block 0, vLLM's null block."""

    def __init__(self, count: int, options: TokenBudgetSetup, size: int = BLOCK_SIZE) -> None:
        self.size = size
        self.caching = options.enable_prefix_caching
        self.uncached_go_last = options.rules == "0.27" and not self.caching
        self.free = [Page(number) for number in range(1, count + 1)]
        self._shelf: dict[Text, list[Page]] = {}

    def found(self, text: Text) -> list[Page]:
        """Return the pages in the prefix cache for the longest possible beginning of ``text``.

        The last token is excluded, so that at least one token is computed.
        """
        run: list[Page] = []
        for end in range(self.size, len(text), self.size):
            known = self._shelf.get(text[:end])
            if not known:
                break
            run.append(known[0])
        return run

    def share(self, pages: Sequence[Page]) -> None:
        """Add a holder to these pages. Those that were free leave the queue of free pages."""
        for page in pages:
            if page.holders == 0:
                self.free.remove(page)
            page.holders += 1

    def take(self, count: int) -> list[Page]:
        """Take ``count`` free pages from the queue. They are removed from the prefix cache."""
        taken, self.free = self.free[:count], self.free[count:]
        for page in taken:
            self._forget(page)
            page.holders = 1
        return taken

    def remember(self, pages: Sequence[Page], text: Text) -> None:
        """Add every page that ``text`` fills to the prefix cache. Earlier pages with the same text are found first."""
        if not self.caching:
            return
        for place, page in enumerate(pages[: len(text) // self.size]):
            if page.text is None:
                page.text = text[: (place + 1) * self.size]
                self._shelf.setdefault(page.text, []).append(page)

    def give_back(self, pages: Sequence[Page]) -> None:
        """Remove a holder from these pages. Pages without holders are freed, the last page first.

        Freed pages that are in the prefix cache go to the end of the queue, others to its front. Without prefix
        caching, all freed pages go to the front by the rules of vLLM 0.32, and to the end by those of 0.27.
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
