"""Generate all pages of the site that are not written by hand."""

from collections.abc import Iterator
from pathlib import Path

from docs_site.catalogue.entries import Catalogue
from docs_site.catalogue.pages import catalogue_pages
from docs_site.markup import Page
from docs_site.outside import as_markdown, file_page, targets
from docs_site.reference.commands import commands_page
from docs_site.reference.protocol import protocol_page
from docs_site.reference.suite_format import suite_format_page

IN_NAVIGATION = ("CONTRIBUTING.md", "CHANGELOG.md")
"""Files outside ``docs/`` that always have a page, even if no page links to them."""


def generated_pages(catalogue: Catalogue, root: Path) -> Iterator[Page]:
    """Yield every generated page of the project at ``root``.

    Raises StaleTableError if a golden table is stale, and ValueError if a requirement names a rule that no page has.
    """
    yield from catalogue_pages(catalogue, root)
    yield commands_page()
    yield suite_format_page()
    yield protocol_page()
    for path in outside_files(root):
        yield Page(file_page(path), as_markdown(root, path))


def outside_files(root: Path) -> tuple[str, ...]:
    """Return the paths of the files outside ``docs/`` that have a page: IN_NAVIGATION, and files to which pages link.

    A file that is linked only from a file outside ``docs/`` has no page.
    """
    docs = root / "docs"
    linked = (
        path
        for page in sorted(docs.rglob("*.md"))
        for path in targets(page.read_text(encoding="utf-8"), page.relative_to(docs).as_posix())
    )
    return tuple(path for path in dict.fromkeys([*IN_NAVIGATION, *linked]) if (root / path).is_file())
