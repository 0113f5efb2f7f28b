"""What an answer of a request must look like."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from harness.suites.schema.base import MisfitError, Model, as_tuple
from harness.types import STRUCTURE_KINDS, Structure

Words = Annotated[str, StringConstraints(min_length=1)]


class StructuredOutputs(Model):
    """Exactly one of ``json`` (a JSON schema), ``regex``, ``choice``, ``grammar`` and ``json_object``, as in vLLM.

    The schema is an object or its text. A grammar is in Lark's or llama.cpp's notation.
    """

    json_schema: Annotated[Words | dict[str, Any] | None, Field(alias="json")] = None
    regex: Words | None = None
    choice: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)] | None = None
    grammar: Words | None = None
    json_object: Annotated[bool | None, Field(json_schema_extra={"enum": [True]})] = None

    @model_validator(mode="after")
    def _is_one(self) -> "StructuredOutputs":
        if len(self._given()) != 1:
            found = " and ".join(self._given()) or "none of them"
            what = f"an answer has one structure: exactly one of {', '.join(STRUCTURE_KINDS)}, not {found}"
            raise MisfitError(what, hint='such as `{choice: ["yes", "no"]}`')
        return self

    def _given(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "json": self.json_schema,
            "regex": self.regex,
            "choice": self.choice,
            "grammar": self.grammar,
            "json_object": self.json_object or None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def structure(self) -> Structure:
        """Return the structure as drivers take it."""
        [(kind, value)] = self._given().items()
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return Structure(kind, text)

    @staticmethod
    def of(given: "StructuredOutputs | None") -> Structure | None:
        """Return the structure of a request, None if it has none."""
        return None if given is None else given.structure()

    def __str__(self) -> str:
        """Return a description for readers of a report."""
        return str(self.structure())
