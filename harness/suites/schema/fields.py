"""The format of expected fields and headers of responses to raw HTTP requests."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, JsonValue

from harness.suites.schema.base import Model

_PATH = re.compile(r"([A-Za-z_][\w-]*)((\.[A-Za-z_][\w-]*)|\[(-?\d+|\*)\])*")


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path: write names and positions, such as choices[0].text or chunks[*].id")
    return path


def _checked_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


FieldPath = Annotated[str, AfterValidator(_checked_path)]
Pattern = Annotated[str, AfterValidator(_checked_pattern)]
"""A regular expression that must match the whole value of a header."""


class SameAs(Model):
    """The expected value of a field: the value of another field of the same response, at the path ``same_as``."""

    same_as: FieldPath


class Joined(Model):
    """The expected value of a field: the concatenation of the strings in the field at the path ``joined``."""

    joined: FieldPath


class OffsetsOf(Model):
    """The expected value of a field: the offset of each string of another field in the concatenation of these strings.

    ``offsets_of`` is the path of the other field, a list of strings.
    """

    offsets_of: FieldPath


def _relation(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kinds: dict[str, type[Model]] = {"same_as": SameAs, "joined": Joined, "offsets_of": OffsetsOf}
    if len(value) != 1 or (name := next(iter(value))) not in kinds:
        raise ValueError(
            f"an expected value that is an object must have exactly one of the keys {', '.join(kinds)}, "
            "with a path as its value"
        )
    return kinds[name].model_validate(value)


Expected = Annotated[SameAs | Joined | OffsetsOf | JsonValue, BeforeValidator(_relation)]
"""An expected value: a JSON value, or a value that follows from another field of the response."""
