"""SHA-256 of files and of whole checkpoints.

Small files are hashed once per process, unless they change. The digest of a file of ``REMEMBERED_FROM`` bytes or more
is stored in the cache folder by path, size and modification time, so that gigabytes need not be read at every start. A
change of a file that changes neither its path, nor its size, nor its modification time is not detected.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path

from checkpoints.errors import CheckpointError, one_line
from checkpoints.places import cache_folder

SUMS = "SHA256SUMS"
REMEMBERED_FROM = 16 * 2**20  # bytes

# The files that determine outputs, in addition to the weights; README files do not.
_CONTENT = frozenset(
    {
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)
_SUMS_LINE = re.compile(r"([0-9a-f]{64})  ([^/\s][^/]*)")


def content_files(folder: Path) -> tuple[Path, ...]:
    """Return the files directly in ``folder`` that determine outputs, sorted by name."""
    return tuple(sorted(path for path in folder.iterdir() if path.name in _CONTENT or path.suffix == ".safetensors"))


def content_digest(folder: Path) -> str:
    """Return the hex SHA-256 over the names and digests of ``content_files(folder)``; 64 characters.

    The digest does not depend on the location of the folder. Raises CheckpointError if a file cannot be read.
    """
    lines = (f"{file_digest(path)}  {path.name}\n" for path in content_files(folder))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of one file. It is cached: in this process or, for a large file, in the cache folder.

    Raises CheckpointError if the file cannot be read.
    """
    try:
        real = path.resolve(strict=True)  # files in the hub's cache are links, which have their own modification times
        status = real.stat()
        if status.st_size < REMEMBERED_FROM:
            return _digest_of_small(real, status.st_size, status.st_mtime_ns, status.st_ino)
        key = f"{os.fsdecode(real)}\0{status.st_size}\0{status.st_mtime_ns}"
        note = cache_folder() / "digests" / hashlib.sha256(os.fsencode(key)).hexdigest()
        known = _recall(note)
        if known is not None:
            return known
        digest = hash_file(real)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise CheckpointError(f"cannot read {str(path)!r}: {one_line(error)}") from None
    _remember(note, digest)
    return digest


def hash_file(path: Path) -> str:
    """Return the hex SHA-256 of one file. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` for every file directly in ``folder``, as ``sha256sum`` would."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SUMS)
    (folder / SUMS).write_text("".join(f"{hash_file(path)}  {path.name}\n" for path in files))


def check_sums(folder: Path, remedy: str) -> None:
    """Check the files in a folder against its ``SHA256SUMS``.

    Every listed file must exist and have the listed digest, and every file that determines outputs must be listed.
    Raises CheckpointError for the first file for which this is not so. ``remedy`` is the end of the message, which says
    what the user can do.
    """
    try:
        text = (folder / SUMS).read_text()
    except (OSError, UnicodeDecodeError):
        raise CheckpointError(f"{str(folder)!r} has no readable {SUMS} to be checked against: {remedy}") from None
    listed: set[str] = set()
    for line in text.splitlines():
        match = _SUMS_LINE.fullmatch(line)
        if match is None:
            raise CheckpointError(f"{SUMS} in {str(folder)!r} has the unreadable line {line!r}: {remedy}")
        wanted, name = match.groups()
        listed.add(name)
        if not (folder / name).is_file():
            raise CheckpointError(f"{name!r} is listed in {SUMS} but missing from {str(folder)!r}: {remedy}")
        found = file_digest(folder / name)
        if found != wanted:
            raise CheckpointError(
                f"{name!r} in {str(folder)!r} is not the file that was recorded"
                f" (SHA-256 {found[:12]}, {SUMS} says {wanted[:12]}): {remedy}"
            )
    for path in content_files(folder):
        if path.name not in listed:
            raise CheckpointError(f"{path.name!r} in {str(folder)!r} is not listed in {SUMS}: {remedy}")


@lru_cache(maxsize=1024)
def _digest_of_small(path: Path, size: int, modified: int, inode: int) -> str:  # noqa: ARG001 - parts of the cache key
    """Return the digest of a file. It is computed once per process, since every test of a run needs it."""
    return hash_file(path)


def _recall(note: Path) -> str | None:
    try:
        text = note.read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch(r"[0-9a-f]{64}", text) else None


def _remember(note: Path, digest: str) -> None:
    """Store a digest in the cache folder. If the folder is not writable, do nothing: the next process hashes again."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f"{note.name}.{os.getpid()}")
        draft.write_text(digest)
        os.replace(draft, note)
    except OSError:
        pass
