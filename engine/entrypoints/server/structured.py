"""The fields that prescribe the format of an answer: vLLM's ``structured_outputs`` and OpenAI's ``response_format``.

This module checks only the types of these fields; engine/grammars.py compiles the formats.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from engine.entrypoints.server.errors import MAX_NAME, shortened
from engine.entrypoints.server.fields import Body, Text
from engine.structured_outputs import StructuredOutputsParams


def check_schema(value: object) -> object:
    """Return ``value`` if it is an object or a string; otherwise raise ValueError with one sentence."""
    if isinstance(value, str | dict):
        return value
    raise ValueError("must be a JSON schema, as an object or as a string")


Schema = Annotated[str | dict[str, Any], BeforeValidator(check_schema)]


class StructuredOutputs(Body):
    """vLLM's ``structured_outputs``. The field ``schema_`` is called ``json`` in the body."""

    schema_: Schema | None = Field(default=None, alias="json")
    regex: Text | None = None
    choice: list[Text] | None = None
    grammar: Text | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False

    def params(self) -> StructuredOutputsParams:
        """Return the parameters for the engine. Raises StructuredOutputsError unless exactly one format is given."""
        return StructuredOutputsParams(
            json=self.schema_,
            regex=self.regex,
            choice=None if self.choice is None else tuple(self.choice),
            grammar=self.grammar,
            json_object=self.json_object,
            disable_any_whitespace=self.disable_any_whitespace,
            disable_additional_properties=self.disable_additional_properties,
        )


class JsonSchema(Body):
    """OpenAI's ``json_schema``. Only ``schema`` has an effect. As in vLLM, ``strict: false`` is ignored."""

    name: Text
    schema_: dict[str, Any] = Field(alias="schema")
    description: Text | None = None
    strict: bool | None = None


class AnyText(Body):
    type: Literal["text"]

    def params(self) -> None:
        return None


class JsonObject(Body):
    type: Literal["json_object"]

    def params(self) -> StructuredOutputsParams:
        return StructuredOutputsParams(json_object=True)


class JsonOfSchema(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema

    def params(self) -> StructuredOutputsParams:
        return StructuredOutputsParams(json=self.json_schema.schema_)


def check_type(value: object) -> object:
    """Return ``value`` if it is an object whose ``type`` is known; otherwise raise ValueError with a sentence."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    *others, last = map(repr, _TYPES)
    wanted = f"{', '.join(others)} or {last}"
    if "type" not in value:
        raise ValueError(f"type is missing: it must be {wanted}")
    if value["type"] not in _TYPES:
        raise ValueError(f"type must be {wanted}, not {shortened(repr(value['type']), MAX_NAME)}")
    return value


_TYPES = ("text", "json_object", "json_schema")
ResponseFormat = Annotated[
    AnyText | JsonObject | JsonOfSchema, Field(discriminator="type"), BeforeValidator(check_type)
]
