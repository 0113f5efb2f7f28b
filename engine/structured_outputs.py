"""Structured outputs: the format that an answer must have, with the names of vLLM.

A format is a JSON schema, any JSON object, a regular expression, a choice of strings, or a grammar.
"""

import json as json_text
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["json", "regex", "choice", "grammar", "json_object"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class SamplingParamsError(ValueError):
    """Invalid sampling parameters; the message is one sentence."""


class StructuredOutputsError(SamplingParamsError):
    """Structured outputs that cannot be compiled: they are invalid, or the engine has no tokenizer or no llguidance.

    The message is one sentence.
    """


@dataclass(frozen=True)
class StructuredOutputsParams:
    """The format that an answer must have. Exactly one of the first five fields must be set.

    ``json`` is a JSON schema, as a string or as an object. ``regex`` is a regular expression that the whole answer must
    match. ``choice`` is a list of strings, one of which is the answer. ``grammar`` is in the format of Lark, or EBNF as
    in llama.cpp. ``json_object`` means any JSON object. With ``disable_any_whitespace``, JSON has no white space except
    one space after a comma or colon. With ``disable_additional_properties``, objects have only the properties that the
    JSON schema lists.

    Raises StructuredOutputsError if none or several of the five fields are set, if the one that is set is empty (only
    ``regex`` may be empty), or if ``json_object`` is False.
    """

    json: str | Mapping[str, Any] | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.json, Mapping):
            object.__setattr__(self, "json", json_text.dumps(self.json))
        if self.choice is not None:
            object.__setattr__(self, "choice", tuple(self.choice))
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise StructuredOutputsError(f"structured_outputs needs exactly one of {', '.join(KINDS)}, but has {found}")
        value = getattr(self, given[0])
        # A regular expression may be empty, or consist of white space: it matches the empty text, or that white space.
        if value == () or (isinstance(value, str) and not value.strip() and given[0] != "regex"):
            raise StructuredOutputsError(f"structured_outputs: {given[0]} must not be empty")
        if self.json_object is False:
            raise StructuredOutputsError("structured_outputs: json_object must be true, or left out")

    @property
    def kind(self) -> Kind:
        """Return the name of the field that has the format, for example ``regex``."""
        return next(name for name in KINDS if getattr(self, name) is not None)
