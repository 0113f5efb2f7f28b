"""Pieces of pages: Markdown that is safe for any text, links between generated pages, and slots for pictures."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import dirname, relpath

ROOT = "catalogue"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


@dataclass(frozen=True)
class Page:
    """A generated page. ``slots`` are put into its HTML after Markdown and the search index have been made."""

    path: str
    markdown: str
    slots: Mapping[str, str] = field(default_factory=dict)


def escaped(text: str) -> str:
    """Return text as Markdown that shows it unchanged, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return text as inline code. ``text`` must not contain backticks."""
    return f"`{text}`"


def link(text: str, target: str, page: str, anchor: str = "") -> str:
    """Return a link from the page at ``page`` to the page at ``target``, both relative to the folder of pages."""
    return f"[{text}]({relpath(target, dirname(page))}{f'#{anchor}' if anchor else ''})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unsearched(markdown: str) -> str:
    """Return ``markdown`` marked such that the site's search leaves it out."""
    return f"<div markdown data-search-exclude>\n\n{markdown}\n\n</div>"


def slot(name: str) -> str:
    """Return the HTML element that marks the place of a slot in a page; ``filled`` replaces it."""
    return f'<div class="slot" data-slot="{name}"></div>'


def filled(html: str, slots: Mapping[str, str]) -> str:
    """Return a page with its slots filled. Raises KeyError for a slot without content."""
    return re.sub(r'<div class="slot" data-slot="([^"]+)"></div>', lambda found: slots[found[1]], html)


def suite_path(name: str) -> str:
    """Return the path of a suite's page."""
    return f"{ROOT}/{name}.md"


def requirement_path(name: str) -> str:
    """Return the path of a requirement's page."""
    return f"{ROOT}/requirements/{name}.md"


def squeezed(html: str) -> str:
    """Return a page without indentation and blank lines, except in preformatted text."""
    parts = re.split(r"(<(?:pre|textarea)\b.*?</(?:pre|textarea)>)", html, flags=re.DOTALL)
    return "".join(part if i % 2 else re.sub(r"\s*\n\s*", "\n", part) for i, part in enumerate(parts))


def smaller(svg: str) -> str:
    """Return SVG for use inside HTML, without the quotes and line ends that HTML does not need."""
    bare = re.sub(r'(?<= )([\w-]+)="([\w.#:-]+)"', r"\1=\2", svg)
    return re.sub(r"(?<=[\w.])/>", " />", bare).replace(">\n<", "><")
