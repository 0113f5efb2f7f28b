"""Tests of the JSON Schema of suite files."""

import json

from harness.suites.json_schema import schema_text


def test_no_key_can_be_null() -> None:
    definitions = json.loads(schema_text())["$defs"]
    assert definitions["Outcome"]["properties"]["token_counts"]["type"] == "array"
    assert '"type": "null"' not in schema_text()
