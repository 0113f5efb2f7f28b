"""The suite key ``structured_outputs``, which constrains the answer of a request, for example to a JSON schema."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from harness.suites.schema.base import MisfitError, Model, as_tuple
from harness.types import STRUCTURE_KINDS, Structure

Words = Annotated[str, StringConstraints(min_length=1)]


class StructuredOutputs(Model):
    """The constraint of an answer: exactly one of ``json``, ``regex``, ``choice``, ``grammar`` and ``json_object``.

    These kinds have the same meaning as in vLLM. ``json`` is a JSON schema, given as a mapping or as a string.
    ``grammar`` is in the notation of Lark or of llama.cpp.
    """

    json_schema: Annotated[Words | dict[str, Any] | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)] | None = None
    grammar: Words | None = None
    json_object: Annotated[bool | None, Field(json_schema_extra={"enum": [True]})] = None

    @model_validator(mode="after")
    def _is_one(self) -> "StructuredOutputs":
        if len(self._given()) != 1:
            found = " and ".join(self._given()) or "none of them"
            what = f"structured_outputs needs exactly one of {', '.join(STRUCTURE_KINDS)}, not {found}"
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
        """Convert the constraint to the form that drivers take."""
        [(kind, value)] = self._given().items()
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return Structure(kind, text)

    @staticmethod
    def of(given: "StructuredOutputs | None") -> Structure | None:
        """Convert the constraint of a request, which may be None, to the form that drivers take."""
        return None if given is None else given.structure()

    def __str__(self) -> str:
        """Return a description of the constraint for reports."""
        return str(self.structure())
