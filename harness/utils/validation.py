"""Say in plain words what pydantic found wrong with a value."""

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
"""What a value must be, by the type of pydantic's error."""
MAPPINGS = ("model_type", "dict_type")


def must_be(error: Mapping[str, Any], mapping: str) -> str:
    """Return, for an error of pydantic, what the value must be, such as ``must be a whole number``.

    ``error`` is an element of ``ValidationError.errors()``. ``mapping`` is the name of a mapping in the file's format,
    ``a mapping`` in YAML and ``an object`` in JSON. For an error that is not about a type, return pydantic's message,
    with ``must`` instead of ``should``.
    """
    kind = error["type"]
    if kind in MAPPINGS:
        return f"must be {mapping}"
    if kind in TYPES:
        return f"must be {TYPES[kind]}"
    return re.sub(r"^\w+ should ", "must ", error["msg"])
