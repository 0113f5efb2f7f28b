"""Digests of files, to detect that they were changed between two runs."""

import hashlib
from pathlib import Path


def digest_of(*contents: bytes) -> str:
    """Return 16 hexadecimal digits that depend on every byte of ``contents`` and on their order."""
    parts = [hashlib.sha256(content).digest() for content in contents]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def content(path: Path) -> bytes:
    """Return the bytes of a file; b"" if it can't be read, so that its digest changes when it becomes readable."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
