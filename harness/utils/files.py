"""Read and write files that users name.

Files are written so that they never have incomplete content, not even if the disk is full or the process is killed.
Named pipes are neither read nor written, because that would wait for another process, and perhaps forever. Pipes that
are already open are allowed: ``/dev/stdin``, and ``/dev/fd/63``, which bash writes in place of ``<(command)``.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

NOT_REGULAR = "not a regular file"


def read_ordinary(path: Path, size: int = -1) -> bytes:
    """Return the first ``size`` bytes of a regular file, by default all.

    Raises OSError for missing files, pipes and devices.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(NOT_REGULAR)
        return file.read(size)


def read_open(path: Path) -> bytes:
    """Return the content of a regular file, or of a pipe that is already open. Raises OSError for other files."""
    if not _is_open(path):
        return read_ordinary(path)
    with path.open("rb") as file:
        if stat.S_ISCHR(mode := os.fstat(file.fileno()).st_mode) or stat.S_ISBLK(mode):
            raise OSError(NOT_REGULAR)
        return file.read()


def refuse_named_pipe(path: Path) -> None:
    """Raise OSError if ``path`` is a pipe or a socket that has to be opened first. Missing files are allowed."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # The caller writes the file, and reports what is wrong.
    if (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and not _is_open(path):
        raise OSError(NOT_REGULAR)


def _is_open(path: Path) -> bool:
    """Return whether ``path`` names a file that is already open, in this process or in another one."""
    return os.path.abspath(path).startswith(("/dev/fd/", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/proc/"))


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a named pipe would block until another process opens it for writing.
    return os.open(path, flags | os.O_NONBLOCK)


def write_whole(path: Path, content: bytes) -> None:
    """Write a temporary file and rename it to ``path``, so that ``path`` has either its old content or the new one.

    If ``path`` is a symbolic link, the file to which the link points is replaced. ``path`` is written directly, without
    a temporary file, if it is not a regular file, for example ``/dev/stdout``, or if its folder is not writable. Raises
    OSError if the file can't be written, or if it is a named pipe.
    """
    refuse_named_pipe(path)
    target = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():  # The real path of an open pipe, pipe:[123], does not exist.
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
