"""Generate the JSON Schema of suite files, with which editors complete and check them."""

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from harness.suites.schema import POLICY_NAMES, Suite, by_name, one_or_many


class _AsWritten(GenerateJsonSchema):
    """A generator of JSON Schemas that accept the values that a suite file may have before validators convert them.

    For example, a key with a list of names also accepts a single name, which a validator converts to a list. The schema
    that pydantic generates by default accepts only the list.
    """

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        # A suite file can't have null for a key that need not be given.
        return self.generate_inner(schema["schema"])

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        kept = super().function_before_schema(schema)
        function = schema["function"]["function"]
        if function is one_or_many and "items" in kept:
            return {"anyOf": [kept["items"], kept]}
        return {"anyOf": [{"enum": list(POLICY_NAMES)}, kept]} if function is by_name else kept


def schema_text() -> str:
    """Return the JSON Schema of suite files as text. In a wheel it is also the file ``spyre_cb/suite.schema.json``."""
    schema = TypeAdapter(Suite).json_schema(schema_generator=_AsWritten)
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "A suite of spyre-cb"}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"
