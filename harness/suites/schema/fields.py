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


class Near(Model):
    """The expected value of a field: a number, or a list of numbers. Each may differ from ``near`` by ``MARGIN``."""

    near: float | list[float]


MARGIN = 1e-3
"""Maximum absolute difference between a number of a response and the expected number (``Near``)."""


def _relation(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kinds: dict[str, type[Model]] = {"same_as": SameAs, "joined": Joined, "offsets_of": OffsetsOf, "near": Near}
    if len(value) != 1 or (name := next(iter(value))) not in kinds:
        raise ValueError(
            "an expected value that is an object must have exactly one key: same_as, joined or offsets_of with a path, "
            "or near with a number or a list of numbers"
        )
    return kinds[name].model_validate(value)


Expected = Annotated[SameAs | Joined | OffsetsOf | Near | JsonValue, BeforeValidator(_relation)]
"""An expected value: a JSON value, a value that follows from another field of the response, or approximate numbers."""
