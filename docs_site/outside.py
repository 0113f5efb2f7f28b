"""Pages for files outside ``docs/`` to which other pages link, so that these links work on the site."""

import re
from collections.abc import Iterable
from pathlib import Path
from posixpath import dirname, normpath, relpath

FOLDER = "files"
_LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)(?=[)#])")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".txt": "text", ".json": "json"}


def targets(markdown: str, page: str) -> list[str]:
    """Return the paths, relative to the project's folder, of files outside ``docs/`` that a page links to."""
    paths = [normpath(f"docs/{dirname(page)}/{target}") for target in _LINK.findall(markdown)]
    return [path for path in dict.fromkeys(paths) if not path.startswith("docs/")]


def file_page(path: str) -> str:
    """Return the path of the page that shows a file, relative to ``docs/``.

    Leading dots are removed, because mkdocs ignores files whose names begin with a dot.
    """
    shown = path.lstrip(".")
    return f"{FOLDER}/{shown}" if shown.endswith(".md") else f"{FOLDER}/{shown}.md"


def rewritten(markdown: str, page: str, known: Iterable[str]) -> str:
    """Return the Markdown of a page in which links to files in ``known`` lead to the pages that show these files.

    ``page`` is the path of the page relative to ``docs/``, and ``known`` are paths relative to the project.
    """
    pages = set(known)

    def to_page(found: re.Match[str]) -> str:
        path = normpath(f"docs/{dirname(page)}/{found[1]}")
        return relpath(file_page(path), dirname(page) or ".") if path in pages else found[1]

    return _LINK.sub(to_page, markdown)


def as_markdown(root: Path, path: str) -> str:
    """Return the Markdown of the page that shows a file: a code block with the content of the file.

    For a Markdown file, return its content, in which links to ``docs/`` lead to the pages of the site.
    """
    text = (root / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return re.sub(r"(?<=\]\()docs/", relpath(".", dirname(file_page(path))) + "/", text)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 0)
    return f"# {path}\n\n{fence}{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n{fence}\n"
