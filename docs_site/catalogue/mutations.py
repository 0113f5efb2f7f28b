"""The mutations of the engine that each case catches, from docs/mutations.md, which tests keep up to date."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from docs_site.markup import link

PAGE = "mutations.md"
_ROW = re.compile(r"^\| (?P<what>[^|]+) \| `(?P<case>[a-z0-9._-]+)` \| (?P<says>[^|]+) \|$", re.MULTILINE)


def caught_by_case(page: Path) -> Mapping[str, list[tuple[str, str]]]:
    """Return the mutations of each case: what the engine would do, and a part of the failure's text."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in _ROW.finditer(page.read_text(encoding="utf-8")):
        found.setdefault(row["case"], []).append((row["what"], row["says"]))
    return found


def with_links(markdown: str, places: Mapping[str, str]) -> str:
    """Return the page of mutations with a link to each case. ``places`` are pages of suites by case."""

    def linked(row: re.Match[str]) -> str:
        name = row["case"]
        return row[0].replace(f"`{name}`", link(f"`{name}`", places[name], PAGE, name), 1) if name in places else row[0]

    return _ROW.sub(linked, markdown)


def in_words(mutations: Iterable[tuple[str, str]]) -> str:
    """Return a Markdown list of mutations."""
    return "\n".join(f"- {what}: “{says}”" for what, says in mutations)
