"""Read JSON objects in which no key occurs twice. Without this check, ``json`` keeps the last value of such a key."""

from typing import Any


class RepeatedKeyError(ValueError):
    """A key occurs twice in a JSON object. ``key`` is this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} occurs twice")
        self.key = key


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict: the ``object_pairs_hook`` of ``json.loads``.

    Raises RepeatedKeyError if a key occurs twice.
    """
    read: dict[str, Any] = {}
    for key, value in pairs:
        if key in read:
            raise RepeatedKeyError(key)
        read[key] = value
    return read
