"""``present`` returns a value whose type allows None, after an assertion that it is not None."""

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    assert value is not None
    return value
