"""Digests of files, to detect that they were changed between two runs."""

import hashlib
from pathlib import Path

from harness.utils.files import read_ordinary

_UNREADABLE = bytes(hashlib.sha256().digest_size)
"""What ``digest_of`` has in place of the SHA-256 of a file that can't be read. No known content has this SHA-256."""


def digest_of(*contents: bytes | None) -> str:
    """Return 16 hexadecimal digits that depend on every byte of ``contents`` and on their order.

    None, the content of a file that can't be read, counts as different from every content, also from an empty one.
    """
    parts = [_UNREADABLE if each is None else hashlib.sha256(each).digest() for each in contents]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def content(path: Path) -> bytes | None:
    """Return the bytes of a file; None if it can't be read, so that its digest changes when it becomes readable."""
    try:
        return read_ordinary(path)
    except OSError:
        return None
