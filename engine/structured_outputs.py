"""What an answer must look like, as vLLM names it: a JSON schema, a regular expression, a choice, or a grammar."""

import json as json_text
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["json", "regex", "choice", "grammar", "json_object"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class SamplingParamsError(ValueError):
    """Invalid sampling parameters; the message is one sentence."""


class StructuredOutputsError(SamplingParamsError):
    """What an answer should look like cannot be compiled, or the engine cannot compile; the message is one sentence."""


@dataclass(frozen=True)
class StructuredOutputsParams:
    """Exactly one of: a JSON schema (as text or as an object), a regular expression that the whole answer matches, a
    list of texts, a grammar (Lark, or EBNF as in llama.cpp), or ``json_object`` for any JSON object.

    ``disable_any_whitespace``: no white space between the parts of JSON but one space after a comma or colon.
    ``disable_additional_properties``: objects of a JSON schema have no properties beyond those it lists.

    Raises StructuredOutputsError.
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
            raise StructuredOutputsError(f"structured_outputs needs exactly one of {', '.join(KINDS)}, and has {found}")
        value = getattr(self, given[0])
        if value in ("", ()) or (isinstance(value, str) and not value.strip()):
            raise StructuredOutputsError(f"structured_outputs: {given[0]} must not be empty")
        if self.json_object is False:
            raise StructuredOutputsError("structured_outputs: json_object must be true, or left out")

    @property
    def kind(self) -> Kind:
        """The one that is given."""
        return next(name for name in KINDS if getattr(self, name) is not None)
