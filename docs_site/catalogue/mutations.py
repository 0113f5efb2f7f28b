"""Read from docs/mutations.md which mutations (injected faults) of the engine each case detects."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from docs_site.markup import link

PAGE = "mutations.md"
_ROW = re.compile(r"^\| (?P<what>[^|]+) \| `(?P<case>[a-z0-9._-]+)` \| (?P<says>[^|]+) \|$", re.MULTILINE)


def caught_by_case(page: Path) -> Mapping[str, list[tuple[str, str]]]:
    """Return the mutations that each case detects, by the id of the case.

    A mutation is (what the faulty engine does, a part of the message with which the case fails).
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for row in _ROW.finditer(page.read_text(encoding="utf-8")):
        found.setdefault(row["case"], []).append((row["what"], row["says"]))
    return found


def with_links(markdown: str, places: Mapping[str, str]) -> str:
    """Return the Markdown of docs/mutations.md in which the id of each case is a link.

    ``places`` has the path of the page of each case's suite, by the id of the case.
    """

    def linked(row: re.Match[str]) -> str:
        name = row["case"]
        return row[0].replace(f"`{name}`", link(f"`{name}`", places[name], PAGE, name), 1) if name in places else row[0]

    return _ROW.sub(linked, markdown)


def in_words(mutations: Iterable[tuple[str, str]]) -> str:
    """Return ``mutations``, pairs (what the faulty engine does, a part of the message of the case), as Markdown."""
    return "\n".join(f"- {what}: “{says}”" for what, says in mutations)
