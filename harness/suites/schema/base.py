"""Building blocks of the suite format: strict models, bounded numbers, names, and MisfitError."""

from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=100)]
SuiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$", max_length=200)]
MarkerName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$", max_length=60)]
RequirementId = Annotated[str, StringConstraints(pattern=r"^[A-Z]+(-[A-Z0-9]+)+$", max_length=60)]

# Bounds far above any engine: a typo is an error here, rather than an hour of run time or memory exhaustion.
MOST = 1_000_000_000
LONGEST = 1_000_000
Size = Annotated[int, Field(gt=0, le=MOST)]
Number = Annotated[int, Field(ge=0, le=MOST)]
Length = Annotated[int, Field(gt=0, le=LONGEST)]
LATEST = 100_000
StepNumber = Annotated[int, Field(ge=0, le=LATEST)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class MisfitError(ValueError):
    """Fields that contradict each other. ``at`` is the path from the model to the field, ``hint`` what to do."""

    def __init__(self, what: str, *at: str | int, hint: str = "") -> None:
        super().__init__(what)
        self.at = at
        self.hint = hint


def as_tuple(value: Any) -> Any:
    """Return a YAML list as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def one_or_many(value: Any) -> Any:
    """Return a list as it is, and a single value as a list of one."""
    return as_tuple(value) if isinstance(value, list | tuple) or value is None else (value,)


RENAMED_KEYS = MappingProxyType({"door": "entry_point"})
"""Keys of earlier versions of the suite format, and their new names."""


class Model(BaseModel):
    """Base of all models: strict types, no unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


Ids = Annotated[tuple[Number, ...], BeforeValidator(as_tuple)]
PYTESTS_OWN_MARKERS = frozenset(
    {"filterwarnings", "parametrize", "skip", "skipif", "timeout", "tryfirst", "trylast", "usefixtures", "xfail"}
)
"""Markers that make pytest, or a plugin that the project uses, do something: a suite's only select tests."""


def _a_suites_own(name: str) -> str:
    if name in PYTESTS_OWN_MARKERS:
        what = f"{name} is a marker of pytest's own, which changes what it does with a test"
        raise MisfitError(what, hint="a suite's markers select tests with -m: choose another name")
    return name


Names = Annotated[tuple[Annotated[MarkerName, AfterValidator(_a_suites_own)], ...], BeforeValidator(one_or_many)]
Requirements = Annotated[tuple[RequirementId, ...], BeforeValidator(one_or_many)]
