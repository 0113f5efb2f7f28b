"""A helper for values whose type allows None: ``present`` asserts that the value is not None, and returns it."""

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    assert value is not None
    return value
