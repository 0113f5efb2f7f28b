"""Write a file whole: a reader, and a disk that is full, never leave half of it in its place."""

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file next to ``path`` and rename it, so that ``path`` has its old content or all of the new one.

    What is not a regular file (a pipe, ``/dev/stdout``) is written directly, and a link's target is replaced instead of
    the link. Raises OSError.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        path.write_bytes(content)
        return
    draft = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    if not os.access(target.parent, os.W_OK):  # a file may be writable where its folder is not
        path.write_bytes(content)
        return
    try:
        draft.write_bytes(content)
        if target.exists():
            draft.chmod(target.stat().st_mode)
        os.replace(draft, target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def write_text_whole(path: Path, text: str) -> None:
    """Write text as ``write_whole`` does, in UTF-8. Half of a surrogate pair, which has no encoding, is an escape."""
    write_whole(path, text.encode("utf-8", "backslashreplace"))
