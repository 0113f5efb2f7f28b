"""Set the command line that ``ps`` and ``/proc`` show for a fork, in place of the command line of its parent."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

ARG_START, ARG_END = 45, 46
"""Positions of arg_start and arg_end (fields 48 and 49) in the list of the fields of ``/proc/self/stat`` from 3 on."""


def name_process(words: Sequence[str]) -> None:
    """Set the command line of this process, as ``ps`` shows it, to ``words``.

    If the words are longer than the original command line, they are cut off at its length. On other systems than Linux,
    do nothing.
    """
    if sys.platform != "linux":
        return
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    if end <= start:
        return
    text = b"\0".join(word.encode() for word in words)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


def name_module(module: str) -> None:
    """Set the command line of this process to ``python -m module``."""
    name_process(["python", "-m", module])
