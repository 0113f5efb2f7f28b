"""Write files so that they never have incomplete content, not even if the disk is full or the process is killed."""

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it to ``path``, so that ``path`` has either its old content or the new one.

    If ``path`` is a symbolic link, the file to which the link points is replaced. ``path`` is written directly, without
    a temporary file, if it is not a regular file, for example ``/dev/stdout``, or if its folder is not writable. Raises
    OSError if the file can't be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        path.write_bytes(content)
        return
    draft = target.with_name(f".{target.name[:100]}.{os.getpid()}.part")
    if not os.access(target.parent, os.W_OK):  # A file can be writable although its folder is not.
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
    """Write text in UTF-8, so that ``path`` has either its old content or the new one, but never a part of it.

    A lone surrogate is written as an escape such as ``\\ud83d``.
    """
    write_whole(path, text.encode("utf-8", "backslashreplace"))
