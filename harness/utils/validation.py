"""Convert validation errors of pydantic to messages for users."""

import re
from collections.abc import Mapping
from typing import Any

TYPES: Mapping[str, str] = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
}
"""Names of types in messages, by the type of pydantic's error."""
MAPPINGS = ("model_type", "dict_type")


def must_be(error: Mapping[str, Any], mapping: str) -> str:
    """Return what a value must be according to a validation error of pydantic, such as ``must be a whole number``.

    ``error`` is an element of ``ValidationError.errors()``. ``mapping`` is the word for a mapping in the format of the
    user's file: ``a mapping`` in YAML, ``an object`` in JSON. For an error that is not about the type of the value,
    return pydantic's message with ``must`` instead of ``should``.
    """
    kind = error["type"]
    if kind in MAPPINGS:
        return f"must be {mapping}"
    if kind in TYPES:
        return f"must be {TYPES[kind]}"
    return re.sub(r"^\w+ should ", "must ", error["msg"])
