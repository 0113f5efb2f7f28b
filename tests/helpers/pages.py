"""Find elements and visible text in HTML pages of reports."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

HOSTILE = '</script><b>"bold"</b>&amp;\'</title></details>{{ 1 }}'


class Elements(HTMLParser):
    """Parses HTML into ``tags`` (name and attributes of each start tag) and ``texts`` (the text between tags)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for name, a in self.tags if name == tag and attributes.items() <= a.items()]


def plain(html: str) -> str:
    """Return the visible text of HTML. Each sequence of white space is replaced by one space."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def matrix_cells(html: str, case: str) -> list[str]:
    row = re.search(rf"<tr><th>{re.escape(case)}(<td>.*)", html)
    assert row is not None, f"no row for {case}"
    return [plain(cell) for cell in row[1].split("<td>")[1:]]
