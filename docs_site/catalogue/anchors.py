"""Find the heading of the rule that a requirement comes from, and the unit tests that name a requirement."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from markdown.extensions.toc import slugify


def rule_anchor(page: Path, source: str) -> str:
    """Return the anchor of the heading in ``page`` that begins with ``source``.

    Raises ValueError if no heading begins with it.
    """
    for line in page.read_text(encoding="utf-8").splitlines():
        heading = line.lstrip("#").strip().replace("`", "")
        if line.startswith("#") and heading.startswith(source):
            return str(slugify(heading, "-"))
    raise ValueError(f"{page}: no heading begins with {source!r}, which suites/requirements.yaml names as a source")


def marked_tests(folder: Path) -> Mapping[str, list[str]]:
    """Return, for each requirement, the ids of the tests below ``folder`` with its ``@pytest.mark.requirement``."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for name, test in _marked(path):
            found.setdefault(name, []).append(f"{path.relative_to(folder.parent)}::{test}")
    return found


def _marked(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (requirement id, name of a test function marked with it) for the test functions in the file ``path``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
                yield from ((ast.literal_eval(argument), node.name) for argument in mark.args)
