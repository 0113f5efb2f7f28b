"""Load suite files. Each mistake is reported on one line: file, line, column, key, what is wrong, and a hint."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.suites.keys import SUITES
from harness.suites.mistakes import explained, listed, null_errors
from harness.suites.schema import FOLDER, BehaviourSuite, OutputSuite, StepsSuite, Suite
from harness.suites.yaml import (
    Problem,
    Source,
    YamlError,
    YamlPath,
    described,
    read_yaml,
    shown_file,
    shown_path,
)

__all__ = ["LoadedSuite", "Problem", "SuiteError", "load_suite"]

MAX_PROBLEMS = 20


class SuiteError(Exception):
    """Raised if a suite file has mistakes: ``problems`` has the first ones, ``more`` is the number of further ones."""

    def __init__(self, problems: Sequence[Problem], more: int = 0) -> None:
        lines = [*map(str, problems)]
        if more:
            lines.append(f"{shown_file(problems[0].file)}: and {more} more")
        super().__init__("\n".join(lines))
        self.problems = tuple(problems)
        self.more = more


@dataclass(frozen=True)
class LoadedSuite:
    """A suite with the text of its file. ``places`` has the position of each value in the file."""

    path: Path
    suite: StepsSuite | OutputSuite | BehaviourSuite
    text: str
    places: Source

    def problem(self, path: YamlPath, what: str, hint: str) -> Problem:
        """Return a ``Problem`` at the position of the value at ``path``, or of the nearest parent that the file has.

        ``what`` says what is wrong, and ``hint`` what to do.
        """
        place = self.places.place(self.places.resolve(path))
        return Problem(self.path, place.line, place.column, shown_path(path), what, hint)

    def place_of_case(self, index: int) -> str:
        """Return the position of a case as ``file:line:column``."""
        place = self.places.place(("cases", index))
        return f"{shown_file(self.path)}:{place.line}:{place.column}"

    def line_of_case(self, index: int) -> int:
        """Return the number of the line in the suite file, counted from 1, on which the case ``index`` begins."""
        return self.places.place(("cases", index)).line

    def source_of_case(self, index: int) -> tuple[int, str]:
        """Return (number of the line on which a case begins, counted from 1, text of the case in the suite file)."""
        node = self.places.node(("cases", index))
        lines = self.text.splitlines()[node.place.line - 1 : node.last_line]
        return node.place.line, "\n".join(lines).rstrip()


def load_suite(path: Path) -> LoadedSuite:
    """Load a suite file. Raises SuiteError, and no other exception, if it can't be read or has mistakes."""
    try:
        source = read_yaml(path)
    except YamlError as error:
        raise _suite_error(error.problems) from error
    except (OSError, ValueError) as error:
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise _suite_error([Problem(path, 1, 1, "", what, "give the path of a readable YAML file")]) from error
    if problem := _no_suite(path, source):
        raise _suite_error([problem])
    try:
        suite = _validated(source.data, {FOLDER: path.parent})
    except ValidationError as error:
        raise _suite_error(explained(path, source, error.errors(include_url=False))) from error
    if nulls := [*null_errors(suite)]:
        raise _suite_error(explained(path, source, nulls))
    return LoadedSuite(path, suite, source.text, source)


def _validated(data: dict[str, Any], context: dict[str, Any]) -> StepsSuite | OutputSuite | BehaviourSuite:
    """Validate the content of a suite file.

    ``context`` is the context of pydantic's validators. A suite is validated with the pydantic model of its kind,
    because building the union type of all kinds takes much longer. A suite with mistakes is then validated again with
    the union type, whose error messages also list the kinds that exist.
    """
    kind = data.get("kind")
    model = SUITES.get(kind) if isinstance(kind, str) else None
    if model is not None:
        try:
            return model.model_validate(data, context=context)
        except ValidationError:
            pass
    every: TypeAdapter[StepsSuite | OutputSuite | BehaviourSuite] = TypeAdapter(Suite)
    return every.validate_python(data, context=context)


def _suite_error(problems: Iterable[Problem]) -> SuiteError:
    """Return the SuiteError for these problems, sorted by their position in the file.

    A mistake in a value that has aliases is found several times, but listed only once.
    """
    once = {(problem.line, problem.column, problem.what): problem for problem in reversed([*problems])}
    ordered = sorted(once.values(), key=lambda problem: (problem.line, problem.column))
    return SuiteError(ordered[:MAX_PROBLEMS], max(0, len(ordered) - MAX_PROBLEMS))


def _no_suite(file: Path, source: Source) -> Problem | None:
    place, content = source.root.place, source.root.content
    if not isinstance(content, dict):
        what = f"a suite is a mapping with `suite`, `kind` and `cases`, not {described(source.root)}"
        return Problem(
            file, place.line, place.column, "", what, "such as `suite: mine`, `kind: output`, `cases: [...]`"
        )
    if "suite" not in content and "kind" not in content:
        what = "this file is not a suite: the keys `suite` and `kind` are missing"
        return Problem(file, place.line, place.column, "", what, f"kinds are {listed(SUITES, 'and')}")
    return None
