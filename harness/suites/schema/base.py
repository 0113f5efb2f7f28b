"""The base class of the pydantic models of the suite format, the types of numbers and names, and MisfitError."""

import unicodedata
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.fields import FieldInfo

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=100)]
SuiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$", max_length=200)]
MarkerName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=60)]
RequirementId = Annotated[str, StringConstraints(pattern=r"^[A-Z]+(-[A-Z0-9]+)+$", max_length=60)]

# No engine reaches these bounds. A number with a few zeros too many is refused before it exhausts the memory.
MOST = 1_000_000_000
LONGEST = 1_000_000
Size = Annotated[int, Field(gt=0, le=MOST)]
Number = Annotated[int, Field(ge=0, le=MOST)]
Length = Annotated[int, Field(gt=0, le=LONGEST)]
LATEST = 100_000
StepNumber = Annotated[int, Field(ge=0, le=LATEST)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class MisfitError(ValueError):
    """Raised by a validator if fields of a suite contradict each other.

    ``at`` is the path of the wrong field, relative to the pydantic model whose validator raises the error. ``hint``
    says what to do.
    """

    def __init__(self, what: str, *at: str | int, hint: str = "") -> None:
        super().__init__(what)
        self.at = at
        self.hint = hint


def as_tuple(value: Any) -> Any:
    """Convert a list to a tuple. Other values are returned unchanged."""
    return tuple(value) if isinstance(value, list) else value


def one_or_many(value: Any) -> Any:
    """Convert a list to a tuple, and a single value to a tuple with this value."""
    return as_tuple(value) if isinstance(value, list | tuple) or value is None else (value,)


RENAMED_KEYS = MappingProxyType({"door": "entry_point", "pieces": "chunks"})
"""Keys of earlier versions of the suite format, each with its present name, for error messages."""


class Model(BaseModel):
    """The base class of all pydantic models: types are strict, unknown keys are errors, and instances are frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a pydantic model by the keys that they have in suite files."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


Ids = Annotated[tuple[Number, ...], BeforeValidator(as_tuple)]
PYTESTS_OWN_MARKERS = frozenset(
    {"filterwarnings", "parametrize", "skip", "skipif", "timeout", "tryfirst", "trylast", "usefixtures", "xfail"}
)
"""Markers that change how pytest or one of its plugins runs a test. A suite must not give them to its tests."""


def _a_suites_own(name: str) -> str:
    if name in PYTESTS_OWN_MARKERS:
        what = f"the marker {name} is not allowed in a suite, because it changes how pytest runs a test"
        raise MisfitError(what, hint="choose another name")
    return name


def _without_controls(text: str) -> str:
    wrong = next((character for character in text if unicodedata.category(character) == "Cc" and character != "\n"), "")
    if wrong:
        what = f"the control character U+{ord(wrong):04X} is not allowed, because terminals print this text"
        raise MisfitError(what, hint="leave it out; line breaks are allowed")
    return text


About = Annotated[str, AfterValidator(_without_controls)]
"""A text for readers, which is printed as it is."""
Names = Annotated[tuple[Annotated[MarkerName, AfterValidator(_a_suites_own)], ...], BeforeValidator(one_or_many)]
Requirements = Annotated[tuple[RequirementId, ...], BeforeValidator(one_or_many)]
