"""Explain the mistakes of suite files: convert the errors of pydantic to messages with positions and hints."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Union, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.suites.hints import example_of
from harness.suites.keys import SUITES, field_at, known_keys
from harness.suites.schema import (
    MarkerName,
    MisfitError,
    RequirementId,
    Slug,
    SuiteName,
    columns_of_cells,
    example_of_row,
)
from harness.suites.schema.base import RENAMED_KEYS
from harness.suites.yaml import Node, Problem, Source, YamlPath, described, reads_as, shortened, shown_path
from harness.utils.validation import TYPES, must_be


@dataclass(frozen=True)
class _Finding:
    """A mistake in a suite file: in the value at ``path`` or, if ``of_key`` is True, in the key of this value."""

    path: YamlPath
    what: str
    hint: str = ""
    of_key: bool = False


def explained(file: Path, source: Source, errors: Iterable[Any]) -> Iterator[Problem]:
    """Yield one problem for each mistake in the file. ``errors`` are those of pydantic's ``ValidationError.errors()``.

    pydantic may report a mistake more than once.
    """
    details = [(_path(source, detail["loc"][1:]), detail) for detail in errors]
    # A misspelt key such as max_token is one mistake. Do not also report that max_tokens is missing.
    unknown = [path for path, detail in details if detail["type"] == "extra_forbidden"]
    meant = {(*path[:-1], _meant(source, path)) for path in unknown}
    meant |= {(*above, path[-1]) for path in unknown if (above := _mapping_above(path)) is not None}
    findings: dict[YamlPath, list[_Finding]] = {}
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
            key = (detail["loc"][-1],) if detail["type"] == "missing" else ()
            finding = replace(finding, hint=_example(source, (*finding.path, *key)))
        findings.setdefault(finding.path, []).append(finding)
    for finding in (each for found in findings.values() for each in _merged(source, found)):
        place = source.key_place(finding.path) if finding.of_key else source.place(finding.path)
        yield Problem(file, place.line, place.column, _where(source, finding.path), finding.what, finding.hint)


def _merged(source: Source, findings: Sequence[_Finding]) -> Sequence[_Finding]:
    """Return the findings about a value, those of the alternatives of a union as one.

    If a value can be text or a mapping, pydantic reports that it is not text, and that it is not a mapping.
    """
    empty = [each for each in findings if each.what == "must not be empty"]
    if empty:  # The value has the type of this alternative.
        return empty
    path, before = findings[0].path, "must be "
    after = f", not {described(source.node(path))}"
    alternatives = [each for each in findings if each.what.startswith(before) and each.what.endswith(after)]
    if len(alternatives) < 2:
        return findings
    wanted = dict.fromkeys(each.what.removeprefix(before).removesuffix(after) for each in alternatives)
    others = [each for each in findings if each not in alternatives]
    return [_Finding(path, f"{before}{' or '.join(wanted)}{after}", _example(source, path)), *others]


def _example(source: Source, path: YamlPath) -> str:
    """Return the hint with an example of the value at ``path``, "" if there is none."""
    if columns := _columns_of_row(source, path):
        return example_of_row(columns)
    field = field_at(source, path)
    return example_of(*field) if field else ""


def null_errors(model: BaseModel, at: YamlPath = ()) -> Iterator[Any]:
    """Yield an error, in the form of pydantic's, for each null in a suite file whose place is not for any JSON value.

    pydantic accepts null for a key that need not be given. But such a key has no effect: with ``token_counts: null``
    nothing would be compared. ``at`` is the path of ``model`` in the file.
    """
    for name in model.model_fields_set:
        field, value = type(model).model_fields[name], getattr(model, name)
        path = (*at, field.alias or name)
        if value is None:
            yield from ({**error, "loc": ("", *path)} for error in _errors_of_null(field.annotation))
        elif isinstance(value, BaseModel):
            yield from null_errors(value, path)
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from null_errors(item, (*path, i))


def _errors_of_null(annotation: Any) -> Sequence[Any]:
    """Return the errors of null for the types in ``annotation`` other than None. Return none if it has no None."""
    kinds = get_args(annotation)
    if NoneType not in kinds:
        return ()
    others: Any = Union[tuple(kind for kind in kinds if kind is not NoneType)]  # noqa: UP007
    adapter: TypeAdapter[Any] = TypeAdapter(others)
    try:
        adapter.validate_python(None, strict=True)
    except ValidationError as error:
        return error.errors(include_url=False)
    return ()


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
    if len(path) <= 5 or not _is_steps(path[:4]):
        return ()
    row = source.node(path[:5]).content
    if not isinstance(row, list):
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
            return _Finding(("kind",), *_not_a_choice([*SUITES], node))
        case "literal_error":
            choices = _choices(context["expected"])
            return _Finding(path, *_not_a_choice(choices, node, "a list of rows" if _is_steps(path) else ""))
        case "value_error":
            mistake = context["error"]
            at = mistake.at if isinstance(mistake, MisfitError) else ()
            hint = mistake.hint if isinstance(mistake, MisfitError) else ""
            of_key = detail["loc"][-1] == "[key]"
            return _Finding(source.resolve((*path, *at)), str(mistake), hint, of_key)
        case "string_pattern_mismatch":
            words, example = _PATTERNS[context["pattern"]]
            return _Finding(path, _must_be(words, node), f"such as `{example}`")
        case "model_type":
            hint = f"known keys: {', '.join(known_keys(source, path))}"
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
        case "dict_type":
            return _Finding(path, _must_be("a mapping", node))
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
    wanted = f"{listed(choices, 'or')} or {otherwise}" if otherwise else listed(choices, "or")
    given = node.content if isinstance(node.content, str) else node.raw
    unquoted = not isinstance(node.content, str) and node.raw in choices
    hint = _type_hint("string_type", node) if unquoted else _did_you_mean(_closest(given, choices))
    return _must_be(wanted, node), hint


def _type_hint(kind: str, node: Node) -> str:
    """Return a hint for a value of the wrong type, "" if there is none."""
    content = node.content
    if kind == "string_type" and node.raw:
        return f"YAML reads `{shortened(node.raw)}` as {reads_as(content)}; quote it"
    if kind == "tuple_type" and node.raw and content is not None:
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
    above = _mapping_above(path)
    if above is not None and path[-1] in known_keys(source, above):
        where = f"in {shown_path(above)}" if above else "at the top of the suite"
        return _Finding(path, "unknown key", f"`{path[-1]}` belongs one level up, {where}", of_key=True)
    hint = _did_you_mean(meant) or f"known keys: {', '.join(known_keys(source, path[:-1]))}"
    return _Finding(path, "unknown key", hint, of_key=True)


def _mapping_above(path: YamlPath) -> YamlPath | None:
    """Return the path of the mapping around the mapping that has the key at ``path``, None if there is none."""
    keys = [i for i, part in enumerate(path) if isinstance(part, str)]
    return path[: keys[-2]] if len(keys) > 1 else None


def _no_kind(source: Source) -> _Finding:
    known = {name for suite in SUITES.values() for name in suite.model_fields}
    unknown = [name for name in source.root.keys if name not in known]
    if almost := _closest("kind", unknown):
        return _Finding((almost,), "unknown key", _did_you_mean("kind"), of_key=True)
    return _Finding((), "the key `kind` is missing", f"kinds are {listed(SUITES, 'and')}")


def _meant(source: Source, path: YamlPath) -> str:
    name = str(path[-1])
    return RENAMED_KEYS.get(name) or _closest(name, known_keys(source, path[:-1]))


def _closest(word: str, choices: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(word, list(choices), n=1)), "")


def _did_you_mean(word: str) -> str:
    return f"did you mean `{word}`?" if word else ""


def listed(words: Iterable[str], conjunction: str) -> str:
    *others, last = (f"`{word}`" for word in words)
    return f"{', '.join(others)} {conjunction} {last}" if others else last


def _plain_number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
