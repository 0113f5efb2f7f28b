"""The page of the suite format: a table of the keys of each mapping, from the JSON Schema."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from docs_site.markup import Page, code, escaped, table
from harness.suites.json_schema import schema_text

PATH = "reference/suite-format.md"
FIRST = ("StepsSuite", "OutputSuite", "BehaviourSuite", "Parameters", "StepsCase", "OutputCase", "BehaviourCase")
"""The mappings at the top of the page, from the outermost to the innermost. The other mappings follow in ABC order."""
MAX_CHOICES = 8

Schema = Mapping[str, Any]


def suite_format_page() -> Page:
    """Generate the page of the suite format."""
    known: Mapping[str, Schema] = json.loads(schema_text())["$defs"]
    names = [*FIRST, *sorted(set(known) - set(FIRST))]
    parts = [
        "# Suite format",
        "This page lists every key of a suite file, with its values and its default. "
        "[Write cases](../writing-cases.md) explains the keys with examples. `spyre-cb schema` prints the JSON Schema "
        "from which this page is generated.",
        *(part for name in names if "properties" in known[name] for part in _mapping(name, known[name])),
    ]
    return Page(PATH, "\n\n".join(parts) + "\n")


def _mapping(name: str, schema: Schema) -> Iterator[str]:
    yield f"## {name}"
    if about := schema.get("description"):
        yield about.replace("``", "`")
    required = schema.get("required", ())
    rows = [
        [code(key), in_words(value), "required" if key in required else _default(value)]
        for key, value in schema["properties"].items()
    ]
    yield table(["key", "value", "default"], rows)


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if isinstance(value, dict) or value in (None, [], ""):
        return "–"
    return code(json.dumps(value, ensure_ascii=False))


def in_words(schema: Schema) -> str:
    """Return a description in words, as Markdown, of the values that a JSON Schema allows."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})" if name != "JsonValue" else "any value"
    if "const" in schema:
        return code(str(schema["const"]))
    if "enum" in schema:
        choices = [code(str(value)) for value in schema["enum"]]
        more = f", … ({len(choices)})" if len(choices) > MAX_CHOICES else ""
        return f"{', '.join(choices[:MAX_CHOICES])}{more}"
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return " or ".join(dict.fromkeys(in_words(branch) for branch in branches if branch.get("type") != "null"))
    return _plain(schema)


_NAMES = {"string": "string", "boolean": "`true` or `false`", "null": "nothing"}


def _plain(schema: Schema) -> str:
    match schema.get("type"):
        case "array":
            inner = in_words(schema["items"]) if schema.get("items") else "values"
            return f"list of {inner}"
        case "object":
            values = schema.get("additionalProperties")
            return f"mapping to {in_words(values)}" if isinstance(values, dict) and values else "mapping"
        case "integer":
            return f"whole number{_bounds(schema)}"
        case "number":
            return f"number{_bounds(schema)}"
        case kind:
            return _NAMES.get(str(kind), "any value")


def _bounds(schema: Schema) -> str:
    words = [
        f" {word} {schema[key]:,}"
        for key, word in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "up to"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema and abs(schema[key]) < 10**9
    ]
    return escaped("".join(words)) and f" {escaped(''.join(words))}"
