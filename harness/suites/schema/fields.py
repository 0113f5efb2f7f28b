"""Expected fields and headers of raw HTTP responses."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, JsonValue

from harness.suites.schema.base import Model

_PATH = re.compile(r"([A-Za-z_][\w-]*)((\.[A-Za-z_][\w-]*)|\[(-?\d+|\*)\])*")


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path: names and positions, such as choices[0].text or chunks[*].id")
    return path


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


FieldPath = Annotated[str, AfterValidator(_checked_path)]
Pattern = Annotated[str, AfterValidator(_checked_pattern)]
"""A regular expression that must match a whole header."""


class SameAs(Model):
    """The value of another field."""

    same_as: FieldPath


class Joined(Model):
    """The texts of another field as one."""

    joined: FieldPath


class OffsetsOf(Model):
    """The position of each of the texts of another field in all of them as one."""

    offsets_of: FieldPath


def _relation(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kinds: dict[str, type[Model]] = {"same_as": SameAs, "joined": Joined, "offsets_of": OffsetsOf}
    if len(value) != 1 or (name := next(iter(value))) not in kinds:
        raise ValueError(f"an object has one of {', '.join(kinds)}, with a path")
    return kinds[name].model_validate(value)


Expected = Annotated[SameAs | Joined | OffsetsOf | JsonValue, BeforeValidator(_relation)]
"""A value of JSON, or what another field says."""
