"""Load suite files. Each mistake is reported on one line: file, line, column, key, what is wrong, and a hint."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.suites.hints import example_of
from harness.suites.schema import (
    FOLDER,
    BehaviourSuite,
    MarkerName,
    MisfitError,
    OutputSuite,
    RequirementId,
    Slug,
    StepsSuite,
    Suite,
    SuiteName,
    columns_of_cells,
    example_of_row,
)
from harness.suites.schema.base import RENAMED_KEYS
from harness.suites.yaml import (
    Node,
    Problem,
    Source,
    YamlError,
    YamlPath,
    described,
    read_yaml,
    reads_as,
    shortened,
    shown_file,
    shown_path,
)
from harness.utils.validation import TYPES, must_be

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
        raise _suite_error(_explained(path, source, error)) from error
    return LoadedSuite(path, suite, source.text, source)


_SUITES: Mapping[str, type[StepsSuite | OutputSuite | BehaviourSuite]] = MappingProxyType(
    {get_args(model.model_fields["kind"].annotation)[0]: model for model in (StepsSuite, OutputSuite, BehaviourSuite)}
)


def _validated(data: dict[str, Any], context: dict[str, Any]) -> StepsSuite | OutputSuite | BehaviourSuite:
    """Validate the content of a suite file.

    ``context`` is the context of pydantic's validators. A suite is validated with the pydantic model of its kind,
    because building the union type of all kinds takes much longer. A suite with mistakes is then validated again with
    the union type, whose error messages also list the kinds that exist.
    """
    kind = data.get("kind")
    model = _SUITES.get(kind) if isinstance(kind, str) else None
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
        return Problem(file, place.line, place.column, "", what, f"kinds are {_listed(_SUITES, 'and')}")
    return None


@dataclass(frozen=True)
class _Finding:
    """A mistake in a suite file: in the value at ``path`` or, if ``of_key`` is True, in the key of this value."""

    path: YamlPath
    what: str
    hint: str = ""
    of_key: bool = False


def _explained(file: Path, source: Source, error: ValidationError) -> Iterator[Problem]:
    """Yield one problem for each mistake in the file. pydantic may report a mistake more than once."""
    details = [(_path(source, detail["loc"][1:]), detail) for detail in error.errors(include_url=False)]
    # A misspelt key such as max_token is one mistake. Do not also report that max_tokens is missing.
    meant = {(*path[:-1], _meant(source, path)) for path, detail in details if detail["type"] == "extra_forbidden"}
    for path, detail in details:
        if detail["type"] == "missing" and (*path, detail["loc"][-1]) in meant:
            continue
        # ``steps`` is a word or a list of rows. pydantic reports errors for both types, but the author meant one of
        # them.
        other_branch = "literal_error" if isinstance(source.node(path).content, list) else "tuple_type"
        if _is_steps(path) and detail["type"] == other_branch:
            continue
        finding = _explain(source, path, detail)
        if not finding.hint:
            key = detail["loc"][-1] if detail["type"] == "missing" else ""
            columns = _columns_of_row(source, finding.path)
            example = example_of_row(columns) if columns else example_of((*finding.path, key) if key else finding.path)
            finding = replace(finding, hint=example)
        place = source.key_place(finding.path) if finding.of_key else source.place(finding.path)
        yield Problem(file, place.line, place.column, _where(source, finding.path), finding.what, finding.hint)


def _path(source: Source, location: tuple[str | int, ...]) -> YamlPath:
    """Convert ``location``, the place of a mistake in an error of pydantic, to the path of a value in the file.

    Names of the types of a union are removed. The index 0 is removed if the file has a single value in place of a list.
    """
    path: YamlPath = ()
    for part in location:
        if source.resolve((*path, part)) != path:
            path = (*path, part)
    return path


def _is_steps(path: YamlPath) -> bool:
    return len(path) == 4 and path[2:] == ("expect", "steps")


def _where(source: Source, path: YamlPath) -> str:
    """Return a path as messages show it, such as ``cases[2].limits``.

    For a cell of a step table, the path ends with the name of the cell's column in place of an index.
    """
    columns = _columns_of_row(source, path)
    if columns and isinstance(path[5], int):
        path = (*path[:5], columns[path[5]], *path[6:])
    return shown_path(path)


def _columns_of_row(source: Source, path: YamlPath) -> tuple[str, ...]:
    """Return the columns of the row of a step table in which the cell at ``path`` is.

    Return () if ``path`` is not the path of a cell of a step table, or of a value in a cell.
    """
    row = source.node(path[:5]).content
    if len(path) <= 5 or not _is_steps(path[:4]) or not isinstance(row, list):
        return ()
    return columns_of_cells([cell.content for cell in row])


def _explain(source: Source, path: YamlPath, detail: Any) -> _Finding:
    node, context = source.node(path), detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return _Finding(path, f"the key `{detail['loc'][-1]}` is missing")
        case "extra_forbidden":
            return _unknown_key(source, path)
        case "union_tag_not_found":
            return _no_kind(source)
        case "union_tag_invalid":
            node = source.node(("kind",))
            return _Finding(("kind",), *_not_a_choice([*_SUITES], node))
        case "literal_error":
            choices = _choices(context["expected"])
            return _Finding(path, *_not_a_choice(choices, node, "a list of rows" if _is_steps(path) else ""))
        case "value_error":
            mistake = context["error"]
            at = mistake.at if isinstance(mistake, MisfitError) else ()
            hint = mistake.hint if isinstance(mistake, MisfitError) else ""
            return _Finding(source.resolve((*path, *at)), str(mistake), hint)
        case "string_pattern_mismatch":
            words, example = _PATTERNS[context["pattern"]]
            return _Finding(path, _must_be(words, node), f"such as `{example}`")
        case "model_type":
            hint = f"known keys: {', '.join(_known_keys(source, path))}"
            return _Finding(path, _must_be("a mapping", node), hint)
        case "too_short" if context["min_length"] > 1:
            return _Finding(path, f"must have at least {context['min_length']} values, not {context['actual_length']}")
        case "too_short" | "string_too_short":
            return _Finding(path, "must not be empty")
        case "string_too_long":
            return _Finding(path, f"must have at most {context['max_length']} characters, not {len(str(node.content))}")
        case kind if kind in TYPES:
            return _Finding(path, _must_be(TYPES[kind], node), _type_hint(kind, node))
        case kind if kind in _BOUNDS:
            words, name = _BOUNDS[kind]
            return _Finding(path, _must_be(f"{words} {_plain_number(context[name])}", node))
        case _:
            return _Finding(path, must_be(detail, "a mapping"))


_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_PATTERNS = {
    get_args(constrained)[1].pattern: (words, example)
    for constrained, words, example in (
        (Slug, "lower-case letters and digits, in words joined by `-`, `.` or `_`", "joins-at-block-end"),
        (
            SuiteName,
            "lower-case letters and digits, in words joined by `/`, `-`, `.` or `_`",
            "scheduler_steps/joining",
        ),
        (MarkerName, "lower-case letters, digits and `_`, not beginning with a digit", "long_context"),
        (RequirementId, "capital letters and digits, in words joined by `-`", "CB-JOIN-02"),
    )
}


def _choices(expected: str) -> list[str]:
    """Return the values of a pydantic literal as they are in YAML. ``expected`` is the list in pydantic's error."""
    words = re.split(r", | or ", expected)
    return [word.strip("'") if word.startswith("'") else word.lower() for word in words]


def _must_be(wanted: str, node: Node) -> str:
    return f"must be {wanted}, not {described(node)}"


def _not_a_choice(choices: Sequence[str], node: Node, otherwise: str = "") -> tuple[str, str]:
    wanted = f"{_listed(choices, 'or')} or {otherwise}" if otherwise else _listed(choices, "or")
    given = node.content if isinstance(node.content, str) else node.raw
    unquoted = not isinstance(node.content, str) and node.raw in choices
    hint = _type_hint("string_type", node) if unquoted else _did_you_mean(_closest(given, choices))
    return _must_be(wanted, node), hint


def _type_hint(kind: str, node: Node) -> str:
    """Return a hint for a value of the wrong type, "" if there is none."""
    content = node.content
    if kind == "string_type" and node.raw:
        return f"YAML reads `{shortened(node.raw)}` as {reads_as(content)}; quote it"
    if kind == "tuple_type" and node.raw:
        return f"write [{shortened(node.raw)}]"
    if kind == "int_type" and isinstance(content, float) and content.is_integer():
        return f"write {content:.0f}" if abs(content) < 10**15 else ""
    if isinstance(content, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?|true|false", content):
        return "remove the quotes"
    return ""


def _unknown_key(source: Source, path: YamlPath) -> _Finding:
    meant = _meant(source, path)
    if str(path[-1]) in RENAMED_KEYS:
        return _Finding(path, "unknown key", f"`{path[-1]}` is now `{meant}`", of_key=True)
    hint = _did_you_mean(meant) or f"known keys: {', '.join(_known_keys(source, path[:-1]))}"
    return _Finding(path, "unknown key", hint, of_key=True)


def _no_kind(source: Source) -> _Finding:
    known = {name for suite in _SUITES.values() for name in suite.model_fields}
    unknown = [name for name in source.root.keys if name not in known]
    if almost := _closest("kind", unknown):
        return _Finding((almost,), "unknown key", _did_you_mean("kind"), of_key=True)
    return _Finding((), "the key `kind` is missing", f"kinds are {_listed(_SUITES, 'and')}")


def _meant(source: Source, path: YamlPath) -> str:
    name = str(path[-1])
    return RENAMED_KEYS.get(name) or _closest(name, _known_keys(source, path[:-1]))


def _known_keys(source: Source, path: YamlPath) -> list[str]:
    """Return the keys that are allowed in the mapping at ``path``."""
    model: type[BaseModel] = _SUITES[str(source.node(("kind",)).content)]
    for part in path:
        if isinstance(part, str):
            model = next(_models_in(model.model_fields[part].annotation))
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _closest(word: str, choices: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(word, list(choices), n=1)), "")


def _did_you_mean(word: str) -> str:
    return f"did you mean `{word}`?" if word else ""


def _listed(words: Iterable[str], conjunction: str) -> str:
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _plain_number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
