"""``spyre-cb schema``: the JSON Schema of suite files, for editors."""

import json
from argparse import Namespace
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from harness.cli.arguments import Subparsers, add_command
from harness.suites.schema import POLICY_NAMES, Suite, by_name, one_or_many

_EXAMPLES = """\
  spyre-cb schema > suite.schema.json
"""


class _AsWritten(GenerateJsonSchema):
    """The schema of what may be written, where pydantic by itself gives that of what is kept."""

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        kept = super().function_before_schema(schema)
        function = schema["function"]["function"]
        if function is one_or_many and "items" in kept:
            return {"anyOf": [kept["items"], kept]}
        return {"anyOf": [{"enum": list(POLICY_NAMES)}, kept]} if function is by_name else kept


def add_to(subparsers: Subparsers) -> None:
    add_command(subparsers, "schema", run, "print the JSON Schema of suite files", _EXAMPLES)


def run(_: Namespace) -> int:
    """Print the schema."""
    schema = TypeAdapter(Suite).json_schema(schema_generator=_AsWritten)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "A suite of spyre-cb"}
    print(json.dumps(head | schema, indent=2, ensure_ascii=False))
    return 0
