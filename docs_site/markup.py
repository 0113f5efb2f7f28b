"""Markdown and HTML of generated pages: escaped text, links, tables, and slots.

A slot is a place in a page into which HTML is put after mkdocs has converted the Markdown.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import dirname, relpath

ROOT = "catalogue"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


@dataclass(frozen=True)
class Page:
    """A generated page. ``slots`` has the HTML for each slot of the page, by the slot's name."""

    path: str
    markdown: str
    slots: Mapping[str, str] = field(default_factory=dict)


def escaped(text: str) -> str:
    """Return text as Markdown on one line, with all characters escaped that are special in Markdown."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return Markdown for inline code. ``text`` must not contain backticks."""
    return f"`{text}`"


def link(text: str, target: str, page: str, anchor: str = "") -> str:
    """Return a Markdown link in the page ``page`` to the page ``target``. Both are paths relative to ``docs/``."""
    return f"[{text}]({relpath(target, dirname(page))}{f'#{anchor}' if anchor else ''})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unsearched(markdown: str) -> str:
    """Return ``markdown`` inside an element that the search of the site leaves out."""
    return f"<div markdown data-search-exclude>\n\n{markdown}\n\n</div>"


def slot(name: str) -> str:
    """Return the HTML element that marks the place of a slot in a page; ``filled`` replaces it."""
    return f'<div class="slot" data-slot="{name}"></div>'


def filled(html: str, slots: Mapping[str, str]) -> str:
    """Replace each slot in the HTML of a page by its content in ``slots``. Raises KeyError if a slot has no content."""
    return re.sub(r'<div class="slot" data-slot="([^"]+)"></div>', lambda found: slots[found[1]], html)


def suite_path(name: str) -> str:
    """Return the path of the page of the suite ``name``, relative to ``docs/``."""
    return f"{ROOT}/{name}.md"


def requirement_path(name: str) -> str:
    """Return the path of the page of the requirement with the id ``name``, relative to ``docs/``."""
    return f"{ROOT}/requirements/{name}.md"


def squeezed(html: str) -> str:
    """Return HTML without indentation and blank lines, except in ``pre`` and ``textarea`` elements."""
    parts = re.split(r"(<(?:pre|textarea)\b.*?</(?:pre|textarea)>)", html, flags=re.DOTALL)
    return "".join(part if i % 2 else re.sub(r"\s*\n\s*", "\n", part) for i, part in enumerate(parts))


def smaller(svg: str) -> str:
    """Return SVG for use inside HTML, without the quotes and line breaks that HTML does not need."""
    bare = re.sub(r'(?<= )([\w-]+)="([\w.#:-]+)"', r"\1=\2", svg)
    return re.sub(r"(?<=[\w.])/>", " />", bare).replace(">\n<", "><")
