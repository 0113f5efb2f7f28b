"""Convert syntax errors of PyYAML to messages that say where and how to correct the file."""

from typing import Any

import yaml

from harness.suites.yaml.values import Place

TAB = ("tabs are not allowed as indentation", "indent with spaces")
TAG = ("tags (`!…`) are not allowed", "remove it; quote the value if it is text")
MERGE = ("merge keys (`<<`) are not allowed", "write out the keys; `*name` is an alias for a whole value")
NO_CHARACTER = ("invalid Unicode escape in this text", "it is half of a surrogate pair, or beyond U+10FFFF")


def place_of(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


SEE = "see docs/writing-cases.md for a suite to start from"


def broken_syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Place, str, str]:
    """Return the position to correct, a message and a hint for an error of PyYAML's parser.

    ``text`` is the content of the file.
    """
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Place(1, 1), f"this file is not YAML: {error.problem}", SEE
    place = place_of(mark)
    began = place_of(error.context_mark) if error.context_mark else place
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation and mark.column <= len(indentation):
        return Place(place.line, indentation.index("\t") + 1), *TAB
    problem, context = str(error.problem), str(error.context)
    at_end = not "".join(lines[mark.line :])[mark.column :].strip()
    if "flow node" in context and at_end:
        return place, "a bracket that was opened is not closed", "write `]` or `}` where the list or mapping ends"
    if "flow" in context:
        closing = "`]`" if "sequence" in context else "`}`"
        if at_end:
            return began, f"there is no {closing} for this bracket", f"write {closing} where the list or mapping ends"
        hint = f"the bracket opens at line {began.line}, column {began.column}"
        return place, f"`,` or {closing} expected here", hint
    if "quoted scalar" in context and ("end of stream" in problem or "document" in problem):
        return began, "this quote is not closed", "close it; inside single quotes write '' for a single quote"
    if "Unicode character escape" in problem:
        return began, *NO_CHARACTER
    if "unknown escape" in problem:
        return began, "unknown escape after `\\` in double quotes", "write `\\\\`, or use single quotes"
    if "mapping values" in problem:
        return place, "`:` is not allowed here", "quote a text that contains `: `; align the keys of a mapping"
    if "entries are not allowed" in problem:
        return place, "a list cannot begin here", "begin it on a line of its own, or write [a, b]"
    if "cannot start any token" in problem:
        return place, f"a value cannot begin with `{line[mark.column : mark.column + 1]}`", "quote it"
    if "block mapping" in context or "block collection" in context or "<document start>" in problem:
        of = "mapping" if "mapping" in context else "list"
        before = "the text before it" if context == "None" else f"the {of} that began on line {began.line}"
        what = f"does not fit {before}"
        return place, what, "check the indentation, and that nothing follows a closing quote or bracket"
    if "tag" in problem or "tag" in context:
        return place, *TAG
    return place, f"this is not YAML: {problem}", SEE
